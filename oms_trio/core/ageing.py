"""Old orders: more than the limit open, or older than the limit, and the oldest are cancelled.

    none -> requested -> confirmed   the exchange told that the order ended as cancelled
                      -> refused     it would not cancel; looked up, and asked again later

A cancel is a wish: until a report says how the order ended, it counts as open with its whole
exposure, and when it fills while the cancel is on the way, that fill counts like any other.
Asking twice is safe.
"""

from __future__ import annotations

from oms_trio.core.answers import CANCEL_PATIENCE_NS, Do, look_up
from oms_trio.core.effects import CancelOrders
from oms_trio.core.model import CancelState, ClOrdId, OrderState, OrdId, Rules
from oms_trio.core.orders import OrderInfo, Orders


def cancel_excess(
    orders: Orders,
    rules: Rules,
    now_ns: int,
    do: Do,
    *,
    inst_id_code: int | None,
    cancel_before_ns: int = 0,
) -> None:
    """Request the end of orders beyond the limits or up to a time of creation, oldest first."""
    excess = len(orders) - rules.max_open_orders
    wanted: list[tuple[ClOrdId, OrdId]] = []
    for order in orders:
        # To the last: an order that was adopted stands behind younger ones.
        if excess <= 0 and not _unwanted(order, rules, now_ns, cancel_before_ns):
            continue
        if order.ended or order.okx_order_id is None:
            # Nothing to cancel, or not named yet: the next look comes with the next tick.
            continue
        excess -= 1
        if order.cancel_state is not CancelState.NONE:
            if now_ns < order.cancel_due_ns:
                continue
            look_up(order, now_ns, do)
        order.cancel_state = CancelState.REQUESTED
        order.cancel_due_ns = now_ns + CANCEL_PATIENCE_NS
        wanted.append((order.cl_ord_id, order.okx_order_id))
    if wanted:
        do(CancelOrders(tuple(wanted), inst_id_code))


def may_act(order: OrderInfo, rules: Rules, at_ns: int, *, cancel_before_ns: int) -> bool:
    """Whether a tick up to a time may ask, send or cancel anything about an order.

    Whoever gives orders another reason to act with time has to name it here.
    """
    return (
        order.order_state is OrderState.PENDING
        or order.cancel_state is not CancelState.NONE
        or order.outcome_unknown
        or order.verify_before_send
        or _unwanted(order, rules, at_ns, cancel_before_ns)
    )


def _unwanted(order: OrderInfo, rules: Rules, now_ns: int, cancel_before_ns: int) -> bool:
    """Whether an order is older than the limit, or called off by the operator."""
    if order.created_ns <= cancel_before_ns and not order.reduce_only:
        return True
    age_limit = rules.max_order_age_ns
    return age_limit is not None and now_ns - order.created_ns > age_limit
