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

import attrs
import trio

from oms_trio.core.inputs import Verdict
from oms_trio.core.model import ClOrdId, OrdId, RejectReason
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
from oms_trio.service.channels import Cancel, Inbox, Order, Recall
from oms_trio.service.journaled_inputs import OwnAnswer
from oms_trio.settings.clock import NS, Clock

NS_PER_MS = 1_000_000


@attrs.frozen
class Desk:
    """What both senders work with."""

    line: PendingRequests
    inbox: Inbox
    clock: Clock
    tag: str
    recall: Recall = attrs.Factory(Recall)
    limits: OrderLimits = OKX_LIMITS
    rest: Rest | None = None
    """Takes cancels and reducing orders while there is no session; None: nothing does."""

    async def answer(
        self,
        names: Sequence[ClOrdId],
        verdict: Verdict,
        detail: str,
        *,
        cancel: bool = False,
        reason: RejectReason = RejectReason.EXCHANGE,
    ) -> None:
        """Answer a request ourselves that was certainly not sent."""
        answer = OwnAnswer(tuple(names), cancel, verdict, detail, reason)
        await self.inbox.send(journaled_inputs.own_answer(answer))

    async def by_rest(
        self, names: Sequence[ClOrdId], send: Callable[[], Awaitable[str]], *, cancel: bool
    ) -> None:
        """Have REST carry a request out, and hand its answer over.

        No answer, or one that cannot be read, leaves the outcome unknown, as on the WebSocket.
        """
        build = journaled_inputs.cancel_answer if cancel else journaled_inputs.order_answer
        try:
            text = await send()
            arrival = build(text, decode_answer(text), names)
        except (RestUnavailableError, ProtocolError) as error:
            await self.answer(names, Verdict.UNKNOWN, str(error), cancel=cancel)
        else:
            await self.inbox.send(arrival)


async def send_orders(orders: trio.MemoryReceiveChannel[Order], desk: Desk) -> None:
    """Send each order before its action expires, or answer that it was not sent.

    Ends when the channel is closed and empty. A link that breaks is the session's to report:
    an order that was on its way then is unknown, not refused.
    """
    limit = Limiter(desk.limits.orders, desk.limits.period_s)
    with orders:
        async with trio.open_nursery() as by_rest:
            async for order in orders:
                await _send_order(order, desk, limit, by_rest)


async def _send_order(order: Order, desk: Desk, limit: Limiter, by_rest: trio.Nursery) -> None:
    effect = order.effect
    names = (effect.cl_ord_id,)
    left_s = (effect.expires_at_ns - desk.clock()) / NS
    if left_s <= limit.ready_in():
        reason = RejectReason.RATE_LIMITED if left_s > 0 else RejectReason.STALE
        detail = "the exchange's rate limit leaves no room before the action expires"
        await desk.answer(names, Verdict.REJECTED, detail, reason=reason)
        return
    if not desk.recall.covers(order):
        await limit.acquire()
    if desk.recall.covers(order):
        reason = RejectReason.PAUSED
        await desk.answer(names, Verdict.REJECTED, "called back before it was sent", reason=reason)
        return
    code, rest = order.inst_id_code, desk.rest
    link = None if code is None else desk.line.connection
    if link is None and rest is not None and effect.reduce_only:
        place = partial(rest.place_order, effect, tag=desk.tag, exp_time_ms=effect.exp_time_ms)
        by_rest.start_soon(partial(desk.by_rest, names, place, cancel=False))
        return
    if link is None or code is None:
        reason = RejectReason.NOT_READY
        await desk.answer(names, Verdict.RETRY, "no session with the exchange", reason=reason)
        return
    request_id = desk.line.expect(link, names, cancel=False)
    text = encode_order(
        effect,
        inst_id_code=code,
        tag=desk.tag,
        exp_time_ms=effect.exp_time_ms,
        request_id=request_id,
    )
    with suppress(SessionLostError):
        await link.send(text)


async def send_cancels(cancels: trio.MemoryReceiveChannel[Cancel], desk: Desk) -> None:
    """Send cancel requests, several orders in one where there are several.

    Ends when the channel is closed and empty.
    """
    single = Limiter(desk.limits.cancels, desk.limits.period_s)
    batch = Limiter(desk.limits.cancels_in_batches, desk.limits.period_s)
    with cancels:
        async with trio.open_nursery() as by_rest:
            async for cancel in cancels:
                wanted = cancel.effect.orders
                for start in range(0, len(wanted), BATCH_CANCEL_MAX):
                    part = wanted[start : start + BATCH_CANCEL_MAX]
                    await (single.acquire() if len(part) == 1 else batch.acquire(len(part)))
                    await _send_cancel(part, cancel.inst_id_code, desk, by_rest)


async def _send_cancel(
    part: Sequence[tuple[ClOrdId, OrdId]], code: int | None, desk: Desk, by_rest: trio.Nursery
) -> None:
    names = [name for name, _ in part]
    rest = desk.rest
    link = None if code is None else desk.line.connection
    if link is None and rest is not None:
        end = partial(rest.cancel_orders, [ord_id for _, ord_id in part])
        by_rest.start_soon(partial(desk.by_rest, names, end, cancel=True))
        return
    if link is None or code is None:
        await desk.answer(names, Verdict.RETRY, "no session with the exchange", cancel=True)
        return
    request_id = desk.line.expect(link, names, cancel=True)
    if len(part) == 1:
        text = encode_cancel(part[0][1], inst_id_code=code, request_id=request_id)
    else:
        ord_ids = [ord_id for _, ord_id in part]
        text = encode_batch_cancel(ord_ids, inst_id_code=code, request_id=request_id)
    with suppress(SessionLostError):
        await link.send(text)
