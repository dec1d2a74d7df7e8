"""The risk controls: each trips, holds, and lets nothing slip past it."""

from __future__ import annotations

from decimal import Decimal

import attrs
import msgspec
import pytest

from oms_trio.core.effects import (
    Alert,
    CancelOrders,
    Effect,
    LookUpOrder,
    PlaceOrder,
    PublishRejection,
    RequestSnapshot,
)
from oms_trio.core.events import (
    AccountUpdate,
    Command,
    LookupAnswer,
    OrderAnswer,
    OrderUpdate,
    Verb,
    Verdict,
)
from oms_trio.core.model import (
    NEVER,
    ExchangeMs,
    Limits,
    OrderState,
    OrderType,
    PositionReport,
    RejectReason,
    Side,
    TradeId,
)
from oms_trio.core.risk import Control, Risk
from oms_trio.core.state import TradeState
from oms_trio.service.state_codec import digest
from tests.core.desk import BTC, RULES, SECOND, START_NS, Desk, VenueOrder

DAY = 86_400 * SECOND


def desk_with(limits: Limits = RULES.limits) -> Desk:
    """A started desk under these limits."""
    desk = Desk(TradeState(attrs.evolve(RULES, limits=limits)))
    desk.start("10000")
    return desk


def say(desk: Desk, verb: Verb) -> list[Effect]:
    """The operator says something a moment later."""
    desk.now += 1
    return desk.feed(Command(verb, "test"))


def alerts(effects: list[Effect]) -> list[str]:
    return [effect.event for effect in effects if isinstance(effect, Alert)]


def refusals(effects: list[Effect]) -> list[RejectReason]:
    return [effect.reason for effect in effects if isinstance(effect, PublishRejection)]


def accept(desk: Desk, ord_id: str) -> VenueOrder:
    """Have the latest order accepted and told."""
    sent = desk.last(PlaceOrder)
    order = VenueOrder(ord_id, sent.cl_ord_id, sent.side, sent.sz, sent.px)  # type: ignore[arg-type] # a NewType
    desk.orders[order.ord_id] = order
    desk.feed(OrderAnswer(sent.cl_ord_id, Verdict.ACCEPTED, order.ord_id))
    desk.feed(OrderUpdate(order.report()))
    return order


def cancelled(desk: Desk, order: VenueOrder) -> list[Effect]:
    order.state = OrderState.CANCELED
    return desk.feed(OrderUpdate(order.report()))


def test_pause_refuses_until_resumed() -> None:
    desk = desk_with()
    say(desk, Verb.PAUSE)
    assert refusals(desk.act(1)) == [RejectReason.PAUSED]
    say(desk, Verb.RESUME)
    assert refusals(desk.act(2)) == []
    assert desk.last(PlaceOrder).sz == Decimal("4.5")


@pytest.mark.parametrize("verb", [Verb.KILL, Verb.FLATTEN, Verb.CANCEL_ALL])
def test_open_orders_are_cancelled_with_the_word_not_with_the_next_tick(verb: Verb) -> None:
    desk = desk_with()
    order = desk.place("a", Side.BUY, "2")
    waiting = desk.last(PlaceOrder)
    assert not desk.state.risk.is_withdrawn(waiting)
    effects = say(desk, verb)
    assert CancelOrders(((order.cl_ord_id, order.ord_id),), BTC.inst_id_code) in effects
    assert desk.state.risk.is_withdrawn(waiting)
    assert not desk.state.risk.is_withdrawn(attrs.evolve(waiting, reduce_only=True))


def test_cancel_all_leaves_trading_on() -> None:
    desk = desk_with()
    say(desk, Verb.CANCEL_ALL)
    desk.now += 1
    assert refusals(desk.act(1)) == []
    assert not [effect for effect in desk.tick() if isinstance(effect, CancelOrders)]


def test_an_order_that_is_named_after_the_kill_is_cancelled_then() -> None:
    desk = desk_with()
    desk.act(1)
    say(desk, Verb.KILL)
    assert not desk.all(CancelOrders)
    order = accept(desk, "a")
    desk.tick()
    assert desk.last(CancelOrders).orders == ((order.cl_ord_id, order.ord_id),)


