"""What the agent must receive: what the oracle makes of the exchange's fills in their true order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from fractions import Fraction
from operator import itemgetter

import attrs

from oms_trio.core.effects import FillBooked
from oms_trio.core.model import Cause, PositionReport
from oms_trio.testing.okx_server.values import ExchangeFill, ExchangeOrder, OrderCategory
from oms_trio.testing.simulation.invariants.oracle import ExpectedMessage, Oracle, TrueFill
from oms_trio.testing.simulation.replayed import JournalReplay
from oms_trio.testing.simulation.run_settings import CONTEXT
from oms_trio.testing.simulation.world import SimulatedWorld

CAUSES = {
    OrderCategory.NORMAL: Cause.AGENT,
    OrderCategory.FULL_LIQUIDATION: Cause.LIQUIDATION,
    OrderCategory.PARTIAL_LIQUIDATION: Cause.LIQUIDATION,
    OrderCategory.ADL: Cause.ADL,
}


@attrs.frozen
class PositionChange:
    """One change of our position: a fill of the exchange, or an adoption.

    ``index`` counts the exchange's fills; it is None for an adoption.
    """

    fill: TrueFill
    trade_id: int | None
    index: int | None
    mixed: bool
    """Somebody had traded by hand: the exchange's figures are about that position as well."""


@attrs.define
class ExpectedMessages:
    """What the agent must receive, and which trade each drawdown belongs to."""

    messages: list[ExpectedMessage] = attrs.Factory(list)
    trades_by_fill: list[tuple[int, int, int]] = attrs.Factory(list)
    """By trade id of a fill: the number of the trade after it, and the sign of its position."""
    inexact_trades: set[int] = attrs.Factory(set)
    """Trades in which fills were booked out of the exchange's order, or somebody traded by hand: the
    exchange's figures of profit and drawdown are then not those of our trade."""

    def drawdowns(self, reports: Iterable[PositionReport], trade: int) -> Iterator[float]:
        """Yield the ``uplRatio`` of the position reports that are about this trade."""
        for report in reports:
            if report.upl_ratio is None or report.pos == 0 or report.trade_id is None:
                continue
            at = bisect_right(self.trades_by_fill, int(report.trade_id), key=itemgetter(0)) - 1
            if at < 0:
                continue
            _, number, sign = self.trades_by_fill[at]
            if number == trade and (report.pos > 0) is (sign > 0):
                yield report.upl_ratio


def state_id_of(order: ExchangeOrder) -> int:
    """Return the state id that an order's ``clOrdId`` contains (docs/wire.md), without our own code."""
    return int(order.cl_ord_id[3:11], 16)


def is_ours(fill: ExchangeFill) -> bool:
    """Whether a fill belongs to our trades: of an order of ours, or of a liquidation or ADL."""
    return fill.tag == CONTEXT.tag or fill.category is not OrderCategory.NORMAL


def expected_messages(world: SimulatedWorld, replay: JournalReplay) -> ExpectedMessages:
    """Give what happened at the exchange to the oracle, and return what the agent must receive."""
    rules = world.rules
    oracle = Oracle(
        rules.reward_unit.value,
        net=rules.reward_net,
        leverage=int(rules.leverage),
    )
    found = ExpectedMessages()
    changes = _changes(world, replay)
    in_order = iter(sorted(change.index for change in changes if change.index is not None))
    payments = iter([*world.market.funding, None])
    payment = next(payments)
    displaced = 0
    for change in changes:
        while payment is not None and change.index is not None and payment.fills <= change.index:
            oracle.fund(Fraction(payment.amount), payment.known_at)
            payment = next(payments)
        before = oracle.closed
        oracle.fill(change.fill)
        sign = (oracle.position > 0) - (oracle.position < 0)
        if change.trade_id is not None and change.trade_id > 0:
            found.trades_by_fill.append((change.trade_id, oracle.closed, sign))
        here = 0 if change.index is None else change.index - next(in_order)
        displaced += here
        if displaced or here or change.mixed:
            found.inexact_trades |= {before, oracle.closed}
    found.messages = oracle.expected
    found.trades_by_fill.sort()
    return found


