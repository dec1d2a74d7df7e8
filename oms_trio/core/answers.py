"""Requests about orders and what their answers mean: accepted, rejected, or unknown until proved.

    verdict    on an order that the exchange has not reported yet
    accepted   it has an id of the exchange; pushes report the rest
    rejected   it ends as rejected, and a rejection is published
    retry      certainly nothing happened: it is sent again, unless its action is too old by then
    unknown    exposure stays reserved; it is looked up until found, or until its absence is proved

"Not found" (51603) proves something only under two conditions. The order must not be able to come
alive any more: the query was made after its ``expTime``, by the exchange's clock. And reads
must not lag: one has shown something younger than that (``Sync.has_shown``).

    an order of          is proved absent                       and then
    unknown outcome      after its expTime                      rejected
    an earlier process   after all its copies have expired      sent, if young enough, else rejected
    a known okx id       2 hours after it was last seen alive   cancelled: unfilled, and forgotten

Whatever is concluded from absence, later evidence of the order overrules it.

A redelivered action that this state does not know is looked up *before* it is sent: an earlier
process may have sent it. The same holds at a start for an order that was to be sent again (``retry``):
the process that ended may have done so, and its outcome is unknown.

When more orders are open than the limit, or one is older than the limit, the oldest are cancelled:

    none -> requested -> confirmed   the exchange reported that the order ended as cancelled
                      -> rejected    it would not cancel; looked up, and requested again later

Until a report says how the order ended, it counts as open with its whole exposure, and a fill on the
way counts like any other. Requesting twice is safe.
"""

from __future__ import annotations

from oms_trio.core.effects import (
    Alert,
    CancelOrders,
    Emit,
    LookUpOrder,
    PlaceOrder,
    PublishRejection,
)
from oms_trio.core.events import CancelAnswer, LookupAnswer, OrderAnswer, Verdict
from oms_trio.core.model import (
    NS_PER_MS,
    SECOND_NS,
    CancelState,
    ClOrdId,
    ExchangeMs,
    OrderReport,
    OrderState,
    OrdId,
    RejectReason,
    Rules,
)
from oms_trio.core.orders import OrderInfo, Orders
from oms_trio.core.reconcile import Sync
from oms_trio.core.risk import Risk

GRACE_NS = 3 * SECOND_NS
"""Clocks are estimated this well, and a gateway takes no longer to carry out what it has taken."""

FORGOTTEN_MS = 2 * 3_600_000
"""An order cancelled without a fill disappears from every answer after this long, and not before."""

LOOK_UP_FIRST_NS = SECOND_NS
LOOK_UP_LAST_NS = 10 * SECOND_NS
"""Pauses between look-ups: a tenth of the order's age, within these bounds. What is not found within
seconds is proved absent only minutes later: a query a second until then would be 180 requests
and records for each such order."""

RETRY_NS = SECOND_NS
"""The exchange's rate limits count over 2 s; half of that is free again after 1 s."""

CANCEL_AGAIN_NS = 2 * SECOND_NS
CANCEL_PATIENCE_NS = 10 * SECOND_NS
SILENCE_NS = 5 * SECOND_NS
"""An accepted order is reported by push within milliseconds; after this long it is looked up."""


def place(order: OrderInfo, risk: Risk, sync: Sync, emit: Emit) -> None:
    """Have the order sent."""
    order.awaiting_ack = True
    order.exp_time_ms = sync.exchange_ms(order.expires_at_ns)
    emit(
        PlaceOrder(
            order.cl_ord_id,
            order.side,
            order.ord_type,
            order.price,
            order.volume,
            order.expires_at_ns,
            order.reduce_only,
            order.exp_time_ms,
            sync.inst_id_code,
            risk.send_generation,
        )
    )


def look_up(order: OrderInfo, now_ns: int, emit: Emit) -> None:
    """Have the order looked up, and not again for a while."""
    pause_ns = (now_ns - order.created_ns) // 10
    order.look_up_due_ns = now_ns + min(LOOK_UP_LAST_NS, max(LOOK_UP_FIRST_NS, pause_ns))
    emit(LookUpOrder(order.cl_ord_id))


def reject(orders: Orders, order: OrderInfo, reason: RejectReason, detail: str, emit: Emit) -> None:
    """End an order that is not on the exchange, and publish the rejection.

    An order that closes the position for the operator has no action: no agent is waiting for it.
    """
    order.resolve()
    if orders.move(order, OrderState.REJECTED):
        if order.reduce_only:
            emit(Alert("flatten_rejected", detail))
        else:
            emit(PublishRejection(f"{order.cl_ord_id}.r", order.state_id, reason, detail))
    orders.settle()


def take_order_answer(
    orders: Orders, answer: OrderAnswer, now_ns: int, *, has_session: bool, emit: Emit
) -> None:
    """Judge the answer to one submit."""
    order = orders.find(answer.cl_ord_id)
    if order is None:
        return
    order.awaiting_ack = False
    if answer.ord_id is not None:
        orders.bind(order, answer.ord_id)
    if order.order_state is not OrderState.PENDING:
        return
    match answer.verdict:
        case Verdict.ACCEPTED:
            order.outcome_unknown = False
        case Verdict.RETRY:
            order.retry_due_ns = now_ns + RETRY_NS
            if order.retry_due_ns >= order.expires_at_ns:
                reject(orders, order, answer.reason, _text_of(answer), emit)
        case Verdict.UNKNOWN:
            order.outcome_unknown = True
            if has_session:
                look_up(order, now_ns, emit)
        case Verdict.REJECTED | Verdict.GONE:
            reject(orders, order, answer.reason, _text_of(answer), emit)


