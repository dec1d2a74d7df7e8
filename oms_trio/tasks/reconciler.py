"""Asks the exchange by REST what the trading state wants to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar, assert_never

import attrs
import structlog
import trio

from oms_trio.core.effects import LookUpOrder, RequestFills, RequestListing, RequestSnapshot
from oms_trio.core.model import Rules
from oms_trio.okx.errors import (
    AccessRejectedError,
    AccountSetupError,
    InstrumentNotTradableError,
    RestRejectedError,
    RestUnavailableError,
)
from oms_trio.okx.rest import Rest
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Inbox, Question
from oms_trio.service.journaled_inputs import DecodeContext, JournaledInput

log = structlog.get_logger()

ANSWER_S = 10.0
"""How long one request is waited for. A snapshot is some ten of them, more when there are pages to
read: each is asked again by itself, so that whatever was answered stays answered."""

SET_UP_S = 4 * ANSWER_S
"""The account's set-up is four requests, each of which rests on the one before."""

PAUSE_FIRST_S = 0.25
PAUSE_MOST_S = 5.0

LOOK_UPS = 12
"""Look-ups on their way at once: at a round trip of 300 ms as many as the exchange's rate limit lets
through. Hundreds at once would hold up the connections that a snapshot and the operator need."""

_T = TypeVar("_T")


def anybody(_uid: str) -> None:
    """Take any account."""


@attrs.define
class Reconciler:
    """Carries out questions; the newest request for a snapshot or a listing replaces an older one.

    ``account_seen`` is called with the account's number (``uid``) before anything else of the account
    is used; what it raises ends the task.
    """

    rest: Rest
    inbox: Inbox
    scope: DecodeContext
    rules: Rules
    account_seen: Callable[[str], object] = anybody
    _seen: bool = attrs.field(default=False, init=False)
    _look_ups: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(LOOK_UPS), init=False
    )

    async def snapshot(self, request: RequestSnapshot) -> JournaledInput:
        """Ask for the exchange's whole state, and set the account up when the link is new."""
        if request.anew or not self._seen:
            await self._know_account(set_up=request.anew)
        bodies = await self.rest.snapshot_bodies(
            request, tag=self.scope.tag, retry=self.until_answered
        )
        return journaled_inputs.snapshot(bodies, self.scope)

    async def listing(self, request: RequestListing) -> JournaledInput:
        """Ask what the exchange lists; for that no session is needed."""
        if not self._seen:
            await self._know_account(set_up=False)
        bodies = await self.rest.listing_bodies(
            request, tag=self.scope.tag, retry=self.until_answered
        )
        return journaled_inputs.listing(bodies, self.scope)

    async def fills(self, request: RequestFills) -> JournaledInput:
        """Ask for the fills of one order."""

        async def ask() -> JournaledInput:
            return journaled_inputs.fills(await self.rest.fills_bodies(request.ord_id), self.scope)

        return await self.until_answered("fills", ask)

    async def lookup(self, request: LookUpOrder) -> JournaledInput:
        """Ask for one order."""

        async def ask() -> JournaledInput:
            return journaled_inputs.lookup(
                await self.rest.lookup_body(request.cl_ord_id), self.scope
            )

        return await self.until_answered("lookup", ask, self._look_ups)

    async def answer(self, question: Question, scope: trio.CancelScope) -> None:
        """Ask until there is an answer: no answer never means "nothing there"."""
        with scope:
            match question:
                case RequestSnapshot():
                    arrival = await self.snapshot(question)
                case RequestListing():
                    arrival = await self.listing(question)
                case RequestFills():
                    arrival = await self.fills(question)
                case LookUpOrder():
                    arrival = await self.lookup(question)
                case _:
                    assert_never(question)
            await self.inbox.send(arrival)

    async def until_answered(
        self,
        what: str,
        ask: Callable[[], Awaitable[_T]],
        turns: trio.CapacityLimiter | None = None,
        patience_s: float = ANSWER_S,
    ) -> _T:
        """Ask, and ask again after a pause, until there is an answer or the key is refused.

        With ``turns`` each try waits for its own, and none is held during the pauses.
        """
        pause = PAUSE_FIRST_S
        while True:
            try:
                async with turns or nullcontext():
                    with trio.fail_after(patience_s):
                        return await ask()
            except (AccessRejectedError, AccountSetupError):
                raise
            except (
                RestUnavailableError,
                RestRejectedError,
                InstrumentNotTradableError,
                trio.TooSlowError,
            ) as error:
                why = str(error) or f"no answer in {patience_s:.0f} s"
                log.warning("okx_query_failed", what=what, why=why, retry_in_s=pause)
            await trio.sleep(pause)
            pause = min(PAUSE_MOST_S, pause * 2)

    async def _know_account(self, *, set_up: bool) -> None:
        async def ask() -> None:
            if set_up:
                await ensure_account(self.rest, self.rules, self.account_seen)
            else:
                self.account_seen((await self.rest.account_config()).uid)
            self._seen = True

        await self.until_answered("account", ask, patience_s=SET_UP_S)


async def reconcile(questions: trio.MemoryReceiveChannel[Question], reconciler: Reconciler) -> None:
    """Answer questions side by side; there are at most as many as open orders.

    A question that is already being asked is not asked a second time. The trading state repeats
    itself every second, which in a burst is more than the exchange's limit lets through: repeats
    would pile up before it until every one of them came too late.

    Ends when the channel is closed and all are answered.

    Raises:
        AccessRejectedError: the key is refused for good.
        AccountSetupError: the account cannot be set up as our orders need it.
        Whatever ``account_seen`` raises.
    """
    newest: dict[type[Question], trio.CancelScope] = {}
    asking: set[Question] = set()

    async def ask(question: Question, scope: trio.CancelScope) -> None:
        await reconciler.answer(question, scope)
        asking.discard(question)

    with questions:
        async with trio.open_nursery() as nursery:
            async for question in questions:
                if question in asking:
                    continue
                asking.add(question)
                scope = trio.CancelScope()
                if isinstance(question, RequestSnapshot | RequestListing):
                    if (older := newest.get(type(question))) is not None:
                        older.cancel()
                    newest[type(question)] = scope
                nursery.start_soon(ask, question, scope)


async def ensure_account(
    rest: Rest, rules: Rules, account_seen: Callable[[str], object] = anybody
) -> None:
    """Check that the account can trade as we do; set net mode and leverage where they differ.

    ``account_seen`` is called with the account's ``uid`` before anything else.

    Raises:
        AccountSetupError: saying what a person must change.
        Whatever ``account_seen`` raises.
    """
    config = await rest.account_config()
    account_seen(config.uid)
    if not config.may_trade:
        raise AccountSetupError(
            f"the API key or account cannot trade swaps (permissions {sorted(config.perm)}, "
            f"account level {config.acct_lv}): give the key 'trade', use futures mode"
        )
    try:
        if not config.net_mode:
            await rest.set_position_mode()
            log.info("okx_position_mode_set", pos_mode="net_mode")
        if await rest.leverage() != rules.leverage:
            await rest.set_leverage(rules.leverage)
            log.info("okx_leverage_set", lever=str(rules.leverage))
    except AccessRejectedError:
        raise
    except RestRejectedError as error:
        raise AccountSetupError(
            f"net mode and leverage {rules.leverage} could not be set ({error}): close what is "
            "open on the account, or set them by hand"
        ) from error
