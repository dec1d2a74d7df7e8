"""What the operator's command and a tripped control do: pause, cancel everything, flatten, adopt.

Commands that cancel or close work on what the *exchange* lists, because they are needed most when
our state differs from it, or is not reconciled yet. So they request a listing (pending orders and
position), act on it, and request another until the exchange shows that the command is carried out.

    cancel-all, kill   cancel every listed order with our tag, known to us or not
    flatten            the same; close the listed position with reduce-only orders until it is 0;
                       once reconciled, book what that leaves as a difference (adopt)
    adopt              once reconciled, book the difference to the listed position as a fill by hand

Nothing here waits for reconciliation but the booking, which needs to know all fills.

An order of unknown outcome is proved absent only when reads have shown something younger, which on a
quiet account takes minutes. A command is not done before. But a position that has to be closed is
closed as soon as such an order cannot come alive any more. If it has come alive unseen, another listing
shows what it did; at worst the exchange refuses a reduce-only order that finds no position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from oms_trio.core import answers
from oms_trio.core.effects import (
    Alert,
    CancelOrders,
    Emit,
    RequestListing,
)
from oms_trio.core.events import Command, Listing, Verb
from oms_trio.core.identity import NO_STATE, operators_name
from oms_trio.core.model import (
    NS_PER_MS,
    SECOND_NS,
    CancelState,
    Cause,
    ExchangeMs,
    OrderType,
    PositionReport,
    Rules,
    Side,
)
from oms_trio.core.orders import OrderInfo, Orders
from oms_trio.core.reconcile import CHECK_AGAIN_NS, Sync
from oms_trio.core.risk import Control, Risk, Trip

LIST_AGAIN_NS = SECOND_NS
LISTING_PATIENCE_NS = 30 * SECOND_NS
"""A listing that did not come by then (the process was restarted) is requested again."""

FLATTEN_TRIES = 20
"""Closing orders before a person has to look: each found no counterpart or was rejected."""

WARN_NS = 30 * SECOND_NS
"""A command that is not carried out by then is reported as such, and goes on."""


def take_command(risk: Risk, command: Command, now_ns: int, emit: Emit) -> None:
    """Take the operator's command in."""
    risk.note(Control.OPERATOR)
    if command.verb is Verb.RESUME:
        risk.paused, risk.paused_by, risk.rejects = None, None, 0
        _end(risk)
        # What tripped is still so: it would trip again at once.
        risk.day_began_with, risk.drawdown_forgiven = None, risk.drawdown_reached
        emit(Alert("trading_resumed", f"by {command.by}", urgent=False))
        return
    name = f"{command.verb.value} by {command.by}"
    if command.verb is not Verb.CANCEL_ALL:
        risk.paused, risk.paused_by = name, Control.OPERATOR
    emit(Alert("operator_command", name, urgent=False))
    if command.verb is not Verb.ADOPT:
        risk.send_generation += 1
    if command.verb is Verb.PAUSE:
        return
    risk.command, risk.command_ns = name, now_ns
    risk.listing_due_ns, risk.closing_orders = 0, 0
    risk.cancelling = command.verb is not Verb.ADOPT
    risk.flattening = command.verb is Verb.FLATTEN
    risk.adopting = command.verb in {Verb.FLATTEN, Verb.ADOPT}
    if risk.cancelling:
        risk.cancel_before_ns = now_ns


def trip(risk: Risk, tripped: Trip | None, emit: Emit) -> None:
    """Pause for a control's reason, unless trading is paused already."""
    if tripped is not None and risk.paused is None:
        risk.paused, risk.paused_by = tripped.why, tripped.control
        risk.note(tripped.control)
        emit(Alert("trading_paused", f"{tripped.control.value}: {tripped.why}"))
        risk.send_generation += 1


def request_listing(risk: Risk, now_ns: int, emit: Emit) -> None:
    """Ask what the exchange lists, as long as a command is not carried out."""
    if not risk.command or now_ns < risk.listing_due_ns:
        return
    risk.listing += 1
    risk.listing_due_ns = now_ns + LISTING_PATIENCE_NS
    emit(RequestListing(risk.listing))


def due(risk: Risk, now_ns: int) -> bool:
    """Whether ``request_listing`` would request one by then."""
    return bool(risk.command) and now_ns >= risk.listing_due_ns


