"""The connection that requests are sent on, and the requests that are not answered yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio

from oms_trio.core.model import ClOrdId
from oms_trio.okx.websocket import OkxConnection
from oms_trio.okx.wire.frames import ErrorEvent, OpResponse

ANSWER_S = 10.0
"""Answers take milliseconds. After this time without one, the outcome of a request is unknown."""


@attrs.frozen
class PendingRequest:
    """A request to place or to cancel orders, sent on one connection and to be answered by ``deadline``.

    Requests are numbered in the order in which they were sent.
    """

    names: tuple[ClOrdId, ...]
    cancel: bool
    connection: OkxConnection
    deadline: float
    number: int = 0


@attrs.define
class PendingRequests:
    """State shared by the senders and the receiver of a session, without any await: it needs no lock.

    Every request is removed exactly once: by its answer, by the end of its connection, or by its
    deadline. The task that removes it reports its outcome to the trading state.
    """

    connection: OkxConnection | None = None
    _requests: dict[str, PendingRequest] = attrs.Factory(dict)
    _count: int = 0
    _newest_answered: int = 0
    _added: trio.Event = attrs.Factory(trio.Event)

    def expect(self, connection: OkxConnection, names: Sequence[ClOrdId], *, cancel: bool) -> str:
        """Add a request before it is sent, since its answer may come at once; returns its id."""
        self._count += 1
        request_id = f"r{self._count}"
        deadline = trio.current_time() + ANSWER_S
        self._requests[request_id] = PendingRequest(
            tuple(names), cancel, connection, deadline, self._count
        )
        self._added.set()
        return request_id

    def answered(self, frame: OpResponse | ErrorEvent) -> PendingRequest | None:
        """Remove the request that a frame answers; None when no such request is pending (any more)."""
        request = self._requests.pop(frame.id, None)
        if request is not None:
            self._newest_answered = max(self._newest_answered, request.number)
        return request

    def waiting(self, connection: OkxConnection) -> bool:
        """Whether a request sent on this connection is unanswered."""
        return any(request.connection is connection for request in self._requests.values())

    def lost(self, connection: OkxConnection) -> list[PendingRequest]:
        """Remove the requests of a connection that has ended, and stop sending on it."""
        if self.connection is connection:
            self.connection = None
        return self._remove(lambda request: request.connection is connection)

    async def wait_overdue(self) -> None:
        """Wait until a request may be overdue."""
        while not self._requests:
            if self._added.is_set():
                self._added = trio.Event()
            await self._added.wait()
        # All have the same time to be answered, so the oldest is overdue first.
        await trio.sleep_until(next(iter(self._requests.values())).deadline)

    def overdue(self) -> list[PendingRequest]:
        """Remove the requests that were not answered in time."""
        now = trio.current_time()
        return self._remove(lambda request: request.deadline <= now)

    def hangs(self, overdue: Sequence[PendingRequest]) -> bool:
        """Whether the connection accepts requests and answers none, up to the newest one.

        A single answer may get lost, and the answer to a later request shows that requests are
        still answered. A connection that delivers pushes and answers no request looks alive and is
        useless.
        """
        return any(
            request.connection is self.connection and request.number > self._newest_answered
            for request in overdue
        )

    def _remove(self, wanted: Callable[[PendingRequest], bool]) -> list[PendingRequest]:
        ids = [name for name, request in self._requests.items() if wanted(request)]
        return [self._requests.pop(name) for name in ids]
