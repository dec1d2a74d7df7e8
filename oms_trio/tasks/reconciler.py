"""Carries out the trading state's queries to the exchange by REST."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from decimal import Decimal
from functools import partial
from typing import TypeVar, assert_never

import attrs
import structlog
import trio

from oms_trio.core.effects import LookUpOrder, RequestFills, RequestListing, RequestSnapshot
from oms_trio.core.model import Instrument, Rules
from oms_trio.core.sizing import steps_up
from oms_trio.okx.errors import (
    AccessRejectedError,
    AccountSetupError,
    InstrumentNotTradableError,
    RestRejectedError,
    RestRowUnreadableError,
    RestUnavailableError,
    StepMismatchError,
)
from oms_trio.okx.rest import Rest
from oms_trio.okx.wire.bodies import instrument
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Inbox, Query
from oms_trio.service.intake_gate import ROW, Gate
from oms_trio.service.journaled_inputs import DecodeContext, JournaledInput

log = structlog.get_logger()

ANSWER_S = 10.0
"""How long one request is waited for. A snapshot is some ten of them, more when there are pages to
read: each is repeated by itself, so that an answer that has come is not requested again."""

SET_UP_S = 4 * ANSWER_S
"""The account's set-up is four requests, each of which rests on the one before."""

PAUSE_FIRST_S = 0.25
PAUSE_MOST_S = 5.0

LOOK_UPS = 12
"""Look-ups on their way at once: at a round trip of 300 ms as many as the exchange's rate limit lets
through. Hundreds at once would hold up the connections that a snapshot and the operator need."""

_T = TypeVar("_T")


def any_account(_uid: str) -> None:
    """Accept any account."""


async def reconcile(
    queries: trio.MemoryReceiveChannel[Query],
    *,
    rest: Rest,
    inbox: Inbox,
    context: DecodeContext,
    rules: Rules,
    gate: Gate,
    on_account: Callable[[str], object] = any_account,
) -> None:
    """Carry out queries concurrently; there are at most as many as open orders.

    The newest request for a snapshot or a listing replaces an older one. A query that is already on
    its way is not made a second time: the trading state repeats itself every second, which in a burst
    is more than the exchange's limit lets through, and repeats would pile up until every one of them
    came too late.

    ``gate`` is closed from when an answer has a row of ours that cannot be read until the query is
    answered in whole: nobody knows what that row would have shown. ``on_account`` is called with the
    account's number (``uid``) before anything else of the account is used.

    Ends when the channel is closed and all are answered.

    Raises:
        AccessRejectedError: the key is rejected for good.
        AccountSetupError: the account cannot be set up as our orders need it.
        StepMismatchError: our sizes do not fit the instrument, seen for the first time.
        Whatever ``on_account`` raises.
    """
    reconciler = _Reconciler(rest, inbox, context, rules, gate, on_account)
    newest: dict[type[Query], trio.CancelScope] = {}
    pending: set[Query] = set()

    async def answer(query: Query, scope: trio.CancelScope) -> None:
        await reconciler.answer(query, scope)
        pending.discard(query)

    with queries:
        async with trio.open_nursery() as nursery:
            async for query in queries:
                if query in pending:
                    continue
                pending.add(query)
                scope = trio.CancelScope()
                if isinstance(query, RequestSnapshot | RequestListing):
                    if (older := newest.get(type(query))) is not None:
                        older.cancel()
                    newest[type(query)] = scope
                nursery.start_soon(answer, query, scope)