def carry_out(
    risk: Risk,
    listing: Listing,
    now_ns: int,
    orders: Orders,
    sync: Sync,
    rules: Rules,
    *,
    position: PositionReport,
    waiting_for_fills: bool,
    adopt: Callable[[PositionReport], None],
    emit: Emit,
) -> None:
    """Do the next step of a command on what the exchange lists.

    ``position`` is the exchange's newest, by the listing or by a later push; ``adopt`` books the difference between a position and ours.
    """
    if not risk.command or listing.request != risk.listing:
        return
    risk.listing_due_ns = now_ns + LIST_AGAIN_NS
    to_close = risk.flattening and bool(position.pos)
    asked_ms = sync.exchange_ms(listing.asked_at_ns)
    waited_for = [
        order for order in orders if not (to_close and _has_expired(order, asked_ms, sync, rules))
    ]
    if risk.cancelling and _cancel(risk, listing, now_ns, orders, waited_for, sync, emit):
        _warn(risk, now_ns, "orders are still pending or of unknown outcome", emit)
        return
    if to_close:
        _close(risk, orders, waited_for, sync, position, rules, now_ns, emit)
        return
    if risk.flattening and _closing(orders):
        return
    if risk.flattening:
        risk.flattening = False
        emit(Alert("position_flat", "the exchange lists no position", urgent=False))
    if risk.adopting:
        if not sync.has_session or not sync.snapshot_applied or waiting_for_fills:
            _warn(risk, now_ns, "not reconciled with the exchange yet", emit)
            return
        if sync.differs_since_ns is not None:
            if not sync.may_adopt(position, now_ns):
                sync.check_due_ns = min(sync.check_due_ns, now_ns + CHECK_AGAIN_NS)
                _warn(risk, now_ns, "fills that explain the position may be on their way", emit)
                return
            adopt(position)
    emit(Alert("command_done", f"{risk.command}: {_result(listing, position)}", urgent=False))
    _end(risk)


def _end(risk: Risk) -> None:
    risk.command, risk.cancelling, risk.flattening, risk.adopting = "", False, False, False


def _result(listing: Listing, position: PositionReport) -> str:
    return f"the exchange lists {len(listing.orders)} of our orders and position {position.pos}"


def _has_expired(order: OrderInfo, asked_ms: ExchangeMs, sync: Sync, rules: Rules) -> bool:
    """Whether an order of unknown outcome cannot come alive after a listing was requested."""
    if not order.outcome_unknown and not order.verify_before_send:
        return False
    # What an earlier process has sent of it was sent before this one took the action in.
    last_ms = sync.exchange_ms(order.created_ns + rules.max_action_age_ns)
    return asked_ms >= max(last_ms, order.exp_time_ms) + answers.GRACE_NS // NS_PER_MS


def _cancel(
    risk: Risk,
    listing: Listing,
    now_ns: int,
    orders: Orders,
    waited_for: list[OrderInfo],
    sync: Sync,
    emit: Emit,
) -> bool:
    """Cancel what is listed of ours; returns whether anything may still be open or come alive."""
    wanted = []
    left = False
    for report in listing.orders:
        order = orders.find(report.cl_ord_id or None, report.ord_id)
        if order is None:
            created_ns = sync.service_ns(report.c_time_ms)
        elif order.ended or order.reduce_only:
            continue  # ended since it was listed, or it is what closes the position
        else:
            created_ns = order.created_ns
        if created_ns > risk.cancel_before_ns:
            continue
        left = True
        if order is not None:
            if order.cancel_state is not CancelState.NONE and now_ns < order.cancel_due_ns:
                continue
            order.cancel_state = CancelState.REQUESTED
            order.cancel_due_ns = now_ns + answers.CANCEL_AGAIN_NS
        wanted.append((report.cl_ord_id, report.ord_id))
    if wanted:
        emit(CancelOrders(tuple(wanted), sync.inst_id_code))
    return left or any(
        order.awaiting_ack
        or order.outcome_unknown
        or order.verify_before_send
        or order.retry_due_ns is not None
        for order in waited_for
        if order.created_ns <= risk.cancel_before_ns and not order.reduce_only
    )


def _closing(orders: Iterable[OrderInfo]) -> bool:
    return any(order.reduce_only and not order.ended for order in orders)


def _close(
    risk: Risk,
    orders: Orders,
    waited_for: list[OrderInfo],
    sync: Sync,
    position: PositionReport,
    rules: Rules,
    now_ns: int,
    emit: Emit,
) -> None:
    """Send an order that closes the exchange's position, unless one is on its way."""
    if _closing(waited_for):
        _warn(risk, now_ns, f"position {position.pos} is still open", emit)
        return
    if risk.closing_orders >= FLATTEN_TRIES:
        why = f"position {position.pos} is open after {FLATTEN_TRIES} closing orders: close it by hand"
        emit(Alert("flatten_failed", why))
        _end(risk)
        risk.flattening = True  # until the operator decides what next: the alert on it must stay
        return
    risk.closing_orders += 1
    if _closing(orders):
        # One of unknown outcome may have closed it, and what lists the position is behind: then this
        # one is refused, and the tries must last until a listing tells.
        risk.listing_due_ns = now_ns + rules.max_action_age_ns + answers.GRACE_NS
    order = OrderInfo(
        state_id=NO_STATE,
        cl_ord_id=operators_name("flatten", now_ns),
        side=Side.SELL if position.pos > 0 else Side.BUY,
        ord_type=OrderType.MARKET,
        price=None,
        ref_px=risk.mark_px or position.avg_px or Decimal(0),
        volume=abs(position.pos),
        created_ns=now_ns,
        expires_at_ns=now_ns + rules.max_action_age_ns,
        reduce_only=True,
        cause=Cause.OPERATOR,
    )
    orders.add(order)
    answers.place(order, risk, sync, emit)


def _warn(risk: Risk, now_ns: int, why: str, emit: Emit) -> None:
    """Alert that a command takes long, each time another ``WARN_NS`` has passed."""
    if now_ns >= risk.command_ns + WARN_NS:
        risk.command_ns = now_ns
        emit(Alert("command_not_done", f"{risk.command}: {why}"))