@pytest.mark.parametrize("verb", [Verb.PAUSE, Verb.KILL, Verb.CANCEL_ALL])
def test_what_was_never_sent_is_not_sent_again_after_the_word(verb: Verb) -> None:
    """A refusal for want of room ("retry") would otherwise send a new order after the kill."""
    desk = desk_with()
    desk.act(1)
    sent = desk.last(PlaceOrder)
    desk.feed(OrderAnswer(sent.cl_ord_id, Verdict.RETRY, code="50011"))
    effects = say(desk, verb)
    assert refusals(effects) == [RejectReason.PAUSED]
    desk.tick(2)
    assert desk.all(PlaceOrder) == [sent]
    assert not len(desk.state.orders)


def test_a_redelivered_action_that_is_looked_up_is_not_sent_after_a_pause() -> None:
    desk = desk_with()
    desk.now += 20 * SECOND
    desk.show_that_reads_are_not_behind()
    desk.act(1, redelivered=True)
    asked = desk.last(LookUpOrder)
    say(desk, Verb.PAUSE)
    effects = desk.feed(LookupAnswer(desk.now, asked.cl_ord_id, None))
    assert refusals(effects) == [RejectReason.PAUSED]
    assert not desk.all(PlaceOrder)


def test_flatten_closes_what_is_open_once_nothing_can_change_it_any_more() -> None:
    """The fill that races with the cancel decides how much there is to close."""
    desk = desk_with()
    order = desk.place("a", Side.BUY, "4.5")
    desk.fill(order, "2", "67000")
    say(desk, Verb.FLATTEN)
    assert len(desk.all(PlaceOrder)) == 1
    desk.fill(order, "1", "67000")
    desk.answer_listing()
    desk.tick()
    assert len(desk.all(PlaceOrder)) == 1
    cancelled(desk, order)
    desk.tick()
    desk.answer_listing()
    closing = desk.last(PlaceOrder)
    assert (closing.side, closing.ord_type) == (Side.SELL, OrderType.MARKET)
    assert (closing.sz, closing.px, closing.reduce_only) == (Decimal(3), None, True)
    close = accept(desk, "b")
    desk.fill(close, "3", "66990")
    assert desk.state.book.position == 0
    desk.tick(2)
    assert alerts(desk.answer_listing()) == ["position_flat", "command_done"]
    assert desk.tick() == []
    assert refusals(desk.act(9)) == [RejectReason.PAUSED]


def test_flatten_of_nothing_says_so_at_once() -> None:
    desk = desk_with()
    say(desk, Verb.FLATTEN)
    assert alerts(desk.answer_listing()) == ["position_flat", "command_done"]


def flattening() -> Desk:
    desk = desk_with()
    desk.fill(desk.place("a", Side.SELL, "2"), "2", "67000")
    say(desk, Verb.FLATTEN)
    desk.answer_listing()
    assert desk.last(PlaceOrder).reduce_only
    return desk


def test_a_closing_order_is_neither_called_off_nor_placed_twice() -> None:
    desk = flattening()
    accept(desk, "b")
    desk.tick(3)
    desk.answer_listing()
    assert not desk.all(CancelOrders)
    assert len(desk.all(PlaceOrder)) == 2


def test_a_refused_closing_order_is_repeated_calmly_and_no_agent_hears_of_it() -> None:
    desk = flattening()
    sent = desk.last(PlaceOrder)
    effects = desk.feed(OrderAnswer(sent.cl_ord_id, Verdict.REJECTED, code="51008"))
    assert refusals(effects) == []
    assert [effect.event for effect in effects if isinstance(effect, Alert)] == ["flatten_rejected"]
    desk.tick(0.5)
    assert desk.last(PlaceOrder) == sent
    desk.tick(0.5)
    desk.answer_listing()
    again = desk.last(PlaceOrder)
    assert again.cl_ord_id != sent.cl_ord_id
    assert (again.sz, again.reduce_only) == (sent.sz, True)


def test_a_closing_order_for_which_there_was_no_room_is_sent_again_though_paused() -> None:
    desk = flattening()
    sent = desk.last(PlaceOrder)
    desk.feed(OrderAnswer(sent.cl_ord_id, Verdict.RETRY, code="50011"))
    desk.tick(1)
    assert desk.all(PlaceOrder)[-2:] == [sent, sent]


