"""Keeps a session with the exchange up, and passes on what it receives.

connect -> log in -> subscribe -> ready -> session up     pushes and answers flow
                                          `-> (64008) -> a second session takes over
lost    -> unanswered requests are unknown, session down -> back-off -> connect

A connection that breaks, falls silent, sends what cannot be read, or answers no request is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from random import Random

import attrs
import structlog
import trio

from oms_trio.core.events import Verdict
from oms_trio.okx.errors import (
    AccessRejectedError,
    LoginFailedError,
    LoginRejectedError,
    ProtocolError,
    RestRejectedError,
    RestUnavailableError,
    RetriesExhaustedError,
    SessionError,
    SessionLostError,
    SubscriptionDeadError,
)
from oms_trio.okx.pending_requests import ANSWER_S, PendingRequest, PendingRequests
from oms_trio.okx.rate_limits import Limiter
from oms_trio.okx.session import Ready, UpgradeAhead
from oms_trio.okx.websocket import OkxConnection, ReceivedEvent
from oms_trio.okx.wire.frames import AccountPush, ErrorEvent, OpResponse, OrdersPush, PositionsPush
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Inbox, deliver
from oms_trio.service.journaled_inputs import JournaledInput, OwnAnswer

log = structlog.get_logger()

BACK_OFF_FIRST_S = 0.5
BACK_OFF_MOST_S = 30.0
BACK_OFF_DOUBLINGS = 16

LOGIN_TRIES = 5
"""60009 means wrong credentials or passing trouble: before the first session, worth a few attempts only.
Credentials that have logged in once are not wrong."""

PROVED_S = 30.0
"""How long a session must have been of use for the pause after it to be the first one again. Longer than
a request is waited for, so that pauses grow before a gateway that hangs, or a subscription that dies
after its acknowledgement. How many attempts are left is another matter: see ``keep_session``."""

HANDOVER_S = 2.0
"""How long the old session may finish its answers when the new one is ready."""


CONNECTS, CONNECTS_PERIOD_S = 2, 1.0
"""The exchange accepts three new connections a second from one address, and a retry too early
would count as a failure of its own."""

FAILURES = (SessionError, ProtocolError, RestUnavailableError, RestRejectedError)
"""What ends an attempt and is followed by another, unless it is one of ``FINAL``."""

FINAL = (LoginRejectedError, AccessRejectedError)
"""What no further attempt can change."""


async def keep_session(
    *,
    connect: Callable[[], AbstractAsyncContextManager[OkxConnection]],
    measure_offset: Callable[[], Awaitable[int]],
    requests: PendingRequests,
    inbox: Inbox,
    max_retries: int,
    random: Random,
) -> None:
    """Hold a session; ends only by cancellation or by an error.

    ``measure_offset`` is called before each ``connect`` and returns the exchange's clock minus ours,
    which signs the login. ``random`` spreads the pauses between attempts.

    An attempt that has logged in and subscribed has not failed, however short its session was, unless
    a subscription was dead. Short sessions only make the pauses longer, as failed attempts do.

    Raises:
        LoginRejectedError, AccessRejectedError: the credentials are rejected for good.
        RetriesExhaustedError: ``max_retries`` attempts in a row gave no session.
    """
    connects = Limiter(CONNECTS, CONNECTS_PERIOD_S)
    failures = 0
    unproved = 0
    failed_logins = 0
    has_logged_in = False
    while True:
        attempt = _Attempt(connect, measure_offset, connects, requests, inbox)
        try:
            await attempt.run()
        except FINAL:
            raise
        except FAILURES as error:
            why = str(error)
            await _send_unknown(attempt.unanswered, why, inbox)
            if attempt.ready_at is not None:
                has_logged_in = True
                await inbox.send(journaled_inputs.session_down(why))
            had_one = attempt.ready_at is not None and not isinstance(error, SubscriptionDeadError)
            failures = 0 if had_one else failures + 1
            unproved = 0 if attempt.proved else unproved + 1
            if isinstance(error, LoginFailedError) and error.limited and not has_logged_in:
                failed_logins += 1
        if failures >= max_retries:
            raise RetriesExhaustedError(f"no session in {failures} attempts, at last: {why}")
        if failed_logins >= LOGIN_TRIES:
            raise RetriesExhaustedError(
                f"login failed {failed_logins} times: {why}; check the API key"
            )
        # The exponent is bounded: with enough retries allowed a long outage would overflow it.
        doublings = min(max(unproved - 1, 0), BACK_OFF_DOUBLINGS)
        pause = min(BACK_OFF_MOST_S, BACK_OFF_FIRST_S * 2**doublings)
        pause *= random.uniform(0.5, 1.0)
        log.warning("okx_session_lost", why=why, failures=failures, retry_in_s=round(pause, 2))
        await trio.sleep(pause)


@attrs.define
class _SessionSlot:
    """The time of one session: its scope, whether a successor is on its way, and its end."""

    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    ended: trio.Event = attrs.Factory(trio.Event)
    has_successor: bool = False


@attrs.define
class _Attempt:
    """One attempt: a session and those that take over from it, each ready before the last one ends."""

    connect: Callable[[], AbstractAsyncContextManager[OkxConnection]]
    measure_offset: Callable[[], Awaitable[int]]
    connects: Limiter
    requests: PendingRequests
    inbox: Inbox
    ready_at: float | None = None
    """Since when a session is up."""
    unanswered: list[PendingRequest] = attrs.Factory(list)
    """Requests that the end of the attempt has left without an answer."""

    @property
    def proved(self) -> bool:
        """Whether it has been of use for long enough to be followed by another at once."""
        return self.ready_at is not None and trio.current_time() >= self.ready_at + PROVED_S

    async def run(self) -> None:
        """Hold sessions until one is lost.

        Raises:
            SessionError, ProtocolError, RestUnavailableError, RestRejectedError: why there is no session
                any more.
        """
        try:
            offset_ns = await self.measure_offset()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._expire_requests)
                await self._hold(offset_ns, nursery, predecessor=None)
        except BaseExceptionGroup as group:
            ends, others = group.split(FAILURES)
            if others is not None:
                # Cancelled in the moment of a loss: then the loss is not what ends us.
                raise others from None
            assert ends is not None
            raise _first(ends) from None

    async def _hold(
        self, offset_ns: int, nursery: trio.Nursery, predecessor: _SessionSlot | None
    ) -> None:
        """Hold one session until it is lost or its successor is ready."""
        slot = _SessionSlot()
        connection: OkxConnection | None = None
        try:
            with slot.scope:
                await self.connects.acquire()
                async with self.connect() as connection:
                    await self._receive(connection, offset_ns, nursery, slot, predecessor)
        finally:
            if connection is not None:
                self.unanswered += self.requests.lost(connection)
            slot.ended.set()
        unanswered, self.unanswered = self.unanswered, []
        await _send_unknown(unanswered, "the session was replaced before the answer", self.inbox)

    async def _receive(
        self,
        connection: OkxConnection,
        offset_ns: int,
        nursery: trio.Nursery,
        slot: _SessionSlot,
        predecessor: _SessionSlot | None,
    ) -> None:
        # What comes before the session counts as up waits here, for at most the handshake's time.
        early: list[JournaledInput] | None = []
        async for received in connection:
            match received.event:
                case Ready(conn_id=conn_id):
                    await self._take_over(connection, predecessor)
                    log.info("okx_session_ready", conn_id=conn_id)
                    await self.inbox.send(journaled_inputs.session_up(offset_ns))
                    for journaled in early or ():
                        await self.inbox.send(journaled)
                    early = None
                case UpgradeAhead(msg=msg) if not slot.has_successor:
                    slot.has_successor = True
                    log.info("okx_upgrade_announced", msg=msg)
                    nursery.start_soon(self._hand_over, nursery, slot)
                case _:
                    decoded = self._decode(received)
                    if decoded is not None and early is not None:
                        early.append(decoded)
                    elif decoded is not None:
                        await deliver(self.inbox, decoded)

    async def _take_over(self, connection: OkxConnection, predecessor: _SessionSlot | None) -> None:
        """Become the connection that requests go out on; the old one finishes its answers."""
        old, self.requests.connection = self.requests.connection, connection
        if self.ready_at is None:
            self.ready_at = trio.current_time()
        if predecessor is None:
            return
        with trio.move_on_after(HANDOVER_S):
            while old is not None and self.requests.waiting(old):  # noqa: ASYNC110 - rare, no event
                await trio.sleep(0.01)
        predecessor.scope.cancel()
        await predecessor.ended.wait()

    async def _hand_over(self, nursery: trio.Nursery, slot: _SessionSlot) -> None:
        """Open a slot's successor; while the slot's session is up a failure is only tried again."""
        pause = BACK_OFF_FIRST_S
        while not slot.ended.is_set():
            try:
                offset_ns = await self.measure_offset()
                await self._hold(offset_ns, nursery, predecessor=slot)
            except FINAL:
                raise
            except FAILURES as error:
                if slot.ended.is_set():
                    raise
                log.warning("okx_handover_failed", why=str(error), retry_in_s=pause)
                await trio.sleep(pause)
                pause = min(BACK_OFF_MOST_S, pause * 2)

    def _decode(self, received: ReceivedEvent) -> JournaledInput | None:
        match received.event:
            case OrdersPush() | PositionsPush() | AccountPush() as push:
                return journaled_inputs.push(received.text, push)
            case OpResponse() | ErrorEvent() as answer:
                request = self.requests.answered(answer)
                if request is None:
                    log.warning("okx_answer_unexpected", id=answer.id, code=answer.code)
                    return None
                if request.cancel:
                    return journaled_inputs.cancel_answer(received.text, answer, request.names)
                return journaled_inputs.order_answer(received.text, answer, request.names)
            case _:
                return None

    async def _expire_requests(self) -> None:
        """Declare requests unknown whose answer does not come; runs until cancelled.

        Raises:
            SessionLostError: the connection does not answer requests any more.
        """
        while True:
            await self.requests.wait_overdue()
            overdue = self.requests.overdue()
            hangs = self.requests.hangs(overdue)
            await _send_unknown(overdue, "no answer in time", self.inbox)
            if hangs:
                raise SessionLostError(f"no answer to {len(overdue)} requests in {ANSWER_S:.0f} s")


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _send_unknown(requests: list[PendingRequest], why: str, inbox: Inbox) -> None:
    for request in requests:
        answer = OwnAnswer(request.names, request.cancel, Verdict.UNKNOWN, why)
        await inbox.send(journaled_inputs.own_answer(answer))
