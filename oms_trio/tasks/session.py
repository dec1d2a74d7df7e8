"""Keeps a session with the exchange up, and hands over what it tells.

connect -> log in -> subscribe -> ready -> link up        pushes and answers flow
                                          `-> (64008) -> a second session takes over
lost    -> unanswered requests are unknown, link down -> back-off -> connect

A link that breaks, falls silent, says what cannot be read, or answers no request is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from random import Random

import attrs
import structlog
import trio

from oms_trio.core.inputs import Verdict
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
)
from oms_trio.okx.pending_requests import ANSWER_S, PendingRequest, PendingRequests
from oms_trio.okx.rate_limits import Limiter
from oms_trio.okx.session import Ready, UpgradeAhead
from oms_trio.okx.websocket import OkxConnection, ReceivedEvent
from oms_trio.okx.wire.frames import AccountPush, ErrorEvent, OpResponse, OrdersPush, PositionsPush
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Inbox, hand_over
from oms_trio.service.journaled_inputs import JournaledInput, OwnAnswer

log = structlog.get_logger()

BACK_OFF_FIRST_S = 0.5
BACK_OFF_MOST_S = 30.0
BACK_OFF_DOUBLINGS = 16

LOGIN_TRIES = 5
"""60009 hides wrong credentials as well as passing trouble: worth a few attempts only."""

PROVED_S = 30.0
"""How long a session must have been of use before its end counts as a loss and not as a failed attempt.
Longer than a request is waited for, so that a gateway that hangs, or a subscription that dies behind
its acknowledgement, is met ever later and not at once again."""

CHANGE_OVER_S = 2.0
"""How long the old session may finish its answers when the new one is ready."""


@attrs.frozen
class Exchange:
    """How to reach the exchange: the parts that the composition root chooses."""

    connect: Callable[[], AbstractAsyncContextManager[OkxConnection]]
    prepare: Callable[[], Awaitable[int]]
    """Done before each connect: measures the exchange's clock minus ours, which signs the login."""
    max_retries: int
    random: Random
    connects: Limiter = attrs.Factory(lambda: Limiter(2, 1.0))
    """The exchange takes three new connections a second from one address, and a retry too early
    would count as a failure of its own."""


FAILURES = (SessionError, ProtocolError, RestUnavailableError, RestRejectedError)
"""What ends an attempt and is followed by another, unless it is one of the refused ones."""

REFUSED = (LoginRejectedError, AccessRejectedError)
"""What no attempt can change."""


async def keep_session(exchange: Exchange, line: PendingRequests, inbox: Inbox) -> None:
    """Hold a session for ever; ends only by cancellation or by an error.

    Raises:
        LoginRejectedError, AccessRejectedError: the credentials are refused for good.
        RetriesExhaustedError: ``max_retries`` attempts in a row gave no lasting session.
    """
    failures = 0
    refused = 0
    while True:
        progress = _Progress()
        try:
            await _attempt(exchange, line, inbox, progress)
        except REFUSED:
            raise
        except FAILURES as error:
            why = str(error)
            await _tell_unknown(progress.unanswered, why, inbox)
            if progress.ready_at is not None:
                refused = 0
                await inbox.send(journaled_inputs.session_down(why))
            failures = 0 if progress.proved else failures + 1
            if isinstance(error, LoginFailedError) and error.limited:
                refused += 1
        if failures >= exchange.max_retries:
            raise RetriesExhaustedError(f"no session in {failures} attempts, at last: {why}")
        if refused >= LOGIN_TRIES:
            raise RetriesExhaustedError(f"login failed {refused} times: {why}; check the API key")
        # The exponent is bounded: with enough retries allowed a long outage would overflow it.
        doublings = min(max(failures - 1, 0), BACK_OFF_DOUBLINGS)
        pause = min(BACK_OFF_MOST_S, BACK_OFF_FIRST_S * 2**doublings)
        pause *= exchange.random.uniform(0.5, 1.0)
        log.warning("okx_session_lost", why=why, failures=failures, retry_in_s=round(pause, 2))
        await trio.sleep(pause)


@attrs.define
class _Progress:
    """What an attempt came to: since when a session was up, and what its end left unanswered."""

    ready_at: float | None = None
    unanswered: list[PendingRequest] = attrs.Factory(list)

    @property
    def proved(self) -> bool:
        """Whether it has been of use for long enough to be no failure."""
        return self.ready_at is not None and trio.current_time() >= self.ready_at + PROVED_S


async def _attempt(
    exchange: Exchange, line: PendingRequests, inbox: Inbox, progress: _Progress
) -> None:
    """Hold sessions, one taking over from the other, until one is lost.

    Raises:
        SessionError, ProtocolError, RestUnavailableError, RestRejectedError: why there is no session any
            more.
    """
    try:
        offset_ns = await exchange.prepare()
        async with trio.open_nursery() as nursery:
            relay = _Relay(exchange, line, inbox, progress, nursery)
            nursery.start_soon(relay.sweep)
            await relay.run(offset_ns, predecessor=None)
    except BaseExceptionGroup as group:
        ends, others = group.split(FAILURES)
        if others is not None:
            # Cancelled in the moment of a loss: then the loss is not what ends us.
            raise others from None
        assert ends is not None
        raise _first(ends) from None


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