def listed_after(desk: Desk, seconds: float) -> list[Effect]:
    desk.tick(seconds)
    return desk.answer_listing()


def test_a_closing_order_of_unknown_outcome_is_followed_by_another_once_it_has_expired() -> None:
    """On a quiet account it is proved absent only after minutes, and the position is open meanwhile."""
    desk = flattening()
    sent = desk.last(PlaceOrder)
    desk.feed(OrderAnswer(sent.cl_ord_id, Verdict.UNKNOWN))
    for _ in range(7):
        listed_after(desk, 1)
    assert desk.last(PlaceOrder) == sent
    listed_after(desk, 1)
    again = desk.last(PlaceOrder)
    assert again.cl_ord_id != sent.cl_ord_id
    assert (again.side, again.sz, again.reduce_only) == (sent.side, sent.sz, True)

    desk.feed(OrderAnswer(again.cl_ord_id, Verdict.REJECTED, code="51169"))
    for _ in range(7):
        desk.tick(1)  # the first may have closed the position, and reads do not show it yet
    assert desk.last(PlaceOrder) == again
    listed_after(desk, 1)
    desk.fill(accept(desk, "b"), "2", "67010")
    assert "command_done" not in alerts(listed_after(desk, 8))
    desk.show_that_reads_are_not_behind()
    desk.feed(LookupAnswer(desk.now, sent.cl_ord_id, None))
    assert alerts(listed_after(desk, 8)) == ["position_flat", "command_done"]


def test_an_order_of_unknown_outcome_holds_up_flattening_only_until_it_has_expired() -> None:
    desk = desk_with()
    desk.fill(desk.place("a", Side.SELL, "2"), "2", "67000")
    desk.act(2)
    doubtful = desk.last(PlaceOrder)
    desk.feed(OrderAnswer(doubtful.cl_ord_id, Verdict.UNKNOWN))
    say(desk, Verb.FLATTEN)
    for _ in range(7):
        listed_after(desk, 1)
    assert desk.last(PlaceOrder) == doubtful
    listed_after(desk, 1)
    desk.fill(accept(desk, "b"), "2", "67010")
    assert desk.state.book.position == 0
    assert "command_done" not in alerts(listed_after(desk, 1))  # it may rest, for all that is known
    desk.show_that_reads_are_not_behind()
    desk.feed(LookupAnswer(desk.now, doubtful.cl_ord_id, None))
    assert alerts(listed_after(desk, 1)) == ["position_flat", "command_done"]


def test_resuming_ends_flattening() -> None:
    desk = flattening()
    order = accept(desk, "b")
    say(desk, Verb.RESUME)
    cancelled(desk, order)
    desk.tick(2)
    desk.answer_listing()
    assert len(desk.all(PlaceOrder)) == 2


def test_an_order_above_the_size_limit_is_refused() -> None:
    desk = desk_with(Limits(max_order_contracts=Decimal("4.4")))
    assert refusals(desk.act(1)) == [RejectReason.MARGIN_CAP]
    assert refusals(desk.act(2, volume="2.9")) == []
    assert desk.state.risk.acted == {Control.ORDER_SIZE: 1}


def test_orders_above_the_rate_limit_are_refused_for_the_rest_of_the_second() -> None:
    desk = desk_with(Limits(max_orders_per_second=2))
    reasons = [refusals(desk.act(number, volume="0.1")) for number in range(3)]
    assert reasons == [[], [], [RejectReason.RATE_LIMITED]]
    desk.now += SECOND
    assert refusals(desk.act(4, volume="0.1")) == []
    assert desk.state.risk.acted == {Control.ORDER_RATE: 1}


def mark(desk: Desk, px: str) -> None:
    report = PositionReport(Decimal(0), None, None, TradeId(0), 1, Decimal(px))
    desk.state._take_position(report, desk.now, desk.effects.append)


def test_a_price_far_from_the_mark_price_is_refused() -> None:
    desk = desk_with(Limits(price_collar=Decimal("0.01")))
    mark(desk, "67000")
    collar = [RejectReason.PRICE_COLLAR]
    assert refusals(desk.act(1, mid="67700")) == collar
    assert refusals(desk.act(2, mid="66300", order_type=OrderType.MARKET)) == collar
    assert refusals(desk.act(3, mid="67600")) == []
    assert desk.state.risk.acted == {Control.PRICE_COLLAR: 2}