@attrs.define
class _Reconciler:
    """What is known of the account so far, and which queries have unreadable answers."""

    rest: Rest
    inbox: Inbox
    context: DecodeContext
    rules: Rules
    gate: Gate
    on_account: Callable[[str], object]
    _seen: bool = attrs.field(default=False, init=False)
    _fits: bool = attrs.field(default=False, init=False)
    """Whether our sizes were seen to fit the instrument. They may cease to, in a maintenance: then the
    exchange rejects orders, but what is open must be followed."""
    _unreadable: dict[object, str] = attrs.field(factory=dict, init=False)
    """What cannot be read, by the query in whose answer it stands."""
    _look_ups: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(LOOK_UPS), init=False
    )

    async def snapshot(self, request: RequestSnapshot) -> JournaledInput:
        """Get the exchange's whole state, and set the account up when the session is new."""
        if request.check_account or not self._seen:
            await self._know_account(request, set_up=request.check_account)
        retry = partial(self.until_answered, request)
        bodies = await self.rest.snapshot_bodies(request, tag=self.context.tag, retry=retry)
        if not self._fits:
            ensure_step(instrument(bodies.instrument, self.context.inst_id), self.rules.step)
            self._fits = True
        return journaled_inputs.snapshot(bodies, self.context)

    async def listing(self, request: RequestListing) -> JournaledInput:
        """Get what the exchange lists; that needs no session."""
        if not self._seen:
            await self._know_account(request, set_up=False)
        retry = partial(self.until_answered, request)
        bodies = await self.rest.listing_bodies(request, tag=self.context.tag, retry=retry)
        return journaled_inputs.listing(bodies, self.context)

    async def fills(self, request: RequestFills) -> JournaledInput:
        """Get the fills of one order."""

        async def ask() -> JournaledInput:
            return journaled_inputs.fills(
                await self.rest.fills_bodies(request.ord_id), self.context
            )

        return await self.until_answered(request, "fills", ask)

    async def lookup(self, request: LookUpOrder) -> JournaledInput:
        """Look one order up."""

        async def ask() -> JournaledInput:
            return journaled_inputs.lookup(
                await self.rest.lookup_body(request.cl_ord_id), self.context
            )

        return await self.until_answered(request, "lookup", ask, self._look_ups)

    async def answer(self, query: Query, scope: trio.CancelScope) -> None:
        """Repeat a query until it is answered: no answer never means "nothing there"."""
        with scope:
            match query:
                case RequestSnapshot():
                    arrival = await self.snapshot(query)
                case RequestListing():
                    arrival = await self.listing(query)
                case RequestFills():
                    arrival = await self.fills(query)
                case LookUpOrder():
                    arrival = await self.lookup(query)
                case _:
                    assert_never(query)
            await self.inbox.send(arrival)
            self._note_readable(query)

    async def until_answered(
        self,
        query: Query,
        what: str,
        ask: Callable[[], Awaitable[_T]],
        turns: trio.CapacityLimiter | None = None,
        patience_s: float = ANSWER_S,
    ) -> _T:
        """Call ``ask``, and again after a pause, until there is an answer or the key is rejected.

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
                if isinstance(error, RestRowUnreadableError):
                    self._note_unreadable(query, f"{what}: {why}")
            await trio.sleep(pause)
            pause = min(PAUSE_MOST_S, pause * 2)

    def _note_unreadable(self, query: Query, why: str) -> None:
        if self._unreadable.get(_key(query)) != why:
            log.error("our_row_unreadable", why=why)
        self._unreadable[_key(query)] = why
        self.gate.close(ROW, why)

    def _note_readable(self, query: Query) -> None:
        if self._unreadable.pop(_key(query), None) is None:
            return
        if self._unreadable:
            self.gate.close(ROW, next(iter(self._unreadable.values())))
        else:
            self.gate.open(ROW)

    async def _know_account(self, query: Query, *, set_up: bool) -> None:
        async def ask() -> None:
            if set_up:
                await ensure_account(self.rest, self.rules, self.on_account)
            else:
                self.on_account((await self.rest.account_config()).uid)
            self._seen = True

        await self.until_answered(query, "account", ask, patience_s=SET_UP_S)


def _key(query: Query) -> object:
    """Identify a query among those that can be open at once: of snapshots and listings it is the newest."""
    newest = isinstance(query, RequestSnapshot | RequestListing)
    return type(query) if newest else query


async def ensure_account(
    rest: Rest, rules: Rules, on_account: Callable[[str], object] = any_account
) -> None:
    """Check that the account can trade as we do; set net mode and leverage where they differ.

    ``on_account`` is called with the account's ``uid`` before anything else.

    Raises:
        AccountSetupError: saying what a person must change.
        Whatever ``on_account`` raises.
    """
    config = await rest.account_config()
    on_account(config.uid)
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


def ensure_step(instrument: Instrument, step: Decimal) -> None:
    """Check that the exchange can take the sizes that we make.

    Raises:
        StepMismatchError: it would reject all or most of them.
    """
    lot, least = instrument.lot_sz, instrument.min_sz
    if step % lot == 0 and step >= least:
        return
    fitting = steps_up(max(step, least), Decimal(1), lot)
    raise StepMismatchError(
        f"OMS_MIN_CONTRACTS={step} does not fit {instrument.inst_id} (lot {lot}, smallest order "
        f"{least}): orders would be rejected; set {fitting}, or another multiple of the lot"
    )
