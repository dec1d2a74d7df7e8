"""Questions overtake pushes: what REST tells of one order may be newer than a push of another."""

from __future__ import annotations

from decimal import Decimal

import pytest

from oms_trio.core.effects import LookUpOrder, PlaceOrder, RequestSnapshot
from oms_trio.core.events import (
    LookupAnswer,
    OrderAnswer,
    OrderUpdate,
    SessionDown,
    SessionUp,
    Verdict,
)
from oms_trio.core.model import OrdId, PositionReport, Side, TradeId
from tests.core.desk import Desk, VenueOrder


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.start()
    return desk


def names(desk: Desk) -> list[str]:
    return [name for _, name, _, _ in desk.told]


def test_growth_told_by_a_look_up_waits_for_what_came_before_it(desk: Desk) -> None:
    """The fill of A happened first, but its push is slower than the look-up of B."""
    a, b = desk.place("A", Side.BUY, "2"), desk.place("B", Side.BUY, "2")
    push = desk.match(a, "1", "67000")
    desk.match(b, "1", "67001")
    desk.feed(LookupAnswer(desk.now, b.cl_ord_id, b.report()))
    desk.answer_fills()
    assert names(desk) == []
    desk.feed(OrderUpdate(push))
    rows = (*a.fills, *b.fills)
    desk.snapshot(orders=(a.report(), b.report()), fills=rows)
    assert names(desk) == ["A", "B"]


def test_growth_told_by_a_look_up_asks_for_one_snapshot_only(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "2")
    desk.match(order, "1", "67000")
    before = len(desk.all(RequestSnapshot))
    for _ in range(3):
        desk.feed(LookupAnswer(desk.now, order.cl_ord_id, order.report()))
    assert len(desk.all(RequestSnapshot)) == before + 1


def test_look_up_that_finds_an_order_filled_ends_the_doubt_at_once(desk: Desk) -> None:
    desk.act(1, price="-0.5", volume="1e-9")
    name = desk.last(PlaceOrder).cl_ord_id
    desk.feed(OrderAnswer(name, Verdict.UNKNOWN))
    order = VenueOrder(OrdId("A"), name, Side.BUY, Decimal(1), Decimal(67000))
    desk.orders[order.ord_id] = order
    desk.match(order, "1", "67000")
    desk.feed(LookupAnswer(desk.now, name, order.report()))
    found = desk.state.orders.find(name)
    assert found is not None
    assert not found.outcome_unknown
    asked = len(desk.all(LookUpOrder))
    desk.snapshot(orders=(order.report(),), fills=tuple(order.fills))
    desk.tick(10)
    assert len(desk.all(LookUpOrder)) == asked
    assert desk.state.book.position == 1


def test_snapshot_counts_fills_newer_than_its_reports_of_orders(desk: Desk) -> None:
    """Pages are asked one after the other: B's is older than the fills, C's is not."""
    b, c = desk.place("B", Side.BUY, "2"), desk.place("C", Side.BUY, "2")
    early = b.report()
    desk.match(b, "1", "67000")
    desk.match(c, "2", "67001")
    desk.tick(61)
    desk.snapshot(orders=(early, c.report()), fills=(*b.fills, *c.fills), position=flat())
    assert names(desk) == ["B", "C"]
    desk.feed(OrderUpdate(b.report(b.fills[0])))
    assert names(desk) == ["B", "C"]
    assert desk.state.book.position == 3


def flat() -> PositionReport:
    return PositionReport(Decimal(0), None, None, TradeId(1), 1)


def test_snapshot_stops_at_the_fill_of_an_order_that_is_not_named_yet(desk: Desk) -> None:
    b = desk.place("B", Side.BUY, "2")
    early = b.report()
    desk.act(9, price="-0.5", volume="1e-9")
    name = desk.last(PlaceOrder).cl_ord_id
    unnamed = VenueOrder(OrdId("U"), name, Side.BUY, Decimal(1), Decimal(67000))
    first = desk.match(unnamed, "1", "67000")
    second = desk.match(b, "1", "67001")
    desk.tick(61)
    desk.snapshot(orders=(early,), fills=(*unnamed.fills, *b.fills), position=flat())
    assert names(desk) == []
    desk.feed(OrderUpdate(first))
    desk.feed(OrderUpdate(second))
    assert names(desk) == ["U", "B"]


def test_position_older_than_a_booked_fill_proves_nothing(desk: Desk) -> None:
    """The position is asked for before the fills: no reason to stop taking actions."""
    order = desk.place("A", Side.BUY, "2")
    early = order.report()
    desk.match(order, "1", "67000")
    desk.tick(61)
    desk.snapshot(orders=(early,), fills=tuple(order.fills), position=flat())
    assert desk.state.book.position == 1
    assert desk.state.ready


def test_push_that_came_while_reconciling_counts_when_the_snapshot_is_older(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "2")
    desk.feed(SessionDown("cut"))
    desk.feed(SessionUp())
    early = order.report()
    desk.feed(OrderUpdate(desk.match(order, "1", "67000")))
    assert names(desk) == []
    desk.snapshot(orders=(early,), position=flat())
    assert names(desk) == ["A"]
    assert desk.state.book.position == 1