@pytest.mark.parametrize(("balance", "mid"), [("2500", "14500"), ("10000", "20200")])
@pytest.mark.parametrize("order_type", OrderType)
def test_a_wrong_mid_is_refused_by_the_collar(
    balance: str, mid: str, order_type: OrderType
) -> None:
    desk = Desk(TradeState(attrs.evolve(RULES, limits=Limits(price_collar=Decimal("0.02")))))
    desk.start(balance)
    mark(desk, "67000")
    effects = desk.act(1, volume="1000", mid=mid, order_type=order_type)
    assert refusals(effects) == [RejectReason.PRICE_COLLAR]


@pytest.mark.parametrize(("balance", "mid"), [("2500", "14500"), ("10000", "20200")])
def test_without_a_collar_a_wrong_mid_is_capped_by_the_mark_price(balance: str, mid: str) -> None:
    desk = Desk()
    desk.start(balance)
    mark(desk, "67000")
    for number in range(3):
        desk.act(number, volume="1000", mid=mid, order_type=OrderType.MARKET)
    sent = sum(order.sz for order in desk.all(PlaceOrder))
    most = 100 * Decimal(balance) * Decimal("0.2")
    assert most - 67 < sent * 670 <= most


def test_without_a_collar_an_order_needs_no_mark_price() -> None:
    desk = desk_with()
    assert desk.state.risk.mark_px is None
    assert refusals(desk.act(1)) == []


@pytest.mark.parametrize("check_s", [15, 60])
def test_a_collar_without_a_recent_mark_price_is_not_ready(check_s: int) -> None:
    """The mark price comes with every check; one of them may fail and take its time."""
    limits = Limits(price_collar=Decimal("0.01"))
    rules = attrs.evolve(RULES, limits=limits, check_every_ns=check_s * SECOND)
    desk = Desk(TradeState(rules))
    desk.start("10000")
    not_ready = [RejectReason.NOT_READY]
    assert refusals(desk.act(1)) == not_ready
    assert "no mark price" in desk.last(PublishRejection).detail
    mark(desk, "67000")
    assert refusals(desk.act(2)) == []
    desk.now += (2 * check_s + 10) * SECOND
    assert refusals(desk.act(3)) == []
    desk.now += 1
    assert refusals(desk.act(4)) == not_ready
    assert desk.state.risk.acted == {Control.PRICE_COLLAR: 2}


