"""The link that requests go out on now, and the requests that nothing was heard of yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio

from oms_trio.core.model import ClOrdId
from oms_trio.okx.websocket import OkxConnection
from oms_trio.okx.wire.frames import ErrorEvent, OpResponse

ANSWER_S = 10.0
"""An answer takes milliseconds; one that takes this long leaves its request unknown."""


@attrs.frozen
class Request:
    """Orders to place or to cancel, on their way by one link until ``deadline``.

    Requests are numbered in the order in which they were sent.
    """

    names: tuple[ClOrdId, ...]
    cancel: bool
    link: OkxConnection
    deadline: float
    number: int = 0


@attrs.define
class PendingRequests:
    """What the senders and the receiver of a session share. One thread, no await: no lock.

    Every request is taken out exactly once: by its answer, by the end of its link, or by its
    deadline. Whoever takes it out tells the trading state.
    """

    link: OkxConnection | None = None
    _requests: dict[str, Request] = attrs.Factory(dict)
    _count: int = 0
    _newest_answered: int = 0
    _asked: trio.Event = attrs.Factory(trio.Event)

    def expect(self, link: OkxConnection, names: Sequence[ClOrdId], *, cancel: bool) -> str:
        """Note a request before it is sent, since its answer may come at once; returns its id."""
        self._count += 1
        request_id = f"r{self._count}"
        deadline = trio.current_time() + ANSWER_S
        self._requests[request_id] = Request(tuple(names), cancel, link, deadline, self._count)
        self._asked.set()
        return request_id

    def answered(self, frame: OpResponse | ErrorEvent) -> Request | None:
        """Take out the request that a frame answers; None when it is not (any more) waited for."""
        request = self._requests.pop(frame.id, None)
        if request is not None:
            self._newest_answered = max(self._newest_answered, request.number)
        return request

    def waiting(self, link: OkxConnection) -> bool:
        """Whether a request of this link is unanswered."""
        return any(request.link is link for request in self._requests.values())

    def lost(self, link: OkxConnection) -> list[Request]:
        """Take out the requests of a link that is over, and stop using it."""
        if self.link is link:
            self.link = None
        return self._take(lambda request: request.link is link)

    async def wait_overdue(self) -> None:
        """Wait until a request may have waited for too long."""
        while not self._requests:
            if self._asked.is_set():
                self._asked = trio.Event()
            await self._asked.wait()
        # All wait equally long, so the first is the next.
        await trio.sleep_until(next(iter(self._requests.values())).deadline)

    def overdue(self) -> list[Request]:
        """Take out the requests whose answer did not come in time."""
        now = trio.current_time()
        return self._take(lambda request: request.deadline <= now)

    def hangs(self, overdue: Sequence[Request]) -> bool:
        """Whether the link takes requests and answers none: of these, nor of any sent after them.

        One answer may be lost, and a later one shows that requests are answered all the same. A
        link that pushes flow on, and that no request is answered on, looks alive and is of no use.
        """
        return any(
            request.link is self.link and request.number > self._newest_answered
            for request in overdue
        )

    def _take(self, wanted: Callable[[Request], bool]) -> list[Request]:
        taken = [name for name, request in self._requests.items() if wanted(request)]
        return [self._requests.pop(name) for name in taken]