def _changes(world: SimulatedWorld, replay: JournalReplay) -> list[PositionChange]:
    """Return all changes of our position, as the exchange and the operator made them.

    Fills come in the exchange's order, or as the service booked them where it could not know that
    order. An adoption is not a fill of the exchange: the journal has its place and its price.
    """
    happened = [
        (index, fill)
        for index, fill in enumerate(world.exchange.ground_truth.fills())
        if is_ours(fill)
    ]
    by_key = {fill.trade_id: (index, fill) for index, fill in happened}
    booked = [booked for booked in replay.booked if booked.cause is not Cause.MANUAL]
    order = happened
    if world.faults.displaced and len(booked) == len(happened):
        found = [by_key.get(key) for key in _keys(booked, happened)]
        if None not in found and len(set(found)) == len(happened):
            as_booked = [one for one in found if one is not None]
            if _in_order(world, as_booked) == _in_order(world, happened):
                order = as_booked
    mixed = _mixed(world)
    change = _ChangeMaker(world)
    changes = [change.of_fill(index, fill, mixed=index in mixed) for index, fill in order]
    for at, one in enumerate(replay.booked):
        if one.cause is Cause.MANUAL:
            changes.insert(at, change.of_adoption(one))
    return changes


def _keys(booked: list[FillBooked], happened: list[tuple[int, ExchangeFill]]) -> Iterator[int]:
    """Yield the trade ids of what was booked; liquidations may have been booked by their bills only."""
    unnamed = [fill for _, fill in happened if fill.category is not OrderCategory.NORMAL]
    named = {one.fill.trade_id for one in booked}
    unnamed = [fill for fill in unnamed if fill.trade_id not in named]
    for one in booked:
        if one.fill.trade_id is not None:
            yield one.fill.trade_id
            continue
        match = next((fill for fill in unnamed if fill.sz == one.fill.sz), None)
        if match is not None:
            unnamed.remove(match)
        yield 0 if match is None else match.trade_id


def _in_order(world: SimulatedWorld, fills: list[tuple[int, ExchangeFill]]) -> list[int]:
    """Return the trade ids of all fills whose place the service could know."""
    displaced = world.faults.displaced
    return [fill.trade_id for _, fill in fills if fill.trade_id not in displaced]


def _mixed(world: SimulatedWorld) -> set[int]:
    """Return the indices of our fills while a manual trade was open, or just after one."""
    mixed = set()
    by_hand = Fraction(0)
    just_now = False
    adopted = dict(world.monitor.adopted)
    for index, fill in enumerate(world.exchange.ground_truth.fills()):
        if index in adopted:
            by_hand, just_now = Fraction(0), True
        if is_ours(fill):
            if by_hand or just_now:
                mixed.add(index)
            just_now = False
        else:
            by_hand += fill.side.sign * Fraction(fill.sz)
            just_now = True
    return mixed


class _ChangeMaker:
    """Translates what happened for the oracle."""

    def __init__(self, world: SimulatedWorld) -> None:
        self.orders = {order.ord_id: order for order in world.exchange.ground_truth.orders()}
        self.multipliers = world.market.multipliers
        self.times = world.monitor.fill_times

    def of_fill(self, index: int, fill: ExchangeFill, *, mixed: bool) -> PositionChange:
        """Translate a fill of the exchange."""
        order = self.orders[fill.ord_id]
        cause = CAUSES[fill.category]
        if cause is Cause.AGENT and order.reduce_only:
            cause = Cause.OPERATOR
        since = bisect_right(self.multipliers, index, key=itemgetter(0)) - 1
        true = TrueFill(
            ord_id=fill.ord_id,
            sign=fill.side.sign,
            volume=Fraction(order.sz),
            sz=Fraction(fill.sz),
            px=Fraction(fill.px),
            state_id=state_id_of(order) if cause is Cause.AGENT else None,
            cause=cause.value,
            fee=Fraction(fill.fee),
            penalty=Fraction(fill.penalty),
            multiplier=Fraction(self.multipliers[since][1]),
            at=self.times[index],
        )
        return PositionChange(true, fill.trade_id, index, mixed)

    def of_adoption(self, booked: FillBooked) -> PositionChange:
        """Translate an adoption by the operator."""
        fill = booked.fill
        sz, px = Fraction(fill.sz), Fraction(fill.px)
        true = TrueFill(
            fill.ord_id, booked.side.sign, sz, sz, px, state_id=None, cause=Cause.MANUAL.value
        )
        return PositionChange(true, None, None, mixed=True)
