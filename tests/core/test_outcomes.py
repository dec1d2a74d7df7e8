"""Submits and cancels: three outcomes, evidence before conclusions, one order per action."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import attrs
import pytest

from oms_trio.core.effects import (
    CancelOrders,
    LookUpOrder,
    PlaceOrder,
    PublishRejection,
    SettleDelivery,
)
from oms_trio.core.events import (
    CancelAnswer,
    Command,
    Drain,
    LookupAnswer,
    OrderAnswer,
    OrderUpdate,
    SessionUp,
    Started,
    Verb,
    Verdict,
)
from oms_trio.core.model import (
    CancelState,
    ClOrdId,
    OrderState,
    OrderType,
    OrdId,
    RejectReason,
    Side,
)
from oms_trio.core.orders import MOVES, OrderInfo
from oms_trio.core.state import TradeState
from tests.core.desk import RULES, SECOND, Desk, VenueOrder


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.start(balance="10000")
    return desk


def answer(
    desk: Desk,
    verdict: Verdict,
    *,
    ord_id: str | None = None,
    code: str = "",
    detail: str = "",
    reason: RejectReason = RejectReason.EXCHANGE,
) -> None:
    name = desk.last(PlaceOrder).cl_ord_id
    named = None if ord_id is None else OrdId(ord_id)
    desk.feed(OrderAnswer(name, verdict, named, code, detail, reason))


def info(desk: Desk, name: ClOrdId) -> OrderInfo:
    order = desk.state.orders.find(name)
    assert order is not None
    return order


def absent(desk: Desk, asked_at_ns: int | None = None) -> None:
    name = desk.last(LookUpOrder).cl_ord_id
    desk.feed(LookupAnswer(desk.now if asked_at_ns is None else asked_at_ns, name, None))


def found(desk: Desk, ord_id: str = "X") -> VenueOrder:
    sent = desk.last(PlaceOrder)
    order = VenueOrder(OrdId(ord_id), sent.cl_ord_id, sent.side, sent.sz, sent.px)
    desk.orders[order.ord_id] = order
    return order


def test_action_becomes_the_order_of_the_example(desk: Desk) -> None:
    desk.act(7, price="-0.25", volume="3", mid="67000.00")
    sent = desk.last(PlaceOrder)
    assert (sent.side, sent.ord_type) == (Side.BUY, OrderType.LIMIT)
    assert (sent.px, sent.sz) == (Decimal("66983.2"), Decimal("4.5"))
    assert sent.expires_at_ns == desk.now + 5 * SECOND
    assert desk.all(SettleDelivery)[-1].dead_letter is None


def test_order_name_holds_the_state_id_and_fits_the_exchange(desk: Desk) -> None:
    """1 to 32 letters and digits, no hyphen: the exchange refuses others with 51000."""
    for state_id in (0, 7, 4294967295):
        desk.now += 1
        desk.act(state_id, volume="0.01")
        name = desk.last(PlaceOrder).cl_ord_id
        assert name.isalnum()
        assert name.isascii()
        assert len(name) <= 32
        assert int(name[3:11], 16) == state_id


def test_refused_submit_is_told_and_frees_its_exposure(desk: Desk) -> None:
    desk.act(7)
    answer(desk, Verdict.REJECTED, code="51008", detail="no margin")
    refusal = desk.last(PublishRejection)
    assert (refusal.state_id, refusal.reason) == (7, RejectReason.EXCHANGE)
    assert "51008" in refusal.detail
    assert desk.state.orders.exposure[Side.BUY] == 0
    assert not desk.state.orders.open


def test_accepted_submit_waits_for_the_report(desk: Desk) -> None:
    desk.act()
    answer(desk, Verdict.ACCEPTED, ord_id="X")
    name = desk.last(PlaceOrder).cl_ord_id
    assert info(desk, name).order_state is OrderState.PENDING
    assert info(desk, name).has_okx_id
    desk.feed(OrderUpdate(found(desk).report()))
    assert info(desk, name).order_state is OrderState.LIVE


def test_report_before_the_ack_of_its_own_order(desk: Desk) -> None:
    desk.act()
    order = found(desk)
    desk.feed(OrderUpdate(desk.match(order, order.sz, "66983.2")))
    answer(desk, Verdict.ACCEPTED, ord_id="X")
    assert desk.state.book.position == order.sz
    assert len(desk.told) == 1
    assert not desk.state.orders.open


def test_send_exception_is_not_a_failure(desk: Desk) -> None:
    """A submit of unknown outcome keeps its exposure, is looked up, and its fill counts."""
    desk.act()
    answer(desk, Verdict.UNKNOWN, detail="socket lost")
    assert not desk.all(PublishRejection)
    assert desk.state.orders.exposure[Side.BUY] == Decimal("4.5")
    assert desk.last(LookUpOrder).cl_ord_id == desk.last(PlaceOrder).cl_ord_id
    order = found(desk)
    desk.feed(LookupAnswer(desk.now, order.cl_ord_id, order.report()))
    desk.fill(order, "4.5", "66983.2")
    assert desk.state.book.position == Decimal("4.5")
    assert not desk.all(PublishRejection)


def test_unknown_is_never_settled_by_a_timer(desk: Desk) -> None:
    """An hour without an answer to the look-ups changes nothing."""
    desk.act()
    answer(desk, Verdict.UNKNOWN)
    for _ in range(360):
        desk.tick(10)
    assert desk.state.orders.exposure[Side.BUY] == Decimal("4.5")
    assert not desk.all(PublishRejection)


def test_absence_counts_only_when_asked_after_the_expiry(desk: Desk) -> None:
    desk.act()
    answer(desk, Verdict.UNKNOWN)
    absent(desk)
    desk.tick(4)
    absent(desk)
    desk.tick(60)
    desk.show_that_reads_are_not_behind()
    absent(desk, asked_at_ns=desk.now - 59 * SECOND)
    assert not desk.all(PublishRejection)
    absent(desk)
    assert desk.last(PublishRejection).reason is RejectReason.EXCHANGE
    assert desk.state.orders.exposure[Side.BUY] == 0


def test_absence_proves_nothing_while_reads_may_be_behind(desk: Desk) -> None:
    """A reader that lags for a minute and a half, longer than any expiry and grace."""
    desk.act()
    answer(desk, Verdict.UNKNOWN)
    for _ in range(90):
        desk.tick(1)
        absent(desk)
    assert not desk.all(PublishRejection)
    assert desk.state.orders.exposure[Side.BUY] == Decimal("4.5")
    order = found(desk)
    desk.feed(LookupAnswer(desk.now, order.cl_ord_id, order.report()))
    desk.fill(order, "4.5", "66983.2")
    assert desk.state.book.position == Decimal("4.5")


def test_absence_is_believed_after_longer_than_any_read_is_behind(desk: Desk) -> None:
    """On a quiet account nothing ever shows how far the reads have come."""
    desk.act()
    answer(desk, Verdict.UNKNOWN)
    desk.tick(200)
    absent(desk)
    assert desk.last(PublishRejection).reason is RejectReason.EXCHANGE


def test_expiry_is_judged_by_the_exchange_s_clock(desk: Desk) -> None:
    """Our clock is 90 s ahead of the exchange's: what has expired here has not yet there."""
    desk.feed(SessionUp(offset_ns=-90 * SECOND))
    desk.act()
    sent = desk.last(PlaceOrder)
    assert sent.exp_time_ms == (desk.now + 5 * SECOND - 90 * SECOND) // 1_000_000
    answer(desk, Verdict.UNKNOWN)
    desk.feed(SessionUp(offset_ns=0))  # measured anew: it was our clock that was set
    desk.tick(4)
    desk.show_that_reads_are_not_behind()
    absent(desk)
    assert desk.all(PublishRejection)