def take_cancel_answer(orders: Orders, answer: CancelAnswer, now_ns: int, emit: Emit) -> None:
    """Judge the answer to one cancel request; only a report says how the order ended."""
    order = orders.find(answer.cl_ord_id)
    if order is None or order.ended:
        return
    order.cancel_due_ns = now_ns + CANCEL_PATIENCE_NS
    match answer.verdict:
        case Verdict.ACCEPTED:
            pass
        case Verdict.GONE:
            look_up(order, now_ns, emit)
        case Verdict.REJECTED:
            order.cancel_state = CancelState.REJECTED
            look_up(order, now_ns, emit)
        case Verdict.RETRY | Verdict.UNKNOWN:
            order.cancel_due_ns = now_ns + CANCEL_AGAIN_NS


def note_existence(orders: Orders, order: OrderInfo, report: OrderReport) -> None:
    """Note that the exchange has an order, and nothing else of the report."""
    if orders.bind(order, report.ord_id):
        order.resolve()


def take_absence(
    orders: Orders,
    order: OrderInfo,
    answer: LookupAnswer,
    now_ns: int,
    *,
    sync: Sync,
    copies_expired_ns: int,
    risk: Risk,
    emit: Emit,
) -> None:
    """Judge that the exchange does not list an order by our name.

    From ``copies_expired_ns`` on nothing that an earlier process sent can come alive.
    """
    asked_ms = sync.exchange_ms(answer.asked_at_ns)

    def proves(since_ms: ExchangeMs) -> bool:
        return asked_ms >= since_ms + GRACE_NS // NS_PER_MS and sync.has_shown(since_ms, asked_ms)

    if order.verify_before_send:
        if not proves(sync.exchange_ms(copies_expired_ns)):
            return
        if (withheld := risk.withholds(order.created_ns)) is not None:
            reject(orders, order, RejectReason.PAUSED, withheld, emit)
        elif now_ns < order.expires_at_ns:
            order.verify_before_send = False
            place(order, risk, sync, emit)
        else:
            reject(orders, order, RejectReason.STALE, "redelivered after it had expired", emit)
    elif order.outcome_unknown:
        if proves(order.exp_time_ms or sync.exchange_ms(order.expires_at_ns)):
            detail = "outcome unknown at first; no trace of it on the exchange after its expiry"
            reject(orders, order, RejectReason.EXCHANGE, detail, emit)
    elif order.has_okx_id and not order.acc_fill_sz:
        alive_ms = max(sync.exchange_ms(order.created_ns), order.u_time_ms, order.seen_ms)
        if proves(ExchangeMs(alive_ms + FORGOTTEN_MS)):
            orders.move(order, OrderState.CANCELED)
            order.inferred = True
            orders.settle()


def retry(orders: Orders, risk: Risk, sync: Sync, now_ns: int, emit: Emit) -> None:
    """Send again what may be sent again, and look up what was not reported."""
    for order in tuple(orders):
        if order.retry_due_ns is not None:
            withheld = None if order.reduce_only else risk.withholds(order.created_ns)
            if withheld is not None:
                reject(orders, order, RejectReason.PAUSED, withheld, emit)
            elif now_ns >= order.expires_at_ns:
                reject(
                    orders,
                    order,
                    RejectReason.RATE_LIMITED,
                    "the exchange took no order before the action expired",
                    emit,
                )
            elif now_ns >= order.retry_due_ns:
                order.retry_due_ns = None
                place(order, risk, sync, emit)
            continue
        silent = (
            order.order_state is OrderState.PENDING
            and not order.awaiting_ack
            and now_ns >= order.created_ns + SILENCE_NS
        )
        if (
            order.outcome_unknown or order.verify_before_send or silent
        ) and now_ns >= order.look_up_due_ns:
            look_up(order, now_ns, emit)
            witness = orders.youngest_named()
            if witness is not None and witness.u_time_ms > sync.reader_ms:
                # To read something younger is what makes an absence believable.
                emit(LookUpOrder(witness.cl_ord_id))


def _text_of(answer: OrderAnswer) -> str:
    return f"{answer.code} {answer.detail}".strip()


def cancel_excess(
    orders: Orders,
    rules: Rules,
    now_ns: int,
    emit: Emit,
    *,
    inst_id_code: int | None,
    cancel_before_ns: int = 0,
) -> None:
    """Request the end of orders beyond the limits or up to a time of creation, oldest first."""
    excess = len(orders) - rules.max_open_orders
    wanted: list[tuple[ClOrdId, OrdId]] = []
    for order in orders:
        # To the last: an order that was adopted comes after younger ones.
        if excess <= 0 and not _unwanted(order, rules, now_ns, cancel_before_ns):
            continue
        if order.ended or order.okx_order_id is None:
            # Nothing to cancel, or not named yet: the next look comes with the next tick.
            continue
        excess -= 1
        if order.cancel_state is not CancelState.NONE:
            if now_ns < order.cancel_due_ns:
                continue
            look_up(order, now_ns, emit)
        order.cancel_state = CancelState.REQUESTED
        order.cancel_due_ns = now_ns + CANCEL_PATIENCE_NS
        wanted.append((order.cl_ord_id, order.okx_order_id))
    if wanted:
        emit(CancelOrders(tuple(wanted), inst_id_code))


def may_act(order: OrderInfo, rules: Rules, at_ns: int, *, cancel_before_ns: int) -> bool:
    """Whether a tick up to a time may look up, send or cancel an order.

    Another reason for orders to act with time has to be named here.
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
