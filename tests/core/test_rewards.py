"""What a reward counts: its units, fees and funding (section 5 of the contract)."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core.book import Book
from oms_trio.core.effects import PublishClosure
from oms_trio.core.events import SessionUp
from oms_trio.core.model import Cause, Funding, RewardUnit, Rules, Side
from oms_trio.core.state import TradeState
from tests.core.booking import Booking
from tests.core.desk import RULES, START_NS, Desk

START_MS = START_NS // 1_000_000


def rules(unit: RewardUnit, *, net: bool = False) -> Rules:
    return attrs.evolve(RULES, reward_unit=unit, reward_net=net)


def worked_example(booking: Booking) -> list[float]:
    """The contract's worked example with taker fees, and 0.2 USDT of funding paid in its first trade."""
    a, b = booking.order("A", Side.BUY, "2"), booking.order("B", Side.BUY, "3")
    c = booking.order("C", Side.SELL, "5")
    booking.fill(a, "2", "67000", fees=True)
    booking.fill(b, "1", "66900", fees=True)
    booking.funding(1, "-0.2", booking.now_ms)
    trade = booking.book.trade
    assert trade is not None
    trade.note_drawdown(-0.04)
    booking.fill(c, "5", "67100", fees=True)
    booking.fill(b, "1", "66900", fees=True)
    booking.fill(b, "1", "66950", fees=True)
    return [closure.reward for closure in booking.closures]


# Entry notionals: (2 x 67000 + 66900) x 0.01 = 2009 and 2 x 67100 x 0.01 = 1342. Fees by 0.05 %:
# A 0.67, B 0.3345, C 1.6775 of which 3 of 5 contracts close the first trade: 1.0065, then B
# 0.3345 and 0.33475.
FIRST, SECOND = Decimal(4), Decimal("3.5")
FIRST_NET = FIRST - Decimal("0.67") - Decimal("0.3345") - Decimal("1.0065") - Decimal("0.2")
SECOND_NET = SECOND - Decimal("0.671") - Decimal("0.3345") - Decimal("0.33475")


@pytest.mark.parametrize(
    ("unit", "first_scale", "second_scale"),
    [
        (RewardUnit.USDT, Decimal(1), Decimal(1)),
        (RewardUnit.RETURN, 1 / Decimal(2009), 1 / Decimal(1342)),
        (RewardUnit.ROE, 10_000 / Decimal(2009), 10_000 / Decimal(1342)),
    ],
)
@pytest.mark.parametrize(
    ("net", "first", "second"), [(False, FIRST, SECOND), (True, FIRST_NET, SECOND_NET)]
)
def test_worked_example_in_every_unit(
    unit: RewardUnit,
    first_scale: Decimal,
    second_scale: Decimal,
    net: bool,  # noqa: FBT001 - a parameter of the test
    first: Decimal,
    second: Decimal,
) -> None:
    rewards = worked_example(Booking(rules(unit, net=net)))
    assert rewards == pytest.approx(
        [float(first * first_scale) * 0.92, float(second * second_scale)], rel=1e-12
    )


def test_fees_and_funding_are_recorded_even_when_a_reward_does_not_count_them() -> None:
    booking = Booking()
    worked_example(booking)
    opener = booking.order("D", Side.BUY, "1")
    booking.fill(opener, "1", "67000", fees=True)
    trade = booking.book.trade
    assert trade is not None
    assert not trade.pnl
    assert trade.fees == Decimal("-0.335")
    booking.funding(2, "0.05", booking.now_ms)
    booking.book.settle_funding(complete=True)
    assert trade.funding == Decimal("0.05")


def test_return_does_not_depend_on_the_number_of_closing_fills() -> None:
    """One per cent is one per cent, whether the exchange takes one fill or ten for it."""
    rewards = []
    for fills in (1, 10):
        desk = Desk(TradeState(rules(RewardUnit.RETURN)))
        desk.start()
        desk.fill(desk.place("A", Side.BUY, "1"), "1", "67000")
        order = desk.place("B", Side.SELL, "1")
        for _ in range(fills):
            desk.fill(order, str(Decimal(1) / fills), "67670")
        rewards.append(desk.last(PublishClosure).reward)
    assert rewards == [0.01, 0.01]


