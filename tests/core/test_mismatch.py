"""A position that our fills do not explain: it stops orders, until it is explained or adopted."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest

from oms_trio.core.effects import (
    Alert,
    PlaceOrder,
    PublishClosure,
    PublishRejection,
    Readiness,
    RequestListing,
    RequestSnapshot,
)
from oms_trio.core.events import Command, Listing, OrderUpdate, SessionDown, SessionUp, Verb
from oms_trio.core.model import Cause, ClOrdId, Fill, OrderReport, OrderState, OrdId, Side, TradeId
from tests.core.desk import RULES, SECOND, START_NS, Desk

HAND = Decimal(200)


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.start()
    return desk


def alerts(desk: Desk) -> list[str]:
    return [alert.event for alert in desk.all(Alert)]


def trade_by_hand(desk: Desk) -> None:
    """Somebody buys 200 contracts: a match of no order of ours."""
    desk.trade_id += 1
    desk.by_hand += HAND


def test_position_mismatch_stops_orders_though_fills_keep_coming(desk: Desk) -> None:
    """A fill a second, each followed by its position report, and a check that always meets one."""
    trade_by_hand(desk)
    orders = desk.place("A", Side.BUY, "100"), desk.place("B", Side.SELL, "100")
    for second in range(5):
        desk.fill(orders[second % 2], "1", "67000")
        desk.report_position()
        desk.tick(0.5)
        if desk.state.sync.snapshot_requested:
            desk.fill(orders[second % 2], "1", "67000")
            desk.snapshot(position=desk.held)
        desk.tick(0.5)
    assert not desk.state.ready
    assert alerts(desk) == ["position_mismatch"]
    assert "our fills explain" in desk.state.sync.why
    sent = len(desk.all(PlaceOrder))
    desk.act(9)
    assert len(desk.all(PlaceOrder)) == sent
    assert "our fills explain" in desk.last(PublishRejection).detail


def test_report_that_is_older_than_our_fills_is_no_mismatch(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "100")
    desk.fill(order, "1", "67000")
    before = desk.held
    for _ in range(20):
        desk.fill(order, "1", "67000")
        desk.report_position(before)
        desk.tick(0.25)
    assert desk.state.ready
    assert desk.state.sync.differs_since_ns is None


def test_mismatch_that_is_traded_back_lets_orders_go_again(desk: Desk) -> None:
    trade_by_hand(desk)
    desk.report_position()
    desk.tick(4)
    assert not desk.state.ready
    desk.trade_id += 1
    desk.by_hand = Decimal(0)
    desk.report_position()
    assert desk.state.ready


def test_difference_that_lasts_is_looked_into_again_soon(desk: Desk) -> None:
    """The reads show the end of it late, and no push ever tells: the usual check may be far away."""
    trade_by_hand(desk)
    desk.report_position()
    desk.state.rules = attrs.evolve(desk.state.rules, check_every_ns=900 * SECOND)
    before = desk.held
    for _ in range(60):
        desk.tick(1)
        if desk.state.sync.snapshot_requested:
            desk.snapshot(position=before)
    assert not desk.state.ready
    desk.trade_id += 1
    desk.by_hand = Decimal(0)
    for _ in range(30):
        desk.tick(1)
        if desk.state.sync.snapshot_requested:
            desk.snapshot(position=desk.held)
    assert desk.state.ready


def test_position_mismatch_stops_the_next_action_though_no_tick_came(desk: Desk) -> None:
    trade_by_hand(desk)
    desk.report_position()
    desk.now += 4 * SECOND
    desk.act(9)
    assert not desk.all(PlaceOrder)
    assert "our fills explain" in desk.last(PublishRejection).detail
    assert alerts(desk) == ["position_mismatch"]


def test_new_link_is_not_ready_before_the_position_agrees(desk: Desk) -> None:
    desk.feed(SessionDown("cut"))
    trade_by_hand(desk)
    desk.feed(SessionUp())
    desk.snapshot(position=desk.held, newest_trade_id=TradeId(desk.trade_id))
    assert not desk.state.ready
    for _ in range(30):
        desk.tick(1)
        if desk.state.sync.snapshot_requested:
            desk.snapshot(position=desk.held, newest_trade_id=TradeId(desk.trade_id))
    assert not desk.state.ready
    assert alerts(desk) == ["position_mismatch"]


def test_reads_that_lag_for_a_minute_put_no_fill_out_of_order(desk: Desk) -> None:
    """What happened while the link was down is shown late; until then nothing later is booked."""
    order = desk.place("A", Side.BUY, "100")
    desk.feed(SessionDown("cut"))
    missed = desk.match(order, "1", "67000")
    desk.feed(SessionUp())
    desk.report_position()
    later = desk.match(order, "1", "67001")
    desk.feed(OrderUpdate(later))
    for _ in range(60):
        desk.tick(1)
        if desk.state.sync.snapshot_requested:
            desk.snapshot()
    assert not desk.state.ready
    assert not desk.told
    assert missed.fill is not None
    assert later.fill is not None
    desk.tick(1)
    desk.snapshot(
        orders=(later,),
        fills=(missed.fill, later.fill),
        position=desk.held,
        newest_trade_id=later.fill.trade_id,
    )
    assert desk.last(Readiness).ready
    assert desk.state.book.position == 2
    assert desk.state.book.last_trade_id == later.fill.trade_id


def say(desk: Desk, verb: Verb) -> None:
    desk.now += 1
    desk.feed(Command(verb, "test"))


def test_adopting_makes_the_position_ours_and_keeps_trading_paused(desk: Desk) -> None:
    desk.fill(desk.place("A", Side.BUY, "1"), "1", "67000")
    trade_by_hand(desk)
    desk.report_position()
    desk.tick(4)
    say(desk, Verb.ADOPT)
    desk.answer_listing()
    desk.carry_on()
    assert desk.state.book.position == 201
    assert desk.state.ready
    assert desk.state.risk.paused == "adopt by test"
    assert alerts(desk)[-2:] == ["position_adopted", "command_done"]
    desk.act(9)
    assert desk.last(PublishRejection).reason.value == "paused"


def test_adopting_waits_for_fills_that_may_be_on_their_way(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "1")
    push = desk.match(order, "1", "67000")
    desk.report_position()
    say(desk, Verb.ADOPT)
    desk.answer_listing()
    assert desk.state.book.position == 0
    desk.feed(OrderUpdate(push))
    desk.tick(1)
    desk.answer_listing()
    assert desk.state.book.position == 1
    assert alerts(desk)[-1] == "command_done"
    assert "position_adopted" not in alerts(desk)


def test_adopting_does_not_book_a_fill_whose_push_was_missed(desk: Desk) -> None:
    """The check that finds it comes later than the operator."""
    order = desk.place("A", Side.BUY, "2")
    desk.match(order, "2", "67000")
    desk.report_position()
    say(desk, Verb.ADOPT)
    for _ in range(20):
        desk.tick(1)
        desk.answer_listing()
    assert desk.state.book.position == 0
    desk.carry_on()
    assert desk.state.book.position == 2
    assert len(desk.told) == 1
    assert "position_adopted" not in alerts(desk)


def test_adopting_waits_for_a_list_of_fills_that_reaches_up_to_the_position(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "2")
    desk.match(order, "2", "67000")
    desk.report_position()
    say(desk, Verb.ADOPT)
    for _ in range(60):
        desk.tick(1)
        if desk.state.sync.snapshot_requested:
            desk.snapshot(position=desk.held)
        desk.answer_listing()
    assert desk.state.book.position == 0
    desk.carry_on(70)
    assert desk.state.book.position == 2
    assert "position_adopted" not in alerts(desk)


def test_adopting_books_only_once_reconciled(desk: Desk) -> None:
    desk.feed(SessionDown("cut"))
    trade_by_hand(desk)
    say(desk, Verb.ADOPT)
    for _ in range(10):
        desk.answer_listing()
        desk.tick(1)
    assert desk.state.book.position == 0
    desk.feed(SessionUp())
    desk.snapshot(position=desk.held, newest_trade_id=TradeId(desk.trade_id))
    for _ in range(5):
        desk.tick(1)
        if desk.state.risk.command:
            desk.answer_listing()
    assert desk.state.book.position == 200
    assert desk.state.ready


def test_flatten_closes_what_the_exchange_lists_not_what_we_believe(desk: Desk) -> None:
    trade_by_hand(desk)
    say(desk, Verb.FLATTEN)
    desk.answer_listing()
    closing = desk.last(PlaceOrder)
    assert (closing.side, closing.sz, closing.reduce_only) == (Side.SELL, HAND, True)
    assert "position_flat" not in alerts(desk)
    order = desk.accept("F")
    desk.fill(order, "200", "67000")
    desk.report_position()
    desk.carry_on()
    assert desk.held.pos == 0
    assert desk.state.book.position == 0
    assert alerts(desk)[-1] == "command_done"
    assert len(desk.all(PlaceOrder)) == 1


def test_flatten_of_a_position_that_is_gone_at_the_exchange_sends_nothing(desk: Desk) -> None:
    """Liquidated, and nobody has reported it: each reduce-only order would be refused."""
    desk.fill(desk.place("A", Side.BUY, "3"), "3", "67000")
    sent = len(desk.all(PlaceOrder))
    desk.by_hand = Decimal(-3)
    desk.trade_id += 1
    say(desk, Verb.FLATTEN)
    desk.carry_on()
    assert len(desk.all(PlaceOrder)) == sent
    assert desk.state.book.position == 0
    assert alerts(desk)[-1] == "command_done"


def test_flatten_gives_up_loudly_when_the_exchange_refuses(desk: Desk) -> None:
    trade_by_hand(desk)
    say(desk, Verb.FLATTEN)
    for _ in range(100):
        if not desk.state.risk.command:
            break
        sent = len(desk.all(PlaceOrder))
        desk.answer_listing()
        if len(desk.all(PlaceOrder)) > sent:
            desk.refuse()
        desk.tick(1)
    assert alerts(desk)[-1] == "flatten_failed"
    assert len(desk.all(PlaceOrder)) == 20
    risk = desk.state.risk
    before = risk.flattening
    say(desk, Verb.RESUME)
    assert (before, risk.flattening) == (True, False)


@pytest.mark.parametrize("verb", [Verb.KILL, Verb.CANCEL_ALL, Verb.FLATTEN])
def test_orders_that_only_the_exchange_knows_are_cancelled_before_reconciliation(
    desk: Desk, verb: Verb
) -> None:
    desk.feed(SessionDown("cut"))
    say(desk, verb)
    unknown = OrderReport(
        ord_id=OrdId("X"),
        cl_ord_id=ClOrdId("oms00000007deadbeefdeadbeef0001"),
        tag=RULES.tag,
        side=Side.BUY,
        ord_type="limit",
        state=OrderState.LIVE,
        px=Decimal(67000),
        sz=Decimal(1),
        acc_fill_sz=Decimal(0),
        avg_px=None,
        c_time_ms=START_NS // 1_000_000,
        u_time_ms=START_NS // 1_000_000,
    )
    request = desk.last(RequestListing).request
    effects = desk.feed(Listing(desk.now, request, (unknown,), None))
    assert [(unknown.cl_ord_id, unknown.ord_id)] == [
        pair for effect in effects if hasattr(effect, "orders") for pair in effect.orders
    ]
    assert desk.state.risk.command
    desk.tick(1)
    desk.answer_listing()
    assert not desk.state.risk.cancelling or verb is Verb.FLATTEN


def test_kill_reaches_orders_behind_an_adopted_one(desk: Desk) -> None:
    """The exchange's clock is 120 s ahead: an adopted order seems younger than it is."""
    desk.feed(SessionUp(offset_ns=120_000_000_000))
    desk.snapshot()
    theirs = desk.place("A", Side.BUY, "1")
    name = theirs.cl_ord_id
    desk.state.orders.open.pop(name)
    desk.state.orders.names.clear()
    desk.feed(OrderUpdate(attrs.evolve(theirs.report(), c_time_ms=desk.now // 1_000_000 + 120_000)))
    younger = desk.place("B", Side.BUY, "1")
    say(desk, Verb.KILL)
    cancelled = {
        pair for effect in desk.effects if hasattr(effect, "orders") for pair in effect.orders
    }
    assert cancelled == {(name, theirs.ord_id), (younger.cl_ord_id, younger.ord_id)}


def test_fill_sent_just_before_a_kill_is_within_the_watermark_whatever_our_clock_says() -> None:
    """Our clock is 90 s ahead of the exchange's."""
    desk = Desk()
    desk.start()
    desk.feed(SessionUp(offset_ns=-90_000_000_000))
    desk.snapshot()
    desk.tick(61)
    desk.snapshot()
    desk.feed(SessionDown("killed"))
    asked_ms = desk.now // 1_000_000 - 90_000
    desk.tick(1)
    desk.feed(SessionUp(offset_ns=-90_000_000_000))
    assert desk.last(RequestSnapshot).since_ms == asked_ms - 60_000


def test_fills_of_the_exchange_s_own_orders_are_fills_of_our_trade(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "3")
    desk.fill(order, "3", "67000")
    fill = Fill(
        OrdId("L"), TradeId(desk.trade_id + 1), Decimal(60000), Decimal(3), START_NS // 1_000_000
    )
    push = attrs.evolve(
        order.report(fill),
        ord_id=OrdId("L"),
        cl_ord_id=ClOrdId(""),
        tag="",
        side=Side.SELL,
        state=OrderState.FILLED,
        category="full_liquidation",
        u_time_ms=START_NS // 1_000_000 + 5000,
    )
    desk.feed(OrderUpdate(push))
    assert desk.state.book.position == 0
    assert desk.state.risk.paused == "the exchange closed 3 contracts (liquidation)"
    assert desk.told[-1][0] == "closure"


def test_position_that_a_liquidation_left_keeps_the_trade_id_from_before(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "3")
    desk.fill(order, "3", "67000")
    before = desk.trade_id
    push = desk.match(desk.place("L", Side.SELL, "3"), "3", "60000")
    desk.state.orders.open.clear()
    push = attrs.evolve(
        push, ord_id=OrdId("L2"), cl_ord_id=ClOrdId(""), tag="", category="full_liquidation"
    )
    assert push.fill is not None
    push = attrs.evolve(push, fill=attrs.evolve(push.fill, ord_id=OrdId("L2")))
    desk.feed(OrderUpdate(push))
    desk.report_position(attrs.evolve(desk.held, pos=Decimal(0), trade_id=TradeId(before)))
    desk.tick(4)
    assert desk.state.book.position == 0
    assert desk.last(Readiness).ready


def test_closing_order_of_a_process_that_died_is_nobody_s_action(desk: Desk) -> None:
    """It was sent, and then everything that this process knew of it was lost."""
    order = desk.place("A", Side.BUY, "3")
    desk.fill(order, "3", "67000")
    told = len(desk.told)
    say(desk, Verb.FLATTEN)
    desk.answer_listing()
    closing = desk.accept("F")
    desk.state.orders.open.clear()
    desk.state.orders.names.clear()
    desk.fill(closing, "3", "66000")
    assert desk.state.book.position == 0
    (closure,) = desk.told[told:]
    assert closure[0] == "closure"
    assert desk.last(PublishClosure).cause is Cause.OPERATOR
    assert desk.last(PublishClosure).state_id == 1


def test_deleveraging_while_the_link_was_down_is_no_lag_of_the_reads(desk: Desk) -> None:
    """The position's last match is older than what is asked for, and its change is not."""
    order = desk.place("A", Side.BUY, "12")
    desk.fill(order, "12", "67000")
    held = desk.held
    desk.tick(61)
    desk.snapshot(position=held)
    desk.tick(600)
    desk.snapshot(position=held)
    desk.feed(SessionDown("cut"))
    desk.tick(1)
    desk.feed(SessionUp())
    at_ms = desk.now // 1_000_000
    fill = Fill(OrdId("L"), TradeId(-9), Decimal(66000), Decimal(3), at_ms)
    taken = attrs.evolve(
        order.report(),
        ord_id=OrdId("L"),
        cl_ord_id=ClOrdId(""),
        tag="",
        side=Side.SELL,
        sz=Decimal(3),
        acc_fill_sz=Decimal(3),
        state=OrderState.FILLED,
        category="adl",
        u_time_ms=at_ms,
    )
    position = attrs.evolve(held, pos=Decimal(9), u_time_ms=at_ms)
    desk.snapshot(orders=(taken,), fills=(fill,), position=position)
    assert desk.state.book.position == 9
    assert desk.last(Readiness).ready
