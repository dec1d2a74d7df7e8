"""Our position as of a match, to hold a position report against exactly."""

from __future__ import annotations

from decimal import Decimal

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core import book as book_module
from oms_trio.core.book import RECENT_KEPT, Book
from oms_trio.core.model import Cause, Side, TradeId
from tests.core.booking import Booking


def booked(sizes: dict[int | None, int]) -> Booking:
    """Book fills in this order: trade id -> signed contracts."""
    booking = Booking()
    for number, (trade_id, signed) in enumerate(sizes.items()):
        order = booking.order(f"O{number}", Side.BUY if signed > 0 else Side.SELL, "1000")
        booking.fill(order, str(abs(signed)), "67000", trade_id=trade_id)
    return booking


def test_a_report_at_or_after_our_last_fill_is_held_against_all_we_have() -> None:
    book = booked({10: 2, 20: 3, 30: -1}).book
    for told in (30, 31, 10**12, None, 0, -5):
        assert book.position_at(None if told is None else TradeId(told)) == 4


def test_a_report_from_between_our_fills_is_held_against_what_came_before_it() -> None:
    book = booked({10: 2, 20: 3, 30: -9}).book
    assert [book.position_at(TradeId(told)) for told in (9, 10, 19, 20, 29)] == [0, 2, 2, 5, 5]


def test_nothing_is_booked_yet() -> None:
    assert Book().position_at(TradeId(7)) == 0


def test_two_orders_of_ours_in_one_match_count_both() -> None:
    booking = booked({10: 2, 20: 3})
    booking.fill(booking.order("S", Side.SELL, "1"), "1", "67000", trade_id=10)
    assert booking.book.position_at(TradeId(10)) == 1


def test_fills_without_a_number_that_orders_always_count() -> None:
    booking = booked({10: 2, None: 1, 20: 3, -4: -1})
    assert booking.book.position_at(TradeId(10)) == 2
    assert booking.book.position_at(TradeId(9)) == 0
    liquidated = booking.order("L", Side.SELL, "1", Cause.LIQUIDATION)
    booking.fill(liquidated, "1", "66000", trade_id=0)
    assert booking.book.position_at(TradeId(10)) == 1


def test_memory_is_bounded_and_what_is_older_is_not_known() -> None:
    booking = Booking()
    order = booking.order("A", Side.BUY, "100000")
    for trade_id in range(1, 3 * RECENT_KEPT):
        booking.fill(order, "1", "67000", trade_id=trade_id)
        assert len(booking.book.recent) <= RECENT_KEPT * 9 // 8
    last = 3 * RECENT_KEPT - 1
    assert booking.book.position_at(TradeId(last - RECENT_KEPT)) == last - RECENT_KEPT
    assert booking.book.position_at(TradeId(RECENT_KEPT)) is None


def test_a_state_of_an_earlier_release_knows_nothing_older_than_its_last_fill() -> None:
    booking = booked({10: 2, 20: 3})
    old = msgspec.json.decode(msgspec.json.encode(booking.book))
    del old["recent"], old["recent_after"]
    booking.book = msgspec.json.decode(msgspec.json.encode(old), type=Book)
    assert booking.book.position_at(TradeId(20)) == 5
    assert booking.book.position_at(TradeId(19)) is None
    booking.fill(booking.order("A", Side.SELL, "1"), "1", "67000", trade_id=15)
    assert booking.book.position_at(TradeId(19)) is None
    booking.fill(booking.order("B", Side.SELL, "1"), "1", "67000", trade_id=30)
    assert [booking.book.position_at(TradeId(told)) for told in (19, 20, 29, 30)] == [None, 4, 4, 3]


@attrs.frozen
class Step:
    trade_id: int | None
    signed: int


steps = st.lists(
    st.builds(
        Step,
        st.none() | st.integers(-3, 0) | st.integers(1, 60),
        st.integers(-5, 5).filter(bool),
    ),
    max_size=60,
)


@pytest.mark.parametrize("kept", [4, RECENT_KEPT])
@given(steps=steps, told=st.integers(1, 70))
def test_the_position_is_the_sum_of_what_came_before(
    kept: int, steps: list[Step], told: int
) -> None:
    """Whatever the order of booking; what is not known is at least not among the newest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book_module, "RECENT_KEPT", kept)
        booking = Booking()
        for number, step in enumerate(steps):
            side = Side.BUY if step.signed > 0 else Side.SELL
            order = booking.order(f"O{number}", side, "1000")
            booking.fill(order, str(abs(step.signed)), "67000", trade_id=step.trade_id)
        found = booking.book.position_at(TradeId(told))
    naive = sum(
        step.signed
        for step in steps
        if step.trade_id is None or step.trade_id <= 0 or step.trade_id <= told
    )
    numbers = sorted(step.trade_id for step in steps if step.trade_id and step.trade_id > 0)
    if found is None:
        assert len([number for number in numbers if number > told]) >= kept
    else:
        assert found == Decimal(naive)
