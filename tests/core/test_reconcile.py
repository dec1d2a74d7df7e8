"""The exchange's state and ours: merged without undoing anything, judged with patience."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest

from oms_trio.core.effects import (
    Alert,
    LookUpOrder,
    PlaceOrder,
    PublishRejection,
    Readiness,
    RequestSnapshot,
)
from oms_trio.core.events import (
    AccountUpdate,
    LookupAnswer,
    OrderAnswer,
    OrderUpdate,
    SessionDown,
    SessionUp,
    Started,
    Verdict,
)
from oms_trio.core.identity import order_name
from oms_trio.core.model import Fill, OrderState, OrdId, PositionReport, Side, StateId, TradeId
from oms_trio.core.orders import in_execution_order
from tests.core.desk import RULES, SECOND, Desk, VenueOrder


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.start()
    return desk


def held(desk: Desk, pos: str) -> PositionReport:
    return PositionReport(Decimal(pos), None, None, TradeId(desk.trade_id), desk.trade_id)


def test_ready_only_after_the_first_reconciliation() -> None:
    desk = Desk()
    desk.feed(Started(RULES))
    desk.feed(SessionUp())
    assert not desk.state.ready
    assert not desk.last(Readiness).ready
    desk.snapshot()
    assert desk.last(Readiness).ready


def test_lost_link_stops_actions_until_it_is_reconciled_again(desk: Desk) -> None:
    desk.feed(SessionDown("cut"))
    assert not desk.last(Readiness).ready
    desk.act()
    assert "cut" in desk.last(PublishRejection).detail
    desk.feed(SessionUp())
    assert not desk.state.ready
    desk.snapshot()
    assert desk.state.ready


def test_fills_missed_while_away_come_in_execution_order_once(desk: Desk) -> None:
    a, b = desk.place("A", Side.BUY, "2"), desk.place("B", Side.SELL, "2")
    desk.fill(a, "1", "67000")
    desk.feed(SessionDown("cut"))
    desk.match(b, "1", "67010")
    desk.match(a, "1", "67005")
    desk.feed(SessionUp())
    late = desk.match(b, "1", "67020")
    desk.feed(OrderUpdate(late))
    assert len(desk.told) == 1
    rows = tuple(reversed(a.fills + b.fills))
    desk.snapshot(orders=(a.report(), b.report()), fills=rows)
    kinds = [(kind, name) for kind, name, _, _ in desk.told]
    assert kinds == [
        ("execution", "A"),
        ("execution", "B"),
        ("closure", "B"),
        ("execution", "A"),
        ("execution", "B"),
        ("closure", "B"),
    ]
    assert desk.state.ready
    assert not desk.state.orders.open


def test_matches_come_by_their_numbers_though_the_exchange_s_clock_was_put_back(
    desk: Desk,
) -> None:
    a, b = desk.place("A", Side.BUY, "2"), desk.place("B", Side.SELL, "2")
    desk.feed(SessionDown("cut"))
    desk.match(a, "2", "67000")
    desk.match(b, "2", "67010")
    (last,) = b.fills
    b.fills = [attrs.evolve(last, time_ms=last.time_ms - 25_000)]
    desk.feed(SessionUp())
    desk.snapshot(orders=(a.report(), b.report()), fills=(*a.fills, *b.fills))
    kinds = [(kind, name) for kind, name, _, _ in desk.told]
    assert kinds == [("execution", "A"), ("execution", "B"), ("closure", "B")]


def test_deleveraging_comes_between_matches_by_its_time() -> None:
    """Its number is of another series; so is that of a fill which the exchange cannot name."""

    def fill(number: int | None, at_ms: int) -> Fill:
        trade_id = None if number is None else TradeId(number)
        return Fill(OrdId("A"), trade_id, Decimal(67000), Decimal(1), at_ms)

    told = [fill(12, 30), fill(-9, 20), fill(11, 10), fill(None, 30), fill(13, 5)]
    numbers = [one.trade_id for one in in_execution_order(told)]
    assert numbers == [11, -9, None, 12, 13]


def test_push_older_than_the_snapshot_changes_nothing(desk: Desk) -> None:
    a = desk.place("A", Side.BUY, "2")
    desk.feed(SessionDown("cut"))
    desk.feed(SessionUp())
    first = desk.match(a, "1", "67000")
    desk.feed(OrderUpdate(first))
    desk.match(a, "1", "67000")
    desk.snapshot(orders=(a.report(),), fills=tuple(a.fills), position=held(desk, "2"))
    assert desk.state.book.position == 2
    assert desk.state.ready


def test_snapshot_asked_before_a_fill_landed_does_not_undo_it(desk: Desk) -> None:
    """The light check's answer is older than a push: nothing is taken back, nothing is judged."""
    a = desk.place("A", Side.BUY, "2")
    desk.tick(61)
    request = desk.last(RequestSnapshot).request
    old = a.report()
    desk.fill(a, "2", "67000")
    assert desk.last(RequestSnapshot).request == request
    desk.snapshot(orders=(old,), position=None, asked_at_ns=desk.now - SECOND)
    assert desk.state.book.position == 2
    assert desk.state.ready
    assert not desk.all(Alert)


