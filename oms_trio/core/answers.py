"""What the answers to our requests mean: accepted, refused, or unknown until there is evidence.

    verdict    of an order that the exchange has not told of yet
    accepted   it has a name; pushes tell the rest
    refused    it ends as rejected and the agent is told
    retry      certainly nothing happened: it is sent again, unless its action is too old by then
    unknown    exposure stays reserved; it is looked up until found, or until a question asked
               after its expiry (and a grace for clocks and read lag) finds no trace of it

A redelivered action that this state does not know is looked up *before* it is sent: an earlier
process may have sent it. "Not found" proves that only once that process's copies have expired.
"""

from __future__ import annotations

from collections.abc import Callable

from oms_trio.core.effects import Alert, Effect, LookUpOrder, PlaceOrder, PublishRefusal
from oms_trio.core.inputs import CancelAnswer, LookupAnswer, OrderAnswer, Verdict
from oms_trio.core.model import CancelState, OrderReport, OrderState, RefusalReason
from oms_trio.core.orders import OrderInfo, Orders
from oms_trio.core.risk import Risk

SECOND_NS = 1_000_000_000

GRACE_NS = 3 * SECOND_NS
"""An order that exists is visible by query after this long, and our clocks agree within it."""

LOOK_UP_AGAIN_NS = SECOND_NS
RETRY_NS = SECOND_NS
"""The exchange's rate limits count over 2 s; half of that is free again after 1 s."""

CANCEL_AGAIN_NS = 2 * SECOND_NS
CANCEL_PATIENCE_NS = 10 * SECOND_NS
SILENCE_NS = 5 * SECOND_NS
"""An accepted order is told by push within milliseconds; after this long it is looked up."""

Do = Callable[[Effect], None]


def place(order: OrderInfo, do: Do) -> None:
    """Have the order sent."""
    order.asked = True
    do(
        PlaceOrder(
            order.cl_ord_id,
            order.side,
            order.ord_type,
            order.price,
            order.volume,
            order.expires_at_ns,
            order.reduce_only,
        )
    )


def look_up(order: OrderInfo, now_ns: int, do: Do) -> None:
    """Have the order looked up, and not again for a while."""
    order.look_up_due_ns = now_ns + LOOK_UP_AGAIN_NS
    do(LookUpOrder(order.cl_ord_id))


def reject(orders: Orders, order: OrderInfo, reason: RefusalReason, detail: str, do: Do) -> None:
    """End an order that is not on the exchange, and tell the agent.

    An order that closes the position for the operator has no action: no agent is waiting for it.
    """
    order.resolve()
    if orders.move(order, OrderState.REJECTED):
        if order.reduce_only:
            do(Alert("flatten_refused", detail))
        else:
            do(PublishRefusal(f"{order.cl_ord_id}.r", order.state_id, reason, detail))
    orders.settle()


def take_order_answer(orders: Orders, answer: OrderAnswer, *, linked: bool, do: Do) -> None:
    """Judge the answer to one submit."""
    order = orders.find(answer.cl_ord_id)
    if order is None:
        return
    order.asked = False
    if answer.ord_id is not None:
        orders.bind(order, answer.ord_id)
    if order.order_state is not OrderState.PENDING:
        return
    match answer.verdict:
        case Verdict.ACCEPTED:
            order.in_doubt = False
        case Verdict.RETRY:
            order.retry_due_ns = answer.at_ns + RETRY_NS
            if order.retry_due_ns >= order.expires_at_ns:
                reject(orders, order, answer.reason, _said(answer), do)
        case Verdict.UNKNOWN:
            order.in_doubt = True
            if linked:
                look_up(order, answer.at_ns, do)
        case Verdict.REFUSED | Verdict.GONE:
            reject(orders, order, answer.reason, _said(answer), do)


def take_cancel_answer(orders: Orders, answer: CancelAnswer, *, do: Do) -> None:
    """Judge the answer to one cancel request; only a report says how the order ended."""
    order = orders.find(answer.cl_ord_id)
    if order is None or order.ended:
        return
    order.cancel_due_ns = answer.at_ns + CANCEL_PATIENCE_NS
    match answer.verdict:
        case Verdict.ACCEPTED:
            pass
        case Verdict.GONE:
            look_up(order, answer.at_ns, do)
        case Verdict.REFUSED:
            order.cancel_state = CancelState.REFUSED
            look_up(order, answer.at_ns, do)
        case Verdict.RETRY | Verdict.UNKNOWN:
            order.cancel_due_ns = answer.at_ns + CANCEL_AGAIN_NS


def note_existence(orders: Orders, order: OrderInfo, report: OrderReport) -> None:
    """Note that the exchange has an order, and nothing else of the report."""
    if orders.bind(order, report.ord_id):
        order.resolve()


def take_absence(
    orders: Orders,
    order: OrderInfo,
    answer: LookupAnswer,
    *,
    safe_from_ns: int,
    risk: Risk,
    do: Do,
) -> None:
    """Judge that the exchange does not know an order by our name.

    From ``safe_from_ns`` on nothing that an earlier process sent can come alive.
    """
    asked_ns = answer.asked_at_ns - GRACE_NS
    if order.unsent:
        if asked_ns < safe_from_ns:
            return
        if (withheld := risk.withholds(order.created_ns)) is not None:
            reject(orders, order, RefusalReason.PAUSED, withheld, do)
        elif answer.at_ns < order.expires_at_ns:
            order.unsent = False
            place(order, do)
        else:
            reject(orders, order, RefusalReason.STALE, "redelivered after it had expired", do)
    elif order.in_doubt:
        if asked_ns >= order.expires_at_ns:
            detail = "outcome unknown at first; no trace of it on the exchange after its expiry"
            reject(orders, order, RefusalReason.EXCHANGE, detail, do)
    elif order.has_okx_id and not order.acc_fill_sz:
        last_told_ns = max(order.created_ns, order.u_time_ms * 1_000_000)
        if asked_ns >= last_told_ns:
            # The exchange forgets an order that was cancelled without a fill (after 2 hours).
            orders.move(order, OrderState.CANCELED)
            orders.settle()


def retry(orders: Orders, risk: Risk, now_ns: int, do: Do) -> None:
    """Send again what may be sent again, and look up what nothing was heard of."""
    for order in tuple(orders):
        if order.retry_due_ns is not None:
            withheld = None if order.reduce_only else risk.withholds(order.created_ns)
            if withheld is not None:
                reject(orders, order, RefusalReason.PAUSED, withheld, do)
            elif now_ns >= order.expires_at_ns:
                reject(orders, order, RefusalReason.RATE_LIMITED, "no room in time", do)
            elif now_ns >= order.retry_due_ns:
                order.retry_due_ns = None
                place(order, do)
            continue
        silent = (
            order.order_state is OrderState.PENDING
            and not order.asked
            and now_ns >= order.created_ns + SILENCE_NS
        )
        if (order.in_doubt or order.unsent or silent) and now_ns >= order.look_up_due_ns:
            look_up(order, now_ns, do)


def _said(answer: OrderAnswer) -> str:
    return f"{answer.code} {answer.detail}".strip()
