"""What the operator's word and a tripped control do: pause, cancel everything, flatten."""

from __future__ import annotations

from collections.abc import Callable

from oms_trio.core import answers
from oms_trio.core.book import Book
from oms_trio.core.effects import Alert, Effect, RecallOrders
from oms_trio.core.identity import order_name
from oms_trio.core.inputs import Command, Verb
from oms_trio.core.model import OrderType, Rules, Side, StateId
from oms_trio.core.orders import OrderInfo, Orders
from oms_trio.core.risk import SECOND_NS, Control, Risk, Trip

Do = Callable[[Effect], None]

NO_STATE = StateId(0)
"""The state id of flattening orders, which no action stands behind."""

FLATTEN_AGAIN_NS = SECOND_NS
"""A closing order that was refused, or found no counterpart, is not repeated faster than this."""


def obey(risk: Risk, command: Command, do: Do) -> None:
    """Carry out the operator's word."""
    risk.note(Control.OPERATOR)
    if command.verb is Verb.RESUME:
        risk.paused, risk.paused_by, risk.flattening, risk.rejects = None, None, False, 0
        # What tripped is still so: it would trip again at once.
        risk.day_began_with, risk.drawdown_forgiven = None, risk.drawdown_reached
        do(Alert("trading_resumed", f"by {command.by}", urgent=False))
        return
    if command.verb is not Verb.CANCEL_ALL:
        risk.paused, risk.paused_by = f"{command.verb.value} by {command.by}", Control.OPERATOR
    if command.verb is not Verb.PAUSE:
        risk.cancel_before_ns = command.at_ns
    if command.verb is Verb.FLATTEN:
        risk.flattening, risk.flatten_due_ns = True, 0
    do(Alert("operator_command", f"{command.verb.value} by {command.by}", urgent=False))
    do(RecallOrders())


def trip(risk: Risk, tripped: Trip | None, do: Do) -> None:
    """Pause for a control's reason, unless trading is paused already."""
    if tripped is not None and risk.paused is None:
        risk.paused, risk.paused_by = tripped.why, tripped.control
        risk.note(tripped.control)
        do(Alert("trading_paused", f"{tripped.control.value}: {tripped.why}"))
        do(RecallOrders())


def flatten(risk: Risk, orders: Orders, book: Book, rules: Rules, now_ns: int, do: Do) -> None:
    """Close what is open once nothing else is: a fill may still change how much that is."""
    if not risk.flattening or len(orders) or now_ns < risk.flatten_due_ns:
        return
    position = book.position
    if not position or book.trade is None:
        risk.flattening = False
        do(Alert("position_flat", "nothing is open", urgent=False))
        return
    risk.flatten_due_ns = now_ns + FLATTEN_AGAIN_NS
    order = OrderInfo(
        state_id=NO_STATE,
        cl_ord_id=order_name(NO_STATE, b"flatten%d" % now_ns),
        side=Side.SELL if position > 0 else Side.BUY,
        ord_type=OrderType.MARKET,
        price=None,
        ref_px=book.trade.entry_px,
        volume=abs(position),
        created_ns=now_ns,
        expires_at_ns=now_ns + rules.max_action_age_ns,
        reduce_only=True,
    )
    orders.add(order)
    answers.place(order, do)