def test_fill_that_no_push_told_is_found_by_the_check(desk: Desk) -> None:
    a = desk.place("A", Side.BUY, "2")
    desk.match(a, "2", "67000")
    desk.position("2")
    desk.tick(2)
    assert len(desk.all(RequestSnapshot)) == 1
    desk.tick(2)
    assert len(desk.all(RequestSnapshot)) == 2
    desk.snapshot(orders=(a.report(),), fills=tuple(a.fills), position=held(desk, "2"))
    assert desk.state.book.position == 2
    assert len(desk.told) == 1
    assert desk.state.ready


def test_unexplained_position_stops_new_orders_and_names_both_numbers(desk: Desk) -> None:
    """Somebody traded by hand: an alert, orders stay stopped, and checks go on twice a minute."""
    desk.fill(desk.place("A", Side.BUY, "2"), "2", "67000")
    desk.trade_id += 1
    desk.position("7")
    for _ in range(300):
        asked = len(desk.all(RequestSnapshot))
        desk.tick(1)
        if len(desk.all(RequestSnapshot)) > asked:
            desk.snapshot(position=held(desk, "7"))
    assert desk.last(Readiness).why == "the exchange's position is 7, our fills explain 2"
    (alert,) = desk.all(Alert)
    assert alert.event == "position_mismatch"
    assert "7" in alert.detail
    assert "2" in alert.detail
    assert not desk.state.ready
    placed = len(desk.all(PlaceOrder))
    desk.act()
    assert len(desk.all(PlaceOrder)) == placed
    assert len(desk.all(RequestSnapshot)) < 20


def test_position_that_is_explained_again_resumes(desk: Desk) -> None:
    desk.trade_id += 1
    desk.position("7")
    desk.tick(4)
    desk.snapshot(position=held(desk, "7"))
    assert not desk.state.ready
    desk.trade_id += 1
    desk.position("0")
    assert desk.state.ready


def test_no_answer_is_never_flat(desk: Desk) -> None:
    """A failed query brings no snapshot at all: nothing changes, however long it takes."""
    desk.fill(desk.place("A", Side.BUY, "2"), "2", "67000")
    desk.feed(SessionDown("cut"))
    desk.feed(SessionUp())
    for _ in range(600):
        desk.tick(1)
    assert desk.state.book.position == 2
    assert not desk.state.ready


def test_snapshot_that_lags_behind_the_pushes_is_asked_for_again(desk: Desk) -> None:
    """A fill too new for REST and too old for the session: the position's trade id tells of it."""
    a, b = desk.place("A", Side.BUY, "2"), desk.place("B", Side.SELL, "2")
    desk.feed(SessionDown("cut"))
    old = (a.report(), b.report())
    desk.match(a, "2", "67000")
    desk.feed(SessionUp())
    desk.position("2")
    asked = len(desk.all(RequestSnapshot))
    desk.snapshot(orders=old)
    assert not desk.state.ready
    desk.feed(OrderUpdate(desk.match(b, "1", "67010")))
    assert desk.told == []
    desk.tick(1.1)
    assert len(desk.all(RequestSnapshot)) == asked + 1
    desk.snapshot(
        orders=(a.report(), b.report()),
        fills=tuple(a.fills + b.fills),
        position=held(desk, "1"),
    )
    assert [name for _, name, _, _ in desk.told] == ["A", "B"]
    assert desk.state.ready


def test_position_that_nobody_explains_is_not_waited_for_for_ever(desk: Desk) -> None:
    """Opened by hand while the link was down, and no list of fills ever shows the match."""
    desk.feed(SessionDown("cut"))
    desk.trade_id += 1
    desk.feed(SessionUp())
    desk.position("5")
    for _ in range(300):
        asked = len(desk.all(RequestSnapshot))
        desk.snapshot(position=held(desk, "5"))
        while len(desk.all(RequestSnapshot)) == asked and not desk.all(Alert):
            desk.tick(1)
        if desk.all(Alert):
            break
    (alert,) = desk.all(Alert)
    assert alert.event == "position_mismatch"
    assert not desk.state.ready


def test_answer_to_an_older_request_is_ignored(desk: Desk) -> None:
    stale = desk.last(RequestSnapshot)
    desk.feed(SessionDown("cut"))
    desk.feed(SessionUp())
    assert desk.last(RequestSnapshot).request != stale.request
    desk.effects.append(stale)
    desk.snapshot()
    assert not desk.state.ready


def test_order_of_ours_that_the_disk_does_not_know_is_adopted(desk: Desk) -> None:
    """Sent just before a crash: its name leads back to the action, its fills count."""
    name = order_name(StateId(77), b"lost")
    order = VenueOrder(OrdId("L"), name, Side.SELL, Decimal(3), Decimal(67000))
    desk.orders[order.ord_id] = order
    desk.match(order, "1", "67000")
    desk.feed(SessionDown("cut"))
    desk.feed(SessionUp())
    desk.snapshot(orders=(order.report(),), fills=tuple(order.fills), position=held(desk, "-1"))
    assert desk.state.ready
    assert desk.told == [("execution", "L", (), 0.0)]
    (info,) = desk.state.orders
    assert info.state_id == 77
    assert info.exposure == 2