def test_live_order_survives_any_number_of_not_found_within_two_hours(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "5")
    for _ in range(100):
        desk.tick(60)
        desk.show_that_reads_are_not_behind()
        desk.feed(LookupAnswer(desk.now, order.cl_ord_id, None))
    assert desk.state.orders.exposure[Side.BUY] == 5
    assert info(desk, order.cl_ord_id).order_state is OrderState.LIVE


def test_order_that_was_inferred_to_be_cancelled_comes_back_with_a_report(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "5")
    desk.tick(2 * 3600 + 10)
    desk.show_that_reads_are_not_behind()
    desk.feed(LookupAnswer(desk.now, order.cl_ord_id, None))
    assert info(desk, order.cl_ord_id).order_state is OrderState.CANCELED
    assert desk.state.orders.exposure[Side.BUY] == 0
    desk.feed(OrderUpdate(order.report(u_time_ms=desk.now // 1_000_000)))
    assert info(desk, order.cl_ord_id).order_state is OrderState.LIVE
    assert desk.state.orders.exposure[Side.BUY] == 5
    assert order.cl_ord_id in desk.state.orders.open


def test_evidence_overrules_an_inferred_rejection(desk: Desk) -> None:
    desk.act()
    answer(desk, Verdict.UNKNOWN)
    desk.tick(60)
    desk.show_that_reads_are_not_behind()
    absent(desk)
    assert desk.all(PublishRejection)
    order = found(desk)
    desk.feed(OrderUpdate(order.report()))
    assert desk.state.orders.exposure[Side.BUY] == order.sz
    desk.fill(order, "4.5", "66983.2")
    assert desk.state.book.position == Decimal("4.5")
    assert desk.state.orders.exposure[Side.BUY] == 0


def test_rate_limited_submit_is_sent_again_while_its_action_is_fresh(desk: Desk) -> None:
    desk.act()
    answer(desk, Verdict.RETRY, code="50011", reason=RejectReason.RATE_LIMITED)
    assert len(desk.all(PlaceOrder)) == 1
    desk.tick(1.1)
    first, second = desk.all(PlaceOrder)
    assert first == second
    desk.tick(3)
    answer(desk, Verdict.RETRY, code="50011", reason=RejectReason.RATE_LIMITED)
    assert desk.last(PublishRejection).reason is RejectReason.RATE_LIMITED
    assert desk.state.orders.exposure[Side.BUY] == 0


def test_an_order_of_unknown_outcome_is_looked_up_less_often_as_time_passes(desk: Desk) -> None:
    """On a quiet account the proof takes minutes: to ask every second would be 180 requests."""
    desk.act()
    answer(desk, Verdict.UNKNOWN)
    asked_s: list[int] = []
    for second in range(1, 181):
        asked = len(desk.all(LookUpOrder))
        desk.tick(1)
        if len(desk.all(LookUpOrder)) > asked:
            asked_s.append(second)
    assert asked_s[:5] == [1, 2, 3, 4, 5]
    pauses = [later - sooner for sooner, later in pairwise(asked_s)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10
    assert len(asked_s) < 50


def test_accepted_order_without_any_report_is_looked_up(desk: Desk) -> None:
    desk.act()
    answer(desk, Verdict.ACCEPTED, ord_id="X")
    desk.tick(4)
    assert not desk.all(LookUpOrder)
    desk.tick(2)
    assert desk.all(LookUpOrder)


def test_redelivered_action_that_is_known_is_only_settled(desk: Desk) -> None:
    desk.act(7, body=b"same")
    desk.act(7, body=b"same", redelivered=True)
    assert len(desk.all(PlaceOrder)) == 1
    assert len(desk.all(SettleDelivery)) == 2


def test_order_that_was_to_be_sent_again_may_have_been_sent_before_a_restart(desk: Desk) -> None:
    """The earlier process has sent it again, and died before the record was on disk.

    A second copy would be taken as another order once the first has filled.
    """
    desk.act(7)
    answer(desk, Verdict.RETRY, code="50011", reason=RejectReason.RATE_LIMITED)
    sent = desk.last(PlaceOrder)
    desk.feed(Started(RULES))
    desk.feed(SessionUp())
    desk.snapshot()
    for _ in range(10):
        desk.tick(1)
    assert desk.all(PlaceOrder) == [sent]
    assert desk.last(LookUpOrder).cl_ord_id == sent.cl_ord_id
    assert not desk.all(PublishRejection)
    assert desk.state.orders.exposure[Side.BUY] == sent.sz
    desk.show_that_reads_are_not_behind()
    desk.feed(LookupAnswer(desk.now, sent.cl_ord_id, None))
    assert desk.last(PublishRejection).reason is RejectReason.EXCHANGE


def test_redelivery_is_known_again_though_the_wall_clock_was_set_before_the_restart(
    desk: Desk,
) -> None:
    """Ten minutes forward: by our clock the queue cannot have kept it for so long."""
    desk.act(7, body=b"same")
    desk.now += 600 * SECOND
    desk.feed(Started(RULES))
    desk.now += 2 * SECOND
    desk.feed(SessionUp(offset_ns=-600 * SECOND))
    desk.snapshot(seen_ms=desk.now // 1_000_000)
    desk.act(7, body=b"same", redelivered=True)
    assert len(desk.all(PlaceOrder)) == 1
    assert len(desk.state.orders) == 1
    assert len(desk.all(SettleDelivery)) == 2


def test_same_bytes_again_are_a_new_action(desk: Desk) -> None:
    """Agents restart their state ids: only the broker's flag makes equal bytes a repeat."""
    desk.act(7, body=b"same", volume="0.01")
    desk.act(7, body=b"same", volume="0.01")
    first, second = desk.all(PlaceOrder)
    assert first.cl_ord_id != second.cl_ord_id


def test_same_bytes_flagged_long_after_are_a_new_action(desk: Desk) -> None:
    """The queue drops a message after the action's age, so this cannot be the old one."""
    desk.act(7, body=b"same", volume="0.01")
    desk.tick(60)
    desk.act(7, body=b"same", volume="0.01", redelivered=True)
    assert desk.last(LookUpOrder).cl_ord_id != desk.all(PlaceOrder)[0].cl_ord_id


def test_same_message_id_is_the_same_action_even_without_the_flag(desk: Desk) -> None:
    desk.act(7, body=b"same", message_id="m1")
    desk.act(7, body=b"same", message_id="m1")
    assert len(desk.all(PlaceOrder)) == 1


def test_unknown_redelivery_is_looked_up_before_it_may_be_sent(desk: Desk) -> None:
    """Just after a start, what the earlier process sent may still come alive: never send then."""
    desk.act(7, redelivered=True)
    assert not desk.all(PlaceOrder)
    absent(desk)
    for _ in range(10):
        desk.tick(1)
        desk.show_that_reads_are_not_behind()
        absent(desk)
    assert not desk.all(PlaceOrder)
    assert desk.last(PublishRejection).reason is RejectReason.STALE


def test_after_a_clean_stop_what_expired_in_the_queue_is_rejected_at_once(desk: Desk) -> None:
    """The process that stopped has left no order that is not on record, so there is nothing to wait for."""
    desk.now += 60 * SECOND
    desk.feed(Drain())
    desk.now += 60 * SECOND
    desk.feed(Started(RULES))
    desk.feed(SessionUp())
    desk.act(7, expired=True)
    desk.show_that_reads_are_not_behind()
    desk.snapshot(seen_ms=desk.now // 1_000_000)
    assert desk.last(PublishRejection).reason is RejectReason.STALE
    assert not desk.state.expired


def test_after_a_clean_stop_a_redelivered_action_is_sent_after_one_look(desk: Desk) -> None:
    desk.now += 60 * SECOND
    desk.feed(Drain())
    desk.now += 60 * SECOND
    desk.feed(Started(RULES))
    desk.feed(SessionUp())
    desk.snapshot(seen_ms=desk.now // 1_000_000)
    desk.act(7, redelivered=True)
    assert not desk.all(PlaceOrder)
    desk.show_that_reads_are_not_behind()
    absent(desk)
    assert len(desk.all(PlaceOrder)) == 1


def test_redelivery_that_turns_stale_after_its_decision_was_settled_and_is_no_dead_letter(
    desk: Desk,
) -> None:
    """On a quiet account that takes minutes: held back, it would fill the prefetch for as long."""
    desk.act(7, redelivered=True)
    (settled,) = desk.all(SettleDelivery)
    assert settled.dead_letter is None
    for _ in range(10):
        desk.tick(1)
        desk.show_that_reads_are_not_behind()
        absent(desk)
    assert desk.last(PublishRejection).reason is RejectReason.STALE
    assert len(desk.all(SettleDelivery)) == 1


def test_unknown_redelivery_in_a_settled_process_is_sent_after_one_look(desk: Desk) -> None:
    desk.tick(60)
    desk.show_that_reads_are_not_behind()
    desk.act(7, redelivered=True)
    assert not desk.all(PlaceOrder)
    absent(desk)
    assert desk.last(PlaceOrder).cl_ord_id == desk.last(LookUpOrder).cl_ord_id


def test_unknown_redelivery_is_not_sent_while_reads_may_not_show_the_earlier_process(
    desk: Desk,
) -> None:
    desk.tick(60)
    desk.act(7, redelivered=True)
    absent(desk)
    assert not desk.all(PlaceOrder)


def test_unknown_redelivery_that_exists_is_adopted(desk: Desk) -> None:
    desk.act(7, redelivered=True)
    name = desk.last(LookUpOrder).cl_ord_id
    order = VenueOrder(OrdId("X"), name, Side.BUY, Decimal(9), Decimal(67000))
    desk.orders[order.ord_id] = order
    desk.feed(LookupAnswer(desk.now, name, order.report()))
    desk.fill(order, "9", "67000")
    assert not desk.all(PlaceOrder)
    assert desk.state.book.position == 9


def test_action_that_the_journal_knows_is_only_settled(desk: Desk) -> None:
    """Its message id came so long ago that memory has forgotten it."""
    desk.act(7, message_id="m", known=True)
    assert not desk.all(PlaceOrder)
    assert len(desk.all(SettleDelivery)) == 1


def settle(desk: Desk) -> None:
    """Reconcile once more, after all that an earlier process may have sent has expired."""
    desk.tick(61)
    desk.snapshot(seen_ms=desk.now // 1_000_000)


def test_action_that_expired_in_the_queue_is_rejected_once(desk: Desk) -> None:
    settle(desk)
    desk.act(7, message_id="m", expired=True)
    assert desk.last(SettleDelivery).dead_letter is None  # it is there already
    assert desk.last(PublishRejection).reason is RejectReason.STALE
    desk.act(7, message_id="m", expired=True, body=b"7 %d" % desk.now)
    assert len(desk.all(PublishRejection)) == 1
    assert not desk.all(PlaceOrder)


def test_expired_action_of_which_an_earlier_process_made_an_order_is_not_rejected(
    desk: Desk,
) -> None:
    """It died after it had sent the order and before it had the action on disk."""
    desk.act(7, message_id="m", expired=True)
    assert not desk.all(SettleDelivery)
    (name,) = desk.state.expired
    order = VenueOrder(OrdId("X"), name, Side.BUY, Decimal(9), Decimal(67000))
    desk.orders[order.ord_id] = order
    desk.tick(9)
    desk.snapshot(orders=(order.report(),), seen_ms=desk.now // 1_000_000)
    assert len(desk.all(SettleDelivery)) == 1
    assert not desk.all(PublishRejection)
    assert desk.state.orders.exposure[Side.BUY] == 9


def test_undecided_expired_action_survives_a_restart(desk: Desk) -> None:
    """It comes again, and the journal knows it."""
    desk.act(7, message_id="m", expired=True)
    desk.feed(Started(RULES))
    desk.feed(SessionUp())
    desk.snapshot(seen_ms=desk.now // 1_000_000)
    body = b"7 %d" % desk.now
    desk.act(7, message_id="m", expired=True, known=True, redelivered=True, body=body)
    settle(desk)
    assert len(desk.all(SettleDelivery)) == 1
    assert len(desk.all(PublishRejection)) == 1


def test_expired_action_is_not_decided_while_reads_may_be_behind(desk: Desk) -> None:
    desk.act(7, message_id="m", expired=True)
    for _ in range(30):
        desk.tick(5)
        if desk.state.sync.snapshot_requested:
            desk.snapshot()
    assert not desk.all(PublishRejection)
    desk.tick(60)
    desk.snapshot()
    assert desk.last(PublishRejection).reason is RejectReason.STALE


def test_undecided_expired_action_counts_against_the_cap_as_the_order_that_it_may_be(
    desk: Desk,
) -> None:
    """An earlier process has sent the order, and reads that are behind do not show it yet.

    The cap is 298.5 contracts, and 295.6 are asked for.
    """
    desk.act(7, message_id="m", expired=True, volume="198")
    (name,) = desk.state.expired
    desk.act(8, volume="3")
    assert desk.last(PlaceOrder).sz == Decimal("2.9")
    desk.act(9, volume="3")
    assert desk.last(PublishRejection).reason is RejectReason.MARGIN_CAP
    desk.act(10, volume="3", price="0.25")
    assert desk.last(PlaceOrder).side is Side.SELL  # which only it makes smaller

    order = VenueOrder(OrdId("X"), name, Side.BUY, Decimal(200), Decimal(67000))
    desk.orders[order.ord_id] = order
    desk.feed(OrderUpdate(order.report()))
    desk.act(11, volume="3")  # what it is counts now, not what it may be
    assert (desk.last(PlaceOrder).side, desk.last(PlaceOrder).sz) == (Side.BUY, Decimal("4.5"))


@pytest.mark.parametrize("order_exists", [True, False])
def test_redelivered_action_that_may_be_an_order_is_rejected_only_once_it_is_known_to_be_none(
    desk: Desk, *, order_exists: bool
) -> None:
    """An earlier process may have sent it; that this one may not says nothing of that."""
    desk.feed(Command(Verb.PAUSE, "test"))
    desk.act(7, message_id="m", redelivered=True)
    assert len(desk.all(SettleDelivery)) == 1  # it holds up no other
    assert not desk.all(PublishRejection)
    (name,) = desk.state.expired
    order = VenueOrder(OrdId("X"), name, Side.BUY, Decimal(9), Decimal(67000))
    desk.tick(9)
    desk.snapshot(orders=(order.report(),) if order_exists else (), seen_ms=desk.now // 1_000_000)
    assert len(desk.all(PublishRejection)) == (0 if order_exists else 1)
    assert len(desk.all(SettleDelivery)) == 1
    desk.act(8, message_id="n", redelivered=True)  # by now nothing can be unknown
    assert desk.last(PublishRejection).reason is RejectReason.PAUSED


def test_decided_expired_action_counts_against_no_cap(desk: Desk) -> None:
    desk.act(7, message_id="m", expired=True, volume="199")
    settle(desk)
    desk.act(8, volume="3")
    assert desk.last(PlaceOrder).sz == Decimal("4.5")


def test_action_that_became_an_order_is_not_rejected_when_a_copy_expires(desk: Desk) -> None:
    desk.act(7, message_id="m")
    desk.act(7, message_id="m", expired=True, body=b"7 %d" % desk.now)
    assert len(desk.all(PlaceOrder)) == 1
    assert not desk.all(PublishRejection)


def test_expired_action_is_told_and_goes_to_the_dead_letters(desk: Desk) -> None:
    desk.act(7, received_ns=desk.now - 6 * SECOND)
    assert desk.last(SettleDelivery).dead_letter == "expired"
    assert desk.last(PublishRejection).reason is RejectReason.STALE


def test_action_before_the_first_reconciliation_is_refused() -> None:
    desk = Desk()
    desk.act(7)
    assert desk.last(PublishRejection).reason is RejectReason.NOT_READY
    assert not desk.all(PlaceOrder)


def test_drain_ends_when_nothing_is_in_flight(desk: Desk) -> None:
    desk.act()
    assert not [effect for effect in desk.feed(Drain()) if "Drained" in repr(effect)]
    answer(desk, Verdict.ACCEPTED, ord_id="X")
    assert "Drained" in repr(desk.effects[-1])
    desk.act(8)
    assert desk.last(PublishRejection).reason is RejectReason.NOT_READY


# The state table


@pytest.mark.parametrize("ended", [OrderState.FILLED, OrderState.CANCELED])
def test_first_terminal_state_counts(ended: OrderState) -> None:
    assert not MOVES[ended]


def test_live_after_partially_filled_changes_nothing(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "3")
    live = order.report()
    desk.fill(order, "1", "67000")
    desk.feed(OrderUpdate(live))
    held = info(desk, order.cl_ord_id)
    assert held.order_state is OrderState.PARTIALLY_FILLED
    assert held.acc_fill_sz == 1


def test_order_information_as_the_mission_lists_it(desk: Desk) -> None:
    order = desk.place("A", Side.BUY, "4", px="67000")
    desk.fill(order, "1", "66990")
    assert info(desk, order.cl_ord_id).okx_order_id == "A"
    assert info(desk, order.cl_ord_id).has_okx_id
    assert info(desk, order.cl_ord_id).volume == 4
    assert info(desk, order.cl_ord_id).filled_size == 1
    assert info(desk, order.cl_ord_id).avg_fill_price == 66990
    assert not info(desk, order.cl_ord_id).is_filled
    assert info(desk, order.cl_ord_id).execution_percentage == 25.0
    assert info(desk, order.cl_ord_id).order_state is OrderState.PARTIALLY_FILLED


def test_orders_placed_by_hand_are_left_alone(desk: Desk) -> None:
    hand = VenueOrder(OrdId("H"), ClOrdId(""), Side.BUY, Decimal(5), Decimal(67000))
    desk.feed(OrderUpdate(attrs.evolve(hand.report(), tag="")))
    assert not desk.state.orders.open
    assert desk.state.foreign_reports == 1


# Old orders


def aged(max_open: int = 300, max_age_s: int | None = None) -> Desk:
    rules = attrs.evolve(
        RULES,
        max_open_orders=max_open,
        max_order_age_ns=None if max_age_s is None else max_age_s * SECOND,
    )
    desk = Desk(TradeState(rules))
    desk.start()
    return desk


def test_oldest_orders_beyond_the_limit_get_one_cancel_request() -> None:
    desk = aged(max_open=2)
    placed = [desk.place(f"A{n}", Side.BUY, "1") for n in range(4)]
    asked = [name for effect in desk.all(CancelOrders) for name, _ in effect.orders]
    assert asked == [placed[0].cl_ord_id, placed[1].cl_ord_id]


def test_orders_past_their_age_are_cancelled_together() -> None:
    desk = aged(max_age_s=60)
    placed = [desk.place(f"A{n}", Side.BUY, "1") for n in range(3)]
    desk.tick(59)
    assert not desk.all(CancelOrders)
    desk.tick(2)
    assert [name for name, _ in desk.last(CancelOrders).orders] == [o.cl_ord_id for o in placed]
    assert len(desk.all(CancelOrders)) == 1


def test_old_order_that_fills_during_its_cancel_counts() -> None:
    desk = aged(max_age_s=60)
    order = desk.place("A", Side.BUY, "1")
    desk.tick(61)
    assert info(desk, order.cl_ord_id).cancel_state is CancelState.REQUESTED
    desk.feed(CancelAnswer(order.cl_ord_id, Verdict.ACCEPTED))
    desk.fill(order, "1", "67000")
    assert desk.state.book.position == 1
    assert info(desk, order.cl_ord_id).order_state is OrderState.FILLED


def test_cancel_is_confirmed_by_the_report_alone() -> None:
    desk = aged(max_age_s=60)
    order = desk.place("A", Side.BUY, "1")
    desk.tick(61)
    desk.feed(CancelAnswer(order.cl_ord_id, Verdict.ACCEPTED))
    assert info(desk, order.cl_ord_id).cancel_state is CancelState.REQUESTED
    assert desk.state.orders.exposure[Side.BUY] == 1
    order.state = OrderState.CANCELED
    desk.feed(OrderUpdate(order.report()))
    assert info(desk, order.cl_ord_id).cancel_state is CancelState.CONFIRMED
    assert desk.state.orders.exposure[Side.BUY] == 0


def test_cancel_of_a_gone_order_asks_how_it_ended_and_does_not_loop() -> None:
    """51400 resolves, it does not retry: one look-up, and the answer ends it."""
    desk = aged(max_age_s=60)
    order = desk.place("A", Side.BUY, "1")
    desk.tick(61)
    desk.feed(CancelAnswer(order.cl_ord_id, Verdict.GONE, "51400"))
    assert desk.last(LookUpOrder).cl_ord_id == order.cl_ord_id
    desk.match(order, "1", "67000")
    desk.feed(LookupAnswer(desk.now, order.cl_ord_id, order.report()))
    desk.snapshot(orders=(order.report(),), fills=tuple(order.fills))
    assert desk.state.book.position == 1
    for _ in range(100):
        desk.tick(1)
    assert len(desk.all(CancelOrders)) == 1


def test_refused_cancel_is_kept_and_tried_again_later() -> None:
    desk = aged(max_age_s=60)
    order = desk.place("A", Side.BUY, "1")
    desk.tick(61)
    desk.feed(CancelAnswer(order.cl_ord_id, Verdict.REJECTED, "51403"))
    assert info(desk, order.cl_ord_id).cancel_state is CancelState.REJECTED
    desk.tick(5)
    assert len(desk.all(CancelOrders)) == 1
    desk.tick(10)
    assert len(desk.all(CancelOrders)) == 2