def test_a_profit_that_fees_eat_up_is_a_loss_and_drawdown_makes_it_larger() -> None:
    """What was paid comes off before everything else, so the drawdown weighs what is left."""
    booking = Booking(rules(RewardUnit.USDT, net=True))
    booking.fill(booking.order("A", Side.BUY, "1"), "1", "67000", fees=True)
    assert booking.book.trade is not None
    booking.book.trade.note_drawdown(-0.25)
    booking.fill(booking.order("B", Side.SELL, "1"), "1", "67010", fees=True)
    (closure,) = booking.closures
    assert closure.reward == pytest.approx((0.1 - 0.335 - 0.33505) * 1.5, rel=1e-12)


def test_a_net_reward_of_an_open_trade_that_has_reduced_nothing_is_nothing() -> None:
    booking = Booking(rules(RewardUnit.ROE, net=True))
    booking.fill(booking.order("A", Side.BUY, "1"), "1", "67000", fees=True)
    assert booking.book.trade is not None
    assert booking.book.trade.reward(booking.rules) == 0.0


@pytest.mark.parametrize("closing", ["1", "0.7", "2.3"])
def test_the_two_parts_of_a_turning_fills_fee_add_up_exactly(closing: str) -> None:
    """Thirds of a fee have no end, but nothing of it may be lost between two trades."""
    booking = Booking()
    booking.fill(booking.order("A", Side.BUY, closing), closing, "67000")
    old = booking.book.trade
    turn = booking.order("B", Side.SELL, "3")
    booking.fill(turn, "3", "66999.7", fees=True)
    new = booking.book.trade
    assert old is not None
    assert new is not None
    assert old.fees + new.fees == Decimal("-0.0005") * Decimal("66999.7") * 3 * Decimal("0.01")
    assert float(old.fees / (old.fees + new.fees)) == pytest.approx(float(closing) / 3)


def test_a_rebate_adds_to_a_net_reward() -> None:
    desk = Desk(TradeState(rules(RewardUnit.USDT, net=True)))
    desk.start()
    desk.fill(desk.place("A", Side.BUY, "1"), "1", "67000")
    push = desk.match(desk.place("B", Side.SELL, "1"), "1", "67100")
    assert push.fill is not None
    booked = attrs.evolve(push, fill=attrs.evolve(push.fill, fee=Decimal("0.25")))
    assert desk.state.book.trade is not None
    desk.state._take_report(booked)
    desk.state._book(desk.now, desk.effects.append)
    assert desk.last(PublishClosure).reward == 1.25


# Splits


@st.composite
def cut_plans(draw: st.DrawFn) -> tuple[list[tuple[Side, Decimal, Decimal]], list[list[Decimal]]]:
    """Orders (side, contracts, price) that end flat, and how each is cut into fills."""
    sizes = st.integers(1, 40).map(lambda tenths: Decimal(tenths) / 10)
    prices = st.integers(600_000, 700_000).map(lambda tenths: Decimal(tenths) / 10)
    orders = draw(st.lists(st.tuples(st.sampled_from(Side), sizes, prices), min_size=1, max_size=8))
    position = sum((side.sign * sz for side, sz, _ in orders), Decimal(0))
    if position:
        side = Side.SELL if position > 0 else Side.BUY
        orders.append((side, abs(position), draw(prices)))
    cuts = []
    for _, sz, _ in orders:
        marks = draw(st.sets(st.integers(1, max(1, int(sz * 10) - 1)), max_size=6))
        places = [Decimal(0), *(Decimal(mark) / 10 for mark in sorted(marks)), sz]
        cuts.append([high - low for low, high in pairwise(places) if high > low])
    return orders, cuts


