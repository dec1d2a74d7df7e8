"""New orders: how a request becomes an order, and how an admitted order starts."""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.events import OrderChanged
from oms_trio.testing.okx_server.matching.engine import MatchingEngine
from oms_trio.testing.okx_server.matching.market import crosses
from oms_trio.testing.okx_server.orders.request_checks import OrderRequest, RequestRejected
from oms_trio.testing.okx_server.orders.state_checks import (
    check_against_state,
    check_margin,
    check_tier,
)
from oms_trio.testing.okx_server.values import CancelSource, ExchangeOrder, OrdType


def admit(engine: MatchingEngine, request: OrderRequest) -> ExchangeOrder:
    """Check a request against account, book and market, and return its order; nothing is booked.

    Raises:
        RequestRejected: with the code of the first check that fails.
    """
    limit_px = check_against_state(engine, request)
    if request.clamp_px and request.px is not None:
        request = attrs.evolve(request, px=limit_px)
    order = new_order(engine, request, limit_px)
    check_margin(engine, order)
    check_tier(engine, order)
    return order


def new_order(engine: MatchingEngine, request: OrderRequest, limit_px: Decimal) -> ExchangeOrder:
    """Return a new order with an id of its own; nothing is checked or booked."""
    return ExchangeOrder(
        ord_id=engine.ids.next_id(),
        cl_ord_id=request.cl_ord_id,
        tag=request.tag,
        side=request.side,
        ord_type=request.ord_type,
        px=request.px,
        limit_px=limit_px,
        sz=request.sz,
        lever=engine.ledger.lever,
        c_time_ms=engine.now_ms,
        u_time_ms=engine.now_ms,
        reduce_only=request.reduce_only,
        stp_mode=request.stp_mode,
    )


def start(engine: MatchingEngine, order: ExchangeOrder, *, matches: bool) -> None:
    """Book an admitted order and, if ``matches``, let it take what the market offers.

    Without matching, an order that may not rest is cancelled at once.
    """
    best = engine.market.best_for(order.side)
    if order.ord_type is OrdType.POST_ONLY and crosses(order.side, order.limit_px, best):
        # Since August 2026 the only push of such an order is its cancellation.
        engine.cancel(order, CancelSource.POST_ONLY)
        return
    engine.store(OrderChanged(order))
    if matches:
        engine.take(order)
    elif not order.ord_type.may_rest:
        fok = order.ord_type is OrdType.FOK
        engine.cancel(order, CancelSource.FOK if fok else CancelSource.IOC)


def close_position(
    engine: MatchingEngine, *, matches: bool, auto_cancel: bool, cl_ord_id: str, tag: str
) -> None:
    """Close the whole position by a market order.

    Raises:
        RequestRejected: 51023 when flat, 51115 while closing orders are pending, unless
            ``auto_cancel`` cancels them.
    """
    pos = engine.ledger.pos
    if not pos:
        raise RequestRejected("51023", "Position does not exist.")
    side = Side.SELL if pos > 0 else Side.BUY
    closing = [order for order in engine.book.pending if order.side is side]
    if closing and not auto_cancel:
        raise RequestRejected("51115", "Cancel all pending close orders first.")
    with engine.deferred():
        for order in closing:
            engine.cancel(order, CancelSource.CLOSED_AT_MARKET)
        request = OrderRequest(side, OrdType.MARKET, None, abs(pos), cl_ord_id, tag, True, False)
        start(engine, new_order(engine, request, engine.market.limit_for(side)), matches=matches)
