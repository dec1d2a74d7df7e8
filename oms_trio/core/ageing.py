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
from oms_trio.core.model import CancelState, ClOrdId, OrdId, Rules
from oms_trio.core.orders import Orders


def cancel_excess(
    orders: Orders, rules: Rules, now_ns: int, do: Do, *, cancel_before_ns: int = 0
) -> None:
    """Request the end of orders beyond the limits or up to a time of creation, oldest first.

    The deque is in the order of creation, so the walk stops at the first order that is neither
    in excess nor too old: its cost is the number of orders to cancel, not of those open.
    """
    excess = len(orders) - rules.max_open_orders
    wanted: list[tuple[ClOrdId, OrdId]] = []
    for order in orders:
        age_limit = rules.max_order_age_ns
        called_off = order.created_ns <= cancel_before_ns and not order.reduce_only
        too_old = called_off or (age_limit is not None and now_ns - order.created_ns > age_limit)
        if excess <= 0 and not too_old:
            break
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
        do(CancelOrders(tuple(wanted)))
