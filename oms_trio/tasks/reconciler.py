"""Asks the exchange by REST what the trading state wants to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import structlog
import trio

from oms_trio import records
from oms_trio.channels import Inbox, Question
from oms_trio.core.effects import LookUpOrder, RequestFills, RequestListing, RequestSnapshot
from oms_trio.core.model import Rules
from oms_trio.okx.errors import (
    AccountUnfitError,
    InstrumentUnfitError,
    RestError,
    RestRefusedError,
    RestUnavailableError,
)
from oms_trio.okx.rest import Rest
from oms_trio.records import Arrival, Scope

log = structlog.get_logger()

ANSWER_S = 30.0
"""A snapshot is some ten requests, more when there are pages to read."""

PAUSE_FIRST_S = 0.25
PAUSE_MOST_S = 5.0


def unchecked(_uid: str) -> None:
    """Take any account."""


@attrs.frozen
class Reconciler:
    """Carries out questions; the newest request for a snapshot replaces an older one.

    ``account_seen`` is called with the account's ``uid`` before anything of the account is used,
    and raises what ends the service when it is the wrong one.
    """

    rest: Rest
    inbox: Inbox
    scope: Scope
    rules: Rules
    account_seen: Callable[[str], None] = unchecked

    async def snapshot(self, request: RequestSnapshot) -> Arrival:
        """Ask for the exchange's whole state, and set the account up when the link is new."""
        if request.anew:
            await ensure_account(self.rest, self.rules, self.account_seen)
        return records.snapshot(await self.rest.snapshot_bodies(request), self.scope)

    async def fills(self, request: RequestFills) -> Arrival:
        """Ask for the fills of one order."""
        return records.fills(await self.rest.fills_bodies(request.ord_id), self.scope)

    async def lookup(self, request: LookUpOrder) -> Arrival:
        """Ask for one order."""
        return records.lookup(await self.rest.lookup_body(request.cl_ord_id), self.scope)

    async def answer(self, question: Question, scope: trio.CancelScope) -> None:
        """Ask until there is an answer: no answer never means "nothing there"."""
        with scope:
            match question:
                case RequestSnapshot():
                    await self._until_answered(lambda: self.snapshot(question), "snapshot")
                case RequestListing():
                    pass
                case RequestFills():
                    await self._until_answered(lambda: self.fills(question), "fills")
                case LookUpOrder():
                    await self._until_answered(lambda: self.lookup(question), "lookup")

    async def _until_answered(self, ask: Callable[[], Awaitable[Arrival]], what: str) -> None:
        pause = PAUSE_FIRST_S
        while True:
            try:
                with trio.fail_after(ANSWER_S):
                    arrival = await ask()
            except (RestRefusedError, AccountUnfitError):
                raise
            except (
                RestUnavailableError,
                RestError,
                InstrumentUnfitError,
                trio.TooSlowError,
            ) as error:
                why = str(error) or f"no answer in {ANSWER_S:.0f} s"
                log.warning("okx_query_failed", what=what, why=why, retry_in_s=pause)
            else:
                await self.inbox.send(arrival)
                return
            await trio.sleep(pause)
            pause = min(PAUSE_MOST_S, pause * 2)


async def reconcile(questions: trio.MemoryReceiveChannel[Question], reconciler: Reconciler) -> None:
    """Answer questions side by side; there are at most as many as open orders.

    A question that is already being asked is not asked a second time. The trading state repeats
    itself every second, which in a burst is more than the exchange's limit lets through: repeats
    would pile up before it until every one of them came too late.

    Ends when the channel is closed and all are answered.

    Raises:
        RestRefusedError: the key is refused for good.
        AccountUnfitError: the account cannot be set up as our orders need it.
    """
    latest = trio.CancelScope()
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
                if isinstance(question, RequestSnapshot):
                    latest.cancel()
                    latest = scope
                nursery.start_soon(ask, question, scope)


async def ensure_account(rest: Rest, rules: Rules, account_seen: Callable[[str], None]) -> None:
    """Check that the account can trade as we do; set net mode and leverage where they differ.

    What ``account_seen`` raises for its ``uid`` comes before any change.

    Raises:
        AccountUnfitError: saying what a person must change.
    """
    config = await rest.account_config()
    account_seen(config.uid)
    if not config.may_trade:
        raise AccountUnfitError(
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
    except RestRefusedError:
        raise
    except RestError as error:
        raise AccountUnfitError(
            f"net mode and leverage {rules.leverage} could not be set ({error}): close what is "
            "open on the account, or set them by hand"
        ) from error
