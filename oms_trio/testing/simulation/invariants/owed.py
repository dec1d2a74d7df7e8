"""What the agent is owed: the oracle's word on the exchange's own fills, in their true order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from fractions import Fraction
from operator import itemgetter

import attrs

from oms_trio.core.effects import FillBooked
from oms_trio.core.model import Cause, PositionReport
from oms_trio.testing.okx_server.values import ExchangeFill, ExchangeOrder, OrderCategory
from oms_trio.testing.simulation.invariants.oracle import Due, Oracle, TrueFill
from oms_trio.testing.simulation.replayed import Replay
from oms_trio.testing.simulation.setting import CONTEXT
from oms_trio.testing.simulation.world import World

CAUSES = {
    OrderCategory.NORMAL: Cause.AGENT,
    OrderCategory.FULL_LIQUIDATION: Cause.LIQUIDATION,
    OrderCategory.PARTIAL_LIQUIDATION: Cause.LIQUIDATION,
    OrderCategory.ADL: Cause.ADL,
}


@attrs.frozen
class Step:
    """One change of our position; ``place`` counts the exchange's fills, None for an adoption."""

    fill: TrueFill
    trade_id: int | None
    place: int | None
    touched: bool
    """Somebody has traded by hand: the exchange's figures are about another position."""


@attrs.define
class Owed:
    """What the agent is owed, and which trade was open when."""

    messages: list[Due] = attrs.Factory(list)
    behind: list[tuple[int, int, int]] = attrs.Factory(list)
    """By trade id of a match: the number of the trade behind it, and its direction."""
    shifted: set[int] = attrs.Factory(set)
    """Trades in which fills were booked out of the exchange's order, or somebody traded by hand:
    the exchange's own figures of profit and drawdown are about another position then."""

    def drawdowns(self, reports: Iterable[PositionReport], trade: int) -> Iterator[float]:
        """Give the loss ratios of the reports that are of this trade."""
        for report in reports:
            if report.upl_ratio is None or report.pos == 0 or report.trade_id is None:
                continue
            at = bisect_right(self.behind, int(report.trade_id), key=itemgetter(0)) - 1
            if at < 0:
                continue
            _, number, sign = self.behind[at]
            if number == trade and (report.pos > 0) is (sign > 0):
                yield report.upl_ratio


def state_id_of(order: ExchangeOrder) -> int:
    """Read the state id out of an order's name, as an outsider who knows the format."""
    return int(order.cl_ord_id[3:11], 16)


def is_ours(fill: ExchangeFill) -> bool:
    """Whether a match is of our trades: of our orders, or of the exchange's on our position."""
    return fill.tag == CONTEXT.tag or fill.category is not OrderCategory.NORMAL


def owed(world: World, replay: Replay) -> Owed:
    """Let the oracle say what is owed."""
    rules = world.rules
    oracle = Oracle(
        rules.reward_unit.value,
        net=rules.reward_net,
        leverage=int(rules.leverage),
    )
    found = Owed()
    steps = _steps(world, replay)
    usual = iter(sorted(step.place for step in steps if step.place is not None))
    funded = iter([*world.funded, None])
    due = next(funded)
    displaced = 0
    for step in steps:
        while due is not None and step.place is not None and due.fills <= step.place:
            oracle.fund(Fraction(due.amount), due.known_at)
            due = next(funded)
        before = oracle.closed
        oracle.fill(step.fill)
        sign = (oracle.position > 0) - (oracle.position < 0)
        if step.trade_id is not None and step.trade_id > 0:
            found.behind.append((step.trade_id, oracle.closed, sign))
        here = 0 if step.place is None else step.place - next(usual)
        displaced += here
        if displaced or here or step.touched:
            found.shifted |= {before, oracle.closed}
    found.messages = oracle.due
    found.behind.sort()
    return found


def _steps(world: World, replay: Replay) -> list[Step]:
    """Return all changes of our position, as the exchange and the operator made them.

    Fills come in the exchange's order, or as booked where that was unknowable. An adoption is no
    fill of the exchange: only the journal says where it came in, and at which price.
    """
    happened = [
        (place, fill)
        for place, fill in enumerate(world.exchange.ground_truth.fills())
        if is_ours(fill)
    ]
    by_key = {_key(fill): (place, fill) for place, fill in happened}
    booked = [booked for booked in replay.booked if booked.cause is not Cause.MANUAL]
    order = happened
    if world.faults.displaced and len(booked) == len(happened):
        asked = [by_key.get(key) for key in _keys(booked, happened)]
        if None not in asked and len(set(asked)) == len(happened):
            as_booked = [found for found in asked if found is not None]
            if _undisplaced(world, as_booked) == _undisplaced(world, happened):
                order = as_booked
    touched = _touched(world)
    made = _Steps(world)
    steps = [made.of(place, fill, touched=place in touched) for place, fill in order]
    for at, one in enumerate(replay.booked):
        if one.cause is Cause.MANUAL:
            steps.insert(at, made.of_adoption(one))
    return steps


def _key(fill: ExchangeFill) -> int:
    return fill.trade_id


def _keys(booked: list[FillBooked], happened: list[tuple[int, ExchangeFill]]) -> Iterator[int]:
    """Name the matches that were booked; the risk engine's may be known by their bills only."""
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


def _undisplaced(world: World, fills: list[tuple[int, ExchangeFill]]) -> list[int]:
    displaced = world.faults.displaced
    return [fill.trade_id for _, fill in fills if fill.trade_id not in displaced]


def _touched(world: World) -> set[int]:
    """Return our matches while, or after, somebody traded by hand since the one before."""
    touched = set()
    by_hand = Fraction(0)
    lately = False
    adopted = dict(world.monitor.adopted)
    for place, fill in enumerate(world.exchange.ground_truth.fills()):
        if place in adopted:
            by_hand, lately = Fraction(0), True
        if is_ours(fill):
            if by_hand or lately:
                touched.add(place)
            lately = False
        else:
            by_hand += fill.side.sign * Fraction(fill.sz)
            lately = True
    return touched


class _Steps:
    """Translates what happened for the oracle."""

    def __init__(self, world: World) -> None:
        self.orders = {order.ord_id: order for order in world.exchange.ground_truth.orders()}
        self.multipliers = world.multipliers
        self.times = world.monitor.fill_times

    def of(self, place: int, fill: ExchangeFill, *, touched: bool) -> Step:
        """Take a match of the exchange."""
        order = self.orders[fill.ord_id]
        cause = CAUSES[fill.category]
        if cause is Cause.AGENT and order.reduce_only:
            cause = Cause.OPERATOR
        since = bisect_right(self.multipliers, place, key=itemgetter(0)) - 1
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
            at=self.times[place],
        )
        return Step(true, fill.trade_id, place, touched)

    def of_adoption(self, booked: FillBooked) -> Step:
        """Take what the operator made ours."""
        fill = booked.fill
        sz, px = Fraction(fill.sz), Fraction(fill.px)
        true = TrueFill(
            fill.ord_id, booked.side.sign, sz, sz, px, state_id=None, cause=Cause.MANUAL.value
        )
        return Step(true, None, None, touched=True)
