"""Sends orders and cancels, within the exchange's rate limits and the action's age.

Two tasks, because placing and cancelling have limits of their own at the exchange: a queue of
orders that waits must not hold up a cancel.

Without a session what makes the account safer goes by REST: cancels, and orders that only reduce the
position. An operator's ``kill`` or ``flatten`` must not wait for the WebSocket. Other orders are
answered as not sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import trio

from oms_trio.core.effects import CancelOrders, PlaceOrder
from oms_trio.core.events import Verdict
from oms_trio.core.model import ClOrdId, RejectReason
from oms_trio.okx.errors import ProtocolError, RestUnavailableError, SessionLostError
from oms_trio.okx.pending_requests import PendingRequests
from oms_trio.okx.rate_limits import OKX_LIMITS, Limiter, OrderLimits
from oms_trio.okx.rest import Rest
from oms_trio.okx.wire.codec import decode_answer
from oms_trio.okx.wire.requests import (
    BATCH_CANCEL_MAX,
    encode_batch_cancel,
    encode_cancel,
    encode_order,
)
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Inbox
from oms_trio.service.journaled_inputs import OwnAnswer
from oms_trio.settings.clock import NS, Clock


async def send_orders(
    orders: trio.MemoryReceiveChannel[PlaceOrder],
    *,
    requests: PendingRequests,
    rest: Rest,
    inbox: Inbox,
    clock: Clock,
    tag: str,
    is_withdrawn: Callable[[PlaceOrder], bool],
    limits: OrderLimits = OKX_LIMITS,
) -> None:
    """Send each order before its action expires, or answer that it was not sent.

    ``is_withdrawn`` says whether a pause or a cancel-all has come after an order's decision.

    Ends when the channel is closed and empty. A connection that breaks is the session's to report:
    an order that was on its way then is of unknown outcome, not rejected.
    """
    limiter = Limiter(limits.orders, limits.period_s)

    async def answer(
        order: PlaceOrder, reason: RejectReason, detail: str, verdict: Verdict = Verdict.REJECTED
    ) -> None:
        not_sent = OwnAnswer((order.cl_ord_id,), False, verdict, detail, reason)
        await inbox.send(journaled_inputs.own_answer(not_sent))

    with orders:
        async with trio.open_nursery() as nursery:
            async for order in orders:
                left_s = (order.expires_at_ns - clock()) / NS
                if left_s <= limiter.ready_in():
                    reason = RejectReason.RATE_LIMITED if left_s > 0 else RejectReason.STALE
                    detail = "the exchange's rate limit would delay the order beyond the expiry of its action"
                    await answer(order, reason, detail)
                    continue
                if not is_withdrawn(order):
                    await limiter.acquire()
                if is_withdrawn(order):
                    await answer(order, RejectReason.PAUSED, "withdrawn before it was sent")
                    continue
                connection = None if order.inst_id_code is None else requests.connection
                if connection is not None:
                    request_id = requests.expect(connection, (order.cl_ord_id,), cancel=False)
                    with suppress(SessionLostError):
                        await connection.send(encode_order(order, tag=tag, request_id=request_id))
                elif order.reduce_only:
                    place = partial(rest.place_order, order, tag=tag)
                    send = partial(_by_rest, inbox, (order.cl_ord_id,), place, cancel=False)
                    nursery.start_soon(send)
                else:
                    why = "no session with the exchange"
                    await answer(order, RejectReason.NOT_READY, why, Verdict.RETRY)


async def send_cancels(
    cancels: trio.MemoryReceiveChannel[CancelOrders],
    *,
    requests: PendingRequests,
    rest: Rest,
    inbox: Inbox,
    limits: OrderLimits = OKX_LIMITS,
) -> None:
    """Send cancel requests, several orders in one where there are several.

    Ends when the channel is closed and empty.
    """
    single = Limiter(limits.cancels, limits.period_s)
    batch = Limiter(limits.cancels_in_batches, limits.period_s)
    with cancels:
        async with trio.open_nursery() as nursery:
            async for cancel in cancels:
                for start in range(0, len(cancel.orders), BATCH_CANCEL_MAX):
                    part = cancel.orders[start : start + BATCH_CANCEL_MAX]
                    names, ord_ids = zip(*part, strict=True)
                    await (single.acquire() if len(part) == 1 else batch.acquire(len(part)))
                    code = cancel.inst_id_code
                    connection = requests.connection
                    if connection is None or code is None:
                        end = partial(rest.cancel_orders, ord_ids)
                        nursery.start_soon(partial(_by_rest, inbox, names, end, cancel=True))
                        continue
                    request_id = requests.expect(connection, names, cancel=True)
                    if len(part) == 1:
                        text = encode_cancel(ord_ids[0], inst_id_code=code, request_id=request_id)
                    else:
                        text = encode_batch_cancel(
                            ord_ids, inst_id_code=code, request_id=request_id
                        )
                    with suppress(SessionLostError):
                        await connection.send(text)


async def _by_rest(
    inbox: Inbox, names: Sequence[ClOrdId], send: Callable[[], Awaitable[str]], *, cancel: bool
) -> None:
    """Have REST carry a request out, and hand its answer over.

    No answer, or one that cannot be read, leaves the outcome unknown, as on the WebSocket.
    """
    build = journaled_inputs.cancel_answer if cancel else journaled_inputs.order_answer
    try:
        text = await send()
        answer = build(text, decode_answer(text), names)
    except (RestUnavailableError, ProtocolError) as error:
        unknown = OwnAnswer(tuple(names), cancel, Verdict.UNKNOWN, str(error))
        answer = journaled_inputs.own_answer(unknown)
    await inbox.send(answer)
