"""What the operator's word and a tripped control do: pause, cancel everything, flatten."""

from __future__ import annotations

from collections.abc import Callable

from oms_trio.core import answers
from oms_trio.core.book import Book
from oms_trio.core.effects import Alert, Effect
from oms_trio.core.identity import order_name
from oms_trio.core.inputs import Command, Verb
from oms_trio.core.model import OrderType, Rules, Side, StateId
from oms_trio.core.orders import OrderInfo, Orders
from oms_trio.core.risk import Risk

Do = Callable[[Effect], None]

NO_STATE = StateId(0)
"""The state id of flattening orders, which no action stands behind."""


def obey(risk: Risk, command: Command, do: Do) -> None:
    """Carry out the operator's word."""
    if command.verb is Verb.RESUME:
        risk.paused, risk.flattening, risk.rejects = None, False, 0
        risk.day_began_with = None  # else today's loss would trip the pause again at once
        do(Alert("trading_resumed", f"by {command.by}"))
        return
    if command.verb is not Verb.CANCEL_ALL:
        risk.paused = f"{command.verb.value} by {command.by}"
    if command.verb is not Verb.PAUSE:
        risk.cancel_before_ns = command.at_ns
    if command.verb is Verb.FLATTEN:
        risk.flattening = True
    do(Alert("operator_command", f"{command.verb.value} by {command.by}"))


def trip(risk: Risk, why: str | None, do: Do) -> None:
    """Pause for a control's reason, unless trading is paused already."""
    if why is not None and risk.paused is None:
        risk.paused = why
        do(Alert("trading_paused", why))


def flatten(risk: Risk, orders: Orders, book: Book, rules: Rules, now_ns: int, do: Do) -> None:
    """Close what is open once nothing else is: a fill may still change how much that is."""
    if not risk.flattening or len(orders):
        return
    position = book.position
    if not position or book.trade is None:
        risk.flattening = False
        do(Alert("position_flat", "nothing is open"))
        return
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
