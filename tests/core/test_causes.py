"""Whose order a fill is of: what liquidation, ADL and the operator do to a trade of the agent."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest

from oms_trio.core.effects import PublishClosure, PublishExecution
from oms_trio.core.model import Cause, OrdId, RewardUnit, Side
from tests.core.booking import Booking
from tests.core.desk import RULES

OTHERS = pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.AGENT])


@OTHERS
def test_a_trade_that_others_close_is_told_to_the_agent_that_opened_it(cause: Cause) -> None:
    booking = Booking()
    first = booking.order("A", Side.BUY, "2")
    booking.fill(first, "2", "67000")
    booking.fill(booking.order("B", Side.BUY, "1"), "1", "66900")
    assert booking.book.trade is not None
    booking.book.trade.note_drawdown(-0.5)
    taken = booking.order("L", Side.SELL, "3", cause)
    told = booking.fill(taken, "3", "66300")
    loss = (66300 * 3 - 67000 * 2 - 66900) * 0.01
    (closure,) = told
    assert isinstance(closure, PublishClosure)
    assert closure.message_id == f"L.{booking.now_ms}.c"
    assert (closure.state_id, closure.ord_id) == (first.state_id, "L")
    assert closure.cause is cause
    assert closure.portions == (("A", 1.0), ("B", 1.0), ("L", 1.0))
    assert closure.reward == pytest.approx(loss * 2)
    assert booking.book.trade is None


def test_a_partial_liquidation_reduces_the_trade_and_the_agent_closes_the_rest() -> None:
    booking = Booking()
    booking.fill(booking.order("A", Side.BUY, "3"), "3", "67000")
    assert booking.fill(booking.order("L", Side.SELL, "2", Cause.ADL), "2", "66900") == []
    assert booking.book.trade is not None
    assert booking.book.position == 1
    assert booking.book.trade.pnl == -2
    closer = booking.order("B", Side.SELL, "1")
    execution, closure = booking.fill(closer, "1", "67100")
    assert execution == PublishExecution(f"B.{booking.now_ms}.x", closer.state_id, OrdId("B"))
    assert isinstance(closure, PublishClosure)
    assert (closure.state_id, closure.cause) == (closer.state_id, Cause.AGENT)
    assert closure.portions == (("A", 1.0), ("L", 1.0), ("B", 1.0))
    assert closure.reward == -1.0


def test_an_order_made_from_fills_has_the_portion_of_the_volume_known_at_the_closure() -> None:
    booking = Booking()
    booking.fill(booking.order("A", Side.BUY, "3"), "3", "67000")
    taken = booking.order("L", Side.SELL, "1", Cause.LIQUIDATION)
    booking.fill(taken, "1", "66900")
    taken.volume = Decimal(3)
    booking.fill(taken, "2", "66800")
    assert booking.closures[0].portions == (("A", 1.0), ("L", 1.0))


@OTHERS
def test_a_trade_opened_by_others_is_told_to_the_agent_whose_order_closes_it(cause: Cause) -> None:
    booking = Booking()
    assert booking.fill(booking.order("H", Side.SELL, "2", cause), "2", "67000") == []
    closer = booking.order("A", Side.BUY, "5")
    execution, closure, opening = booking.fill(closer, "5", "66900")
    assert execution == PublishExecution(f"A.{booking.now_ms}.x", closer.state_id, OrdId("A"))
    assert isinstance(closure, PublishClosure)
    assert (closure.state_id, closure.cause, closure.reward) == (closer.state_id, Cause.AGENT, 2.0)
    assert closure.portions == (("H", 1.0), ("A", 0.4))
    assert opening == PublishExecution(f"A.{booking.now_ms}.o", closer.state_id, OrdId("A"))


def test_a_trade_opened_by_hand_and_closed_by_liquidation_is_told_to_the_first_agent_in_it() -> (
    None
):
    booking = Booking()
    booking.fill(booking.order("H", Side.BUY, "2", Cause.MANUAL), "2", "67000")
    reducing, adding = booking.order("A", Side.SELL, "1"), booking.order("B", Side.BUY, "1")
    booking.fill(reducing, "1", "67100")
    booking.fill(adding, "1", "67100")
    booking.fill(booking.order("L", Side.SELL, "2", Cause.LIQUIDATION), "2", "66500")
    (closure,) = booking.closures
    assert (closure.state_id, closure.ord_id) == (reducing.state_id, "L")
    assert closure.cause is Cause.LIQUIDATION


@OTHERS
def test_a_trade_without_any_agent_is_told_to_nobody(cause: Cause) -> None:
    """The next trade is the agent's own again."""
    booking = Booking()
    booking.fill(booking.order("H", Side.BUY, "2", Cause.MANUAL), "2", "67000")
    booking.fill(booking.order("L", Side.SELL, "2", cause), "2", "66500")
    assert booking.told == []
    assert booking.book.trade is None
    opener = booking.order("A", Side.BUY, "1")
    booking.fill(opener, "1", "67000")
    booking.fill(booking.order("F", Side.SELL, "1", Cause.OPERATOR), "1", "67000")
    assert booking.closures[0].state_id == opener.state_id


def test_a_fill_by_hand_that_turns_the_position_opens_a_trade_without_an_agent() -> None:
    booking = Booking()
    opener = booking.order("A", Side.BUY, "1")
    booking.fill(opener, "1", "67000")
    (closure,) = booking.fill(booking.order("H", Side.SELL, "3", Cause.MANUAL), "3", "67100")
    assert isinstance(closure, PublishClosure)
    assert (closure.state_id, closure.portions) == (opener.state_id, (("A", 1.0), ("H", 1 / 3)))
    assert booking.book.trade is not None
    assert booking.book.position == -2
    assert booking.book.trade.state_id is None


def test_liquidations_fee_and_pnl_are_in_a_net_return() -> None:
    """``fillPnl`` of a liquidation holds its penalty, so it counts before our own arithmetic."""
    rules = attrs.evolve(RULES, reward_unit=RewardUnit.ROE, reward_net=True)
    booking = Booking(rules)
    booking.fill(booking.order("A", Side.BUY, "1"), "1", "67000", fees=True)
    taken = booking.order("L", Side.SELL, "1", Cause.LIQUIDATION)
    booking.fill(taken, "1", "66400", fees=True, pnl="-8")
    paid = Decimal("0.335") + Decimal("0.332")
    assert booking.closures[0].reward == pytest.approx(float((-8 - paid) / 670 * 10_000))


def test_fills_without_a_trade_id_of_one_order_have_different_message_ids() -> None:
    """The exchange's own orders may have the number 0, or none."""
    booking = Booking()
    for ord_id, trade_id in (("A", 0), ("B", None)):
        order = booking.order(ord_id, Side.BUY, "2")
        booking.fill(order, "1", "67000", trade_id=trade_id)
        booking.fill(order, "0.5", "67000", trade_id=trade_id)
    ids = [one.message_id for one in booking.told]
    assert ids == ["A.acc1.o", "A.acc1.5.x", "B.acc1.x", "B.acc1.5.x"]


def test_a_negative_trade_id_orders_no_position_report() -> None:
    booking = Booking()
    booking.fill(booking.order("A", Side.BUY, "3"), "3", "67000", trade_id=500)
    booking.fill(booking.order("L", Side.SELL, "1", Cause.ADL), "1", "66900", trade_id=-7)
    assert booking.book.last_trade_id == 500
    assert booking.told[-1].message_id == "A.500.o"