def balance(desk: Desk, cash: str) -> list[Effect]:
    desk.now += 1
    return desk.feed(AccountUpdate(Decimal(cash), desk.now // 1_000_000))


def test_a_daily_loss_pauses_and_resuming_counts_anew() -> None:
    desk = desk_with(Limits(max_daily_loss=Decimal(100)))
    balance(desk, "9900.01")
    assert refusals(desk.act(1, volume="0.1")) == []
    balance(desk, "9900")
    assert refusals(desk.act(2)) == [RejectReason.PAUSED]
    assert desk.state.risk.paused_by is Control.DAILY_LOSS
    say(desk, Verb.RESUME)
    balance(desk, "9899")
    assert refusals(desk.act(3, volume="0.1")) == []
    balance(desk, "9799")
    assert refusals(desk.act(4)) == [RejectReason.PAUSED]


def test_a_loss_counts_by_the_utc_day_and_midnight_does_not_resume() -> None:
    desk = desk_with(Limits(max_daily_loss=Decimal(100)))
    balance(desk, "9901")
    desk.now += DAY - desk.now % DAY
    balance(desk, "9850")
    assert refusals(desk.act(1, volume="0.1")) == []
    balance(desk, "9750")
    desk.now += DAY
    balance(desk, "9750")
    assert refusals(desk.act(2)) == [RejectReason.PAUSED]


def test_the_day_of_a_loss_is_that_of_the_time_that_is_passed() -> None:
    risk, limits = Risk(), Limits(max_daily_loss=Decimal(100))
    midnight = 20_000 * 86_400_000
    risk.note_balance(limits, Decimal(10_000), ExchangeMs(midnight - 1))
    assert risk.note_balance(limits, Decimal(9_900), ExchangeMs(midnight - 1)) is not None
    assert risk.note_balance(limits, Decimal(9_900), ExchangeMs(midnight)) is None


@pytest.mark.parametrize("cash", ["0", "-0.01", "-100000"])
def test_without_money_no_position_can_be_opened(cash: str) -> None:
    desk = desk_with()
    balance(desk, cash)
    for order_type in OrderType:
        effects = desk.act(1, volume="1000", order_type=order_type)
        assert refusals(effects) == [RejectReason.BELOW_MIN]
    assert not desk.all(PlaceOrder)


def test_a_drawdown_pauses_and_a_resumed_one_trips_again_only_when_it_was_below() -> None:
    desk = desk_with(Limits(max_drawdown=0.5))
    desk.fill(desk.place("a", Side.BUY, "2"), "2", "67000")
    desk.position("2", -0.49)
    assert desk.state.risk.paused is None
    desk.position("2", -0.5)
    assert desk.state.risk.paused_by is Control.DRAWDOWN
    say(desk, Verb.RESUME)
    desk.position("2", -0.7)
    assert desk.state.risk.paused is None
    desk.position("2", -0.4)
    desk.position("2", -0.6)
    assert desk.state.risk.paused_by is Control.DRAWDOWN


def test_resuming_ahead_of_a_drawdown_forgives_nothing() -> None:
    desk = desk_with(Limits(max_drawdown=0.5))
    desk.fill(desk.place("a", Side.BUY, "2"), "2", "67000")
    desk.position("2", -0.1)
    say(desk, Verb.RESUME)
    desk.position("2", -0.6)
    assert desk.state.risk.paused_by is Control.DRAWDOWN


def test_rejects_in_a_row_pause_and_an_accepted_order_breaks_the_row() -> None:
    desk = desk_with(Limits(max_rejects=2))

    def answer(verdict: Verdict, reason: RejectReason = RejectReason.EXCHANGE) -> None:
        desk.now += 1
        desk.act(len(desk.all(PlaceOrder)) + 1, volume="0.1")
        name = desk.last(PlaceOrder).cl_ord_id
        desk.feed(OrderAnswer(name, verdict, reason=reason))

    answer(Verdict.REJECTED)
    answer(Verdict.ACCEPTED)
    answer(Verdict.REJECTED)
    answer(Verdict.REJECTED, RejectReason.RATE_LIMITED)  # our own: it was never sent
    assert desk.state.risk.paused is None
    answer(Verdict.REJECTED)
    assert desk.state.risk.paused_by is Control.REJECTS
    assert desk.state.risk.is_withdrawn(desk.last(PlaceOrder))


def test_a_refused_account_pauses_at_once_without_any_limit() -> None:
    desk = desk_with()
    desk.act(1)
    name = desk.last(PlaceOrder).cl_ord_id
    said = "50030 no permission to use this API key"
    code, _, detail = said.partition(" ")
    desk.feed(OrderAnswer(name, Verdict.REJECTED, code=code, detail=detail, fatal=True))
    assert (desk.state.risk.paused_by, desk.state.risk.paused) == (Control.EXCHANGE, said)
    assert refusals(desk.act(2)) == [RejectReason.PAUSED]


@pytest.mark.parametrize("verb", [Verb.PAUSE, Verb.KILL, Verb.FLATTEN])
def test_a_pause_survives_being_written_down_and_a_new_start(verb: Verb) -> None:
    desk = desk_with()
    say(desk, verb)
    blob = msgspec.json.encode(desk.state)
    after = Desk(msgspec.json.decode(blob, type=TradeState), now=START_NS + 60 * SECOND)
    assert digest(after.state) == digest(desk.state)
    after.effects = [RequestSnapshot(0, NEVER)]
    after.start("10000")
    assert refusals(after.act(1)) == [RejectReason.PAUSED]


def test_a_state_of_an_earlier_release_has_tripped_nothing() -> None:
    old = msgspec.json.decode(msgspec.json.encode(TradeState(RULES)))
    for name in ("paused_by", "acted", "drawdown_reached", "drawdown_forgiven", "command"):
        del old["risk"][name]
    state = msgspec.json.decode(msgspec.json.encode(old), type=TradeState)
    assert digest(state) == digest(TradeState(RULES))
