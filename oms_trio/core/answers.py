"""What the answers to our requests mean: accepted, refused, or unknown until there is evidence.

    verdict    of an order that the exchange has not told of yet
    accepted   it has a name; pushes tell the rest
    refused    it ends as rejected and the agent is told
    retry      certainly nothing happened: it is sent again, unless its action is too old by then
    unknown    exposure stays reserved; it is looked up until found, or until its absence is proved

"Not found" (51603) proves something only under two conditions. The order must not be able to come
alive any more: the question was asked after its ``expTime``, by the exchange's clock. And the
reader must not be behind: a read has shown something younger than that (``Sync.has_shown``).

    an order of          is proved absent                       and then
    unknown outcome      after its expTime                      rejected
    an earlier process   after all its copies have expired      sent, if young enough, else rejected
    a known okx id       2 hours after it was last seen alive   cancelled: unfilled, and forgotten

Whatever is concluded from absence, later evidence of the order overrules it.

A redelivered action that this state does not know is looked up *before* it is sent: an earlier
process may have sent it. So may it have sent again what it was to send again: ``retry`` becomes
``unknown`` with the end of a process.
"""

from __future__ import annotations

from collections.abc import Callable

from oms_trio.core.effects import Alert, Effect, LookUpOrder, PlaceOrder, PublishRejection
from oms_trio.core.events import CancelAnswer, LookupAnswer, OrderAnswer, Verdict
from oms_trio.core.model import CancelState, ExchangeMs, OrderReport, OrderState, RejectReason
from oms_trio.core.orders import OrderInfo, Orders
from oms_trio.core.reconcile import NS_PER_MS, Sync
from oms_trio.core.risk import Risk

SECOND_NS = 1_000_000_000

GRACE_NS = 3 * SECOND_NS
"""Clocks are estimated this well, and a gateway takes no longer to carry out what it has taken."""

FORGOTTEN_MS = 2 * 3_600_000
"""An order cancelled without a fill disappears from every answer after this long, and not before."""

LOOK_UP_FIRST_NS = SECOND_NS
LOOK_UP_LAST_NS = 10 * SECOND_NS
"""Pauses between look-ups: a tenth of the order's age, within these bounds. What is not found within
seconds is proved absent only minutes later: to ask every second until then would be 180 requests
and records for each such order."""

RETRY_NS = SECOND_NS
"""The exchange's rate limits count over 2 s; half of that is free again after 1 s."""

CANCEL_AGAIN_NS = 2 * SECOND_NS
CANCEL_PATIENCE_NS = 10 * SECOND_NS
SILENCE_NS = 5 * SECOND_NS
"""An accepted order is told by push within milliseconds; after this long it is looked up."""

Do = Callable[[Effect], None]


def place(order: OrderInfo, sync: Sync, do: Do) -> None:
    """Have the order sent."""
    order.awaiting_ack = True
    order.exp_time_ms = sync.exchange_ms(order.expires_at_ns)
    do(
        PlaceOrder(
            order.cl_ord_id,
            order.side,
            order.ord_type,
            order.price,
            order.volume,
            order.expires_at_ns,
            order.reduce_only,
            order.exp_time_ms,
        )
    )


def look_up(order: OrderInfo, now_ns: int, do: Do) -> None:
    """Have the order looked up, and not again for a while."""
    pause_ns = (now_ns - order.created_ns) // 10
    order.look_up_due_ns = now_ns + min(LOOK_UP_LAST_NS, max(LOOK_UP_FIRST_NS, pause_ns))
    do(LookUpOrder(order.cl_ord_id))


def reject(orders: Orders, order: OrderInfo, reason: RejectReason, detail: str, do: Do) -> None:
    """End an order that is not on the exchange, and tell the agent.

    An order that closes the position for the operator has no action: no agent is waiting for it.
    """
    order.resolve()
    if orders.move(order, OrderState.REJECTED):
        if order.reduce_only:
            do(Alert("flatten_refused", detail))
        else:
            do(PublishRejection(f"{order.cl_ord_id}.r", order.state_id, reason, detail))
    orders.settle()


def take_order_answer(
    orders: Orders, answer: OrderAnswer, now_ns: int, *, has_session: bool, do: Do
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
                reject(orders, order, answer.reason, _said(answer), do)
        case Verdict.UNKNOWN:
            order.outcome_unknown = True
            if has_session:
                look_up(order, now_ns, do)
        case Verdict.REJECTED | Verdict.GONE:
            reject(orders, order, answer.reason, _said(answer), do)


def take_cancel_answer(orders: Orders, answer: CancelAnswer, now_ns: int, do: Do) -> None:
    """Judge the answer to one cancel request; only a report says how the order ended."""
    order = orders.find(answer.cl_ord_id)
    if order is None or order.ended:
        return
    order.cancel_due_ns = now_ns + CANCEL_PATIENCE_NS
    match answer.verdict:
        case Verdict.ACCEPTED:
            pass
        case Verdict.GONE:
            look_up(order, now_ns, do)
        case Verdict.REJECTED:
            order.cancel_state = CancelState.REJECTED
            look_up(order, now_ns, do)
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
    do: Do,
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
            reject(orders, order, RejectReason.PAUSED, withheld, do)
        elif now_ns < order.expires_at_ns:
            order.verify_before_send = False
            place(order, sync, do)
        else:
            reject(orders, order, RejectReason.STALE, "redelivered after it had expired", do)
    elif order.outcome_unknown:
        if proves(order.exp_time_ms or sync.exchange_ms(order.expires_at_ns)):
            detail = "outcome unknown at first; no trace of it on the exchange after its expiry"
            reject(orders, order, RejectReason.EXCHANGE, detail, do)
    elif order.has_okx_id and not order.acc_fill_sz:
        alive_ms = max(sync.exchange_ms(order.created_ns), order.u_time_ms, order.seen_ms)
        if proves(ExchangeMs(alive_ms + FORGOTTEN_MS)):
            orders.move(order, OrderState.CANCELED)
            order.inferred = True
            orders.settle()


def retry(orders: Orders, risk: Risk, sync: Sync, now_ns: int, do: Do) -> None:
    """Send again what may be sent again, and look up what nothing was heard of."""
    for order in tuple(orders):
        if order.retry_due_ns is not None:
            withheld = None if order.reduce_only else risk.withholds(order.created_ns)
            if withheld is not None:
                reject(orders, order, RejectReason.PAUSED, withheld, do)
            elif now_ns >= order.expires_at_ns:
                reject(
                    orders,
                    order,
                    RejectReason.RATE_LIMITED,
                    "the exchange took no order before the action expired",
                    do,
                )
            elif now_ns >= order.retry_due_ns:
                order.retry_due_ns = None
                place(order, sync, do)
            continue
        silent = (
            order.order_state is OrderState.PENDING
            and not order.awaiting_ack
            and now_ns >= order.created_ns + SILENCE_NS
        )
        if (
            order.outcome_unknown or order.verify_before_send or silent
        ) and now_ns >= order.look_up_due_ns:
            look_up(order, now_ns, do)
            witness = orders.youngest_named()
            if witness is not None and witness.u_time_ms > sync.reader_ms:
                # To read something younger is what makes an absence believable.
                do(LookUpOrder(witness.cl_ord_id))


def _said(answer: OrderAnswer) -> str:
    return f"{answer.code} {answer.detail}".strip()