def test_order_missing_on_the_exchange_without_fills_was_cancelled(desk: Desk) -> None:
    """The exchange forgets an unfilled cancelled order after two hours."""
    a = desk.place("A", Side.BUY, "2")
    desk.feed(SessionDown("cut"))
    desk.tick(3 * 3600)
    desk.feed(SessionUp())
    desk.snapshot(seen_ms=desk.now // 1_000_000)
    desk.feed(LookupAnswer(desk.now, desk.last(LookUpOrder).cl_ord_id, None))
    info = desk.state.orders.find(a.cl_ord_id)
    assert info is not None
    assert info.order_state is OrderState.CANCELED
    assert desk.state.orders.exposure[Side.BUY] == 0


def test_order_just_accepted_is_not_declared_gone_by_a_lagging_query(desk: Desk) -> None:
    a = desk.place("A", Side.BUY, "2")
    desk.feed(SessionDown("cut"))
    desk.feed(SessionUp())
    desk.tick(1)
    desk.snapshot(seen_ms=desk.now // 1_000_000)
    desk.feed(LookupAnswer(desk.now, a.cl_ord_id, None))
    assert desk.state.orders.exposure[Side.BUY] == 2


def test_restart_puts_unanswered_submits_in_doubt(desk: Desk) -> None:
    desk.act()
    desk.feed(Started(RULES))
    (order,) = desk.state.orders
    assert order.outcome_unknown
    desk.feed(SessionUp())
    desk.snapshot()
    assert desk.last(LookUpOrder).cl_ord_id == order.cl_ord_id


def test_change_over_between_two_sessions_does_not_stop_actions(desk: Desk) -> None:
    """Ahead of an upgrade the second session is reconciled while the first still serves."""
    desk.feed(SessionUp())
    assert desk.state.ready
    a = desk.place("A", Side.BUY, "1")
    desk.fill(a, "1", "67000")
    desk.snapshot(orders=(a.report(),), fills=tuple(a.fills), position=held(desk, "1"))
    assert desk.state.ready
    assert desk.state.book.position == 1


def test_balance_follows_the_newest_word(desk: Desk) -> None:
    desk.feed(AccountUpdate(Decimal(5000), 100))
    desk.feed(AccountUpdate(Decimal(4000), 99))
    assert desk.state.balance == 5000
    desk.tick(61)
    desk.snapshot(balance="1")
    assert desk.state.balance == 5000


def test_drawdown_of_the_snapshot_counts(desk: Desk) -> None:
    desk.fill(desk.place("A", Side.BUY, "1"), "1", "67000")
    desk.feed(SessionDown("cut"))
    desk.feed(SessionUp())
    desk.snapshot(position=attrs.evolve(held(desk, "1"), upl_ratio=-0.3))
    assert desk.state.book.trade is not None
    assert desk.state.book.trade.max_drawdown == -0.3


def test_answers_after_the_link_fell_settle_their_orders(desk: Desk) -> None:
    desk.act()
    name = desk.last(PlaceOrder).cl_ord_id
    desk.feed(SessionDown("cut"))
    desk.feed(OrderAnswer(name, Verdict.UNKNOWN))
    (order,) = desk.state.orders
    assert order.outcome_unknown
    assert not desk.all(PublishRejection)


@pytest.mark.parametrize("end", [SessionDown("cut again"), Started(RULES)])
def test_drawdown_told_while_reconciling_outlives_the_link_and_the_process(
    desk: Desk, end: SessionDown | Started
) -> None:
    a = desk.place("A", Side.BUY, "2")
    desk.fill(a, "2", "67000")
    desk.feed(SessionDown("cut"))
    desk.feed(SessionUp())
    desk.position("2", upl_ratio=-0.25)
    desk.feed(end)
    desk.feed(SessionUp())
    desk.snapshot(position=held(desk, "2"))
    desk.fill(desk.place("B", Side.SELL, "2"), "2", "67100")
    assert desk.told[-1][0] == "closure"
    assert desk.told[-1][3] == pytest.approx(2 * 0.5)


def test_drawdown_of_a_trade_opened_while_away_waits_for_its_fill(desk: Desk) -> None:
    a = desk.place("A", Side.BUY, "2")
    desk.feed(SessionDown("cut"))
    desk.match(a, "2", "67000")
    desk.feed(SessionUp())
    desk.position("2", upl_ratio=-0.25)
    desk.feed(SessionDown("cut again"))
    desk.feed(SessionUp())
    desk.snapshot(position=held(desk, "2"), orders=(a.report(),), fills=tuple(a.fills))
    desk.fill(desk.place("B", Side.SELL, "2"), "2", "67100")
    assert desk.told[-1][0] == "closure"
    assert desk.told[-1][3] == pytest.approx(2 * 0.5)