@attrs.define
class _Tenure:
    """One session's time: it can be told to leave, and says when it has left."""

    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    left: trio.Event = attrs.Factory(trio.Event)
    followed: bool = False


@attrs.define
class _Relay:
    """A chain of sessions, each ready before the one before it leaves."""

    exchange: Exchange
    line: PendingRequests
    inbox: Inbox
    progress: _Progress
    nursery: trio.Nursery

    async def run(self, offset_ns: int, predecessor: _Tenure | None) -> None:
        """Hold one session until it is lost or its successor is ready."""
        tenure = _Tenure()
        held: OkxConnection | None = None
        try:
            with tenure.scope:
                await self.exchange.connects.acquire()
                async with self.exchange.connect() as held:
                    await self._listen(held, offset_ns, tenure, predecessor)
        finally:
            if held is not None:
                self.progress.unanswered += self.line.lost(held)
            tenure.left.set()
        unanswered, self.progress.unanswered = self.progress.unanswered, []
        await _tell_unknown(unanswered, "the session was replaced before the answer", self.inbox)

    async def _listen(
        self, link: OkxConnection, offset_ns: int, tenure: _Tenure, predecessor: _Tenure | None
    ) -> None:
        # What comes before the session counts as up waits here, for at most the handshake's time.
        early: list[JournaledInput] | None = []
        async for heard in link:
            match heard.event:
                case Ready(conn_id=conn_id):
                    await self._take_over(link, predecessor)
                    log.info("okx_session_ready", conn_id=conn_id)
                    await self.inbox.send(journaled_inputs.session_up(offset_ns))
                    for arrival in early or ():
                        await self.inbox.send(arrival)
                    early = None
                case UpgradeAhead(msg=msg) if not tenure.followed:
                    tenure.followed = True
                    log.info("okx_upgrade_ahead", msg=msg)
                    self.nursery.start_soon(self._succeed, tenure)
                case _:
                    told = self._arrival(heard)
                    if told is not None and early is not None:
                        early.append(told)
                    elif told is not None:
                        await hand_over(self.inbox, told)

    async def _take_over(self, link: OkxConnection, predecessor: _Tenure | None) -> None:
        """Become the link that requests go out on; the old one finishes what it has begun."""
        old, self.line.connection = self.line.connection, link
        if self.progress.ready_at is None:
            self.progress.ready_at = trio.current_time()
        if predecessor is None:
            return
        with trio.move_on_after(CHANGE_OVER_S):
            while old is not None and self.line.waiting(old):  # noqa: ASYNC110 - rare, no event
                await trio.sleep(0.01)
        predecessor.scope.cancel()
        await predecessor.left.wait()

    async def _succeed(self, tenure: _Tenure) -> None:
        """Open the session that follows; while the old one lives a failure is only tried again."""
        pause = BACK_OFF_FIRST_S
        while not tenure.left.is_set():
            try:
                offset_ns = await self.exchange.prepare()
                await self.run(offset_ns, predecessor=tenure)
            except REFUSED:
                raise
            except FAILURES as error:
                if tenure.left.is_set():
                    raise
                log.warning("okx_change_over_failed", why=str(error), retry_in_s=pause)
                await trio.sleep(pause)
                pause = min(BACK_OFF_MOST_S, pause * 2)

    def _arrival(self, heard: ReceivedEvent) -> JournaledInput | None:
        event = heard.event
        match event:
            case OrdersPush() | PositionsPush() | AccountPush():
                return journaled_inputs.push(heard.text, event)
            case OpResponse() | ErrorEvent():
                request = self.line.answered(event)
                if request is None:
                    log.warning("okx_answer_unexpected", id=event.id, code=event.code)
                    return None
                build = (
                    journaled_inputs.cancel_answer
                    if request.cancel
                    else journaled_inputs.order_answer
                )
                return build(heard.text, event, request.names)
            case _:
                return None

    async def sweep(self) -> None:
        """Declare requests unknown whose answer does not come; runs until cancelled.

        Raises:
            SessionLostError: the link answers no request any more.
        """
        while True:
            await self.line.wait_overdue()
            overdue = self.line.overdue()
            hangs = self.line.hangs(overdue)
            await _tell_unknown(overdue, "no answer in time", self.inbox)
            if hangs:
                raise SessionLostError(f"no answer to {len(overdue)} requests in {ANSWER_S:.0f} s")


async def _tell_unknown(requests: list[PendingRequest], why: str, inbox: Inbox) -> None:
    for request in requests:
        answer = OwnAnswer(request.names, request.cancel, Verdict.UNKNOWN, why)
        await inbox.send(journaled_inputs.own_answer(answer))
