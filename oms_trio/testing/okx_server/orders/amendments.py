"""Amendments: what they do, and when they are rejected at once or later."""

from __future__ import annotations

import attrs

from oms_trio.testing.okx_server.events import OrderChanged
from oms_trio.testing.okx_server.matching.engine import MatchingEngine
from oms_trio.testing.okx_server.matching.market import crosses
from oms_trio.testing.okx_server.orders.request_checks import (
    AmendRequest,
    Args,
    RequestRejected,
    read_target,
)
from oms_trio.testing.okx_server.orders.state_checks import is_beyond, outside_band
from oms_trio.testing.okx_server.values import (
    CancelSource,
    ExchangeOrder,
    ExchangeOrderState,
    OrdType,
)

FAILED = "-1"
FAILED_AND_CANCELED = "1"
DONE = "0"


def amend(
    engine: MatchingEngine, args: Args, request: AmendRequest, *, matches: bool
) -> ExchangeOrder:
    """Amend an open order, and return it as it was; the result follows as a push.

    ``matches`` says whether the amended order may match at once. If the amendment is rejected and
    the request says so (``cxlOnFail``), the order is cancelled. A post-only order that would take is
    rejected later: the gateway has already answered, and the push has code 51511.

    Raises:
        RequestRejected: 51503 51509 51510 unknown, cancelled or filled, 51506 no price to amend,
            51006 outside the price band, 51502 insufficient margin, 51521 51522 reduce-only without
            or against the position.
    """
    order = _find(engine, args)
    try:
        amended = _amended(engine, order, request)
        _check_margin(engine, order, amended)
    except RequestRejected:
        if request.cancel_on_fail:
            engine.cancel(order, CancelSource.SYSTEM)
        raise
    best = engine.market.best_for(order.side)
    if order.ord_type is OrdType.POST_ONLY and crosses(order.side, amended.limit_px, best):
        _reject_by_push(engine, order, request)
        return order
    engine.store(OrderChanged(amended, req_id=request.req_id, amend_result=DONE))
    if amended.is_open and matches:
        engine.take(amended)
    return order


def _find(engine: MatchingEngine, args: Args) -> ExchangeOrder:
    order = engine.book.find(*read_target(args))
    if order is None:
        raise RequestRejected("51503", "The order does not exist.")
    if order.state is ExchangeOrderState.CANCELED:
        raise RequestRejected("51509", "The order has been cancelled.")
    if order.state is ExchangeOrderState.FILLED:
        raise RequestRejected("51510", "The order has been completed.")
    return order


def _amended(engine: MatchingEngine, order: ExchangeOrder, request: AmendRequest) -> ExchangeOrder:
    px = request.new_px
    if px is not None:
        if not order.ord_type.takes_px:
            raise RequestRejected("51506", "This order type can not be amended.")
        edge = engine.market.limit_for(order.side)
        if is_beyond(order.side, px, edge):
            if not request.clamp_px:
                raise outside_band(edge)
            px = edge
    # A new total at or below the filled size completes the order.
    sz = order.sz if request.new_sz is None else max(request.new_sz, order.acc_fill_sz)
    pos = engine.ledger.pos
    if order.reduce_only and not pos:
        raise RequestRejected("51521", "There is no position to reduce.")
    if order.reduce_only and (
        pos * order.side.sign > 0 or sz - order.acc_fill_sz > abs(engine.ledger.pos)
    ):
        raise RequestRejected("51522", "The reduce-only order would exceed the position.")
    return attrs.evolve(
        order,
        px=order.px if px is None else px,
        limit_px=order.limit_px if px is None else px,
        sz=sz,
        state=ExchangeOrderState.FILLED if sz == order.acc_fill_sz else order.state,
        u_time_ms=engine.now_ms,
    )


def _check_margin(engine: MatchingEngine, order: ExchangeOrder, amended: ExchangeOrder) -> None:
    account = engine.account_view()
    others = [row for row in engine.book.pending if row.ord_id != order.ord_id]
    open_after = [*others, amended] if amended.is_open else others
    if engine.ledger.ord_frozen(open_after) - account.ord_frozen > account.avail_eq:
        raise RequestRejected("51502", "Insufficient USDT margin for the amendment.", "51502_1001")


def _reject_by_push(engine: MatchingEngine, order: ExchangeOrder, request: AmendRequest) -> None:
    msg = "The amended post-only order would take liquidity."
    change = OrderChanged(order, req_id=request.req_id, amend_result=FAILED, code="51511", msg=msg)
    if not request.cancel_on_fail:
        engine.emit(change)
        return
    canceled = order.canceled(CancelSource.SYSTEM, engine.now_ms)
    engine.store(attrs.evolve(change, order=canceled, amend_result=FAILED_AND_CANCELED))