@given(plan=cut_plans(), unit=st.sampled_from(RewardUnit), net=st.booleans())
def test_no_reward_depends_on_how_the_exchange_cuts_an_order(
    plan: tuple[list[tuple[Side, Decimal, Decimal]], list[list[Decimal]]],
    unit: RewardUnit,
    net: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    """Equal, not nearly equal: money is exact up to the last division."""
    orders, cuts = plan
    outcomes = []
    for pieces in ([[sz] for _, sz, _ in orders], cuts):
        booking = Booking(rules(unit, net=net))
        for number, (side, sz, px) in enumerate(orders):
            order = booking.order(f"O{number}", side, sz)
            for piece in pieces[number]:
                booking.fill(order, piece, px, fees=True)
        assert booking.book.trade is None
        outcomes.append([(one.portions, one.reward) for one in booking.closures])
    whole, cut = outcomes
    assert whole == cut


# Funding


def test_funding_counts_for_the_trade_that_is_open_and_counts_once() -> None:
    booking = Booking(rules(RewardUnit.USDT, net=True))
    booking.fill(booking.order("A", Side.BUY, "1"), "1", "67000", time_ms=100)
    for _ in range(2):
        booking.funding(7, "-0.4", 150)
        booking.book.settle_funding(complete=True)
    booking.funding(6, "-50", 120)  # an older bill: counted long ago
    booking.fill(booking.order("B", Side.SELL, "1"), "1", "67100", time_ms=200)
    assert booking.closures[0].reward == pytest.approx(0.6)
    assert booking.book.funding == Decimal("-0.4")


def test_funding_from_before_the_trade_is_in_the_total_only() -> None:
    booking = Booking(rules(RewardUnit.USDT, net=True))
    booking.fill(booking.order("A", Side.BUY, "1"), "1", "67000", time_ms=100)
    booking.funding(7, "-0.4", 99)
    booking.book.settle_funding(complete=True)
    booking.fill(booking.order("B", Side.SELL, "1"), "1", "67100", time_ms=200)
    assert booking.closures[0].reward == 1.0
    assert booking.book.funding == Decimal("-0.4")


def test_funding_while_flat_is_in_the_total_only() -> None:
    booking = Booking()
    booking.funding(7, "-0.4", 99)
    booking.book.settle_funding(complete=True)
    booking.fill(booking.order("A", Side.BUY, "1"), "1", "67000", time_ms=100)
    assert booking.book.trade is not None
    assert booking.book.trade.funding == 0
    assert booking.book.funding == Decimal("-0.4")


def test_funding_told_together_with_later_fills_counts_for_the_trade_of_its_time() -> None:
    """After an outage one answer has all of it: the trade ended, and another began, meanwhile."""
    booking = Booking(rules(RewardUnit.USDT, net=True))
    booking.fill(booking.order("A", Side.BUY, "1"), "1", "67000", time_ms=100)
    booking.funding(7, "-0.4", 150)
    booking.funding(8, "-0.3", 350)
    booking.fill(booking.order("B", Side.SELL, "3"), "3", "67100", time_ms=200)
    assert booking.closures[0].reward == pytest.approx(0.6)
    assert booking.book.trade is not None
    assert booking.book.trade.funding == 0
    booking.book.settle_funding(complete=False)
    assert booking.book.trade.funding == 0
    booking.book.settle_funding(complete=True)
    assert booking.book.trade.funding == Decimal("-0.3")
    assert not booking.book.funding_due


def test_funding_of_a_snapshot_reaches_the_trade_that_its_fills_close() -> None:
    desk = Desk(TradeState(rules(RewardUnit.USDT, net=True)))
    desk.start()
    desk.fill(desk.place("A", Side.BUY, "1"), "1", "67000")
    opened_ms = START_MS + desk.trade_id
    b = desk.place("B", Side.SELL, "1")
    desk.match(b, "1", "67100")
    desk.feed(SessionUp())
    paid = (
        Funding(12, opened_ms + 1, Decimal("-0.1")),
        Funding(11, opened_ms + 1, Decimal("-0.4")),
        Funding(13, opened_ms + 60_000, Decimal(-9)),
    )
    desk.snapshot(orders=(b.report(),), fills=tuple(b.fills), funding=paid)
    assert desk.last(PublishClosure).reward == pytest.approx(0.5)
    assert desk.state.book.funding == Decimal("-9.5")


def test_a_book_is_read_back_as_it_was_written() -> None:
    booking = Booking(rules(RewardUnit.ROE, net=True))
    worked_example(booking)
    booking.fill(booking.order("L", Side.BUY, "1", Cause.MANUAL), "1", "67000", fees=True)
    booking.funding(9, "-0.125", booking.now_ms)
    again = msgspec.json.decode(msgspec.json.encode(booking.book), type=Book)
    assert again == booking.book
    assert repr(again) == repr(booking.book)
