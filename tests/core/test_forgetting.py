"""What is remembered is bounded, and forgetting makes nothing count twice."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core import identity, orders
from oms_trio.core.effects import PlaceOrder
from oms_trio.core.events import OrderUpdate
from oms_trio.core.model import Side, keep_newest
from tests.core.desk import Desk


@given(count=st.integers(0, 200), keep=st.integers(8, 100))
def test_the_newest_are_kept_in_their_order(count: int, keep: int) -> None:
    entries: dict[int, None] = {}
    for number in range(count):
        entries[number] = None
        entries = keep_newest(entries, keep)
        assert len(entries) <= keep + keep // 8
    assert list(entries) == list(range(count - len(entries), count))
    assert len(entries) >= min(count, keep)


def test_a_late_report_of_a_forgotten_order_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fills are booked; taken for an order of an earlier process they would count again."""
    monkeypatch.setattr(orders, "ENDED_KEPT", 8)
    desk = Desk()
    desk.start()
    first = desk.place("A", Side.BUY, "1")
    desk.fill(first, "1", "67000")
    for number in range(20):
        desk.fill(desk.place(f"B{number}", Side.SELL, "0.1"), "0.1", "67000")
    assert desk.state.orders.find(first.cl_ord_id) is None
    before = attrs.evolve(desk.state.book)
    told = len(desk.told)
    desk.feed(OrderUpdate(first.report(first.fills[0])))
    assert desk.state.book == before
    assert len(desk.told) == told
    assert desk.state.book.position == Decimal(-1)


def test_a_new_action_is_never_taken_for_one_that_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Equal bytes come back after many others: each time they are another order."""
    monkeypatch.setattr(identity, "REMEMBERED", 16)
    desk = Desk()
    desk.start()
    for turn in range(60):
        for number in range(1 + turn % 40):
            desk.act(7, body=b"%d" % number, volume="1e-9")
    names = [placed.cl_ord_id for placed in desk.all(PlaceOrder)]
    assert len(names) == sum(1 + turn % 40 for turn in range(60))
