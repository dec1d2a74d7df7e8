"""Amendments: what refuses them at once, what refuses them later, and what they do."""

from __future__ import annotations

import attrs

from oms_trio.testing.okx_server.account.risk import is_beyond, outside_band
from oms_trio.testing.okx_server.engine import Engine
from oms_trio.testing.okx_server.events import OrderChanged
from oms_trio.testing.okx_server.market import crosses
from oms_trio.testing.okx_server.orders.admission import AmendRequest, Args, Refused, read_target
from oms_trio.testing.okx_server.values import CancelSource, Order, OrdType, State

FAILED = "-1"
FAILED_AND_CANCELED = "1"
DONE = "0"


def amend(engine: Engine, args: Args, request: AmendRequest, *, matches: bool) -> Order:
    """Amend the order that is meant and return it as it was; the rest is told by a push.

    ``matches`` says whether the amended order may match at once. A refusal at once cancels the
    order when the request says so (``cxlOnFail``). A post-only order that would take is refused
    later: the gateway has answered by then, and the push carries 51511.

    Raises:
        Refused: 51503 51509 51510 gone, 51506 no price to amend, 51006 outside the band, 51502
            margin short, 51521 51522 reduce-only without or against the position.
    """
    order = _find(engine, args)
    try:
        amended = _amended(engine, order, request)
        _check_margin(engine, order, amended)
    except Refused:
        if request.cancel_on_fail:
            engine.cancel(order, CancelSource.SYSTEM)
        raise
    best = engine.market.best_for(order.side)
    if order.ord_type is OrdType.POST_ONLY and crosses(order.side, amended.limit_px, best):
        _refuse_later(engine, order, request)
        return order
    engine.store(OrderChanged(amended, req_id=request.req_id, amend_result=DONE))
    if amended.is_open and matches:
        engine.take(amended)
    return order


def _find(engine: Engine, args: Args) -> Order:
    order = engine.book.find(*read_target(args))
    if order is None:
        raise Refused("51503", "The order does not exist.")
    if order.state is State.CANCELED:
        raise Refused("51509", "The order has been cancelled.")
    if order.state is State.FILLED:
        raise Refused("51510", "The order has been completed.")
    return order


def _amended(engine: Engine, order: Order, request: AmendRequest) -> Order:
    px = request.new_px
    if px is not None:
        if not order.ord_type.takes_px:
            raise Refused("51506", "This order type can not be amended.")
        edge = engine.market.limit_for(order.side)
        if is_beyond(order.side, px, edge):
            if not request.clamp_px:
                raise outside_band(edge)
            px = edge
    # A new total at or below what has filled completes the order.
    sz = order.sz if request.new_sz is None else max(request.new_sz, order.acc_fill_sz)
    pos = engine.ledger.pos
    if order.reduce_only and not pos:
        raise Refused("51521", "There is no position to reduce.")
    if order.reduce_only and (
        pos * order.side.sign > 0 or sz - order.acc_fill_sz > abs(engine.ledger.pos)
    ):
        raise Refused("51522", "The reduce-only order would exceed the position.")
    return attrs.evolve(
        order,
        px=order.px if px is None else px,
        limit_px=order.limit_px if px is None else px,
        sz=sz,
        state=State.FILLED if sz == order.acc_fill_sz else order.state,
        u_time_ms=engine.now_ms,
    )


def _check_margin(engine: Engine, order: Order, amended: Order) -> None:
    account = engine.account_view()
    others = [row for row in engine.book.pending if row.ord_id != order.ord_id]
    open_after = [*others, amended] if amended.is_open else others
    if engine.ledger.ord_frozen(open_after) - account.ord_frozen > account.avail_eq:
        raise Refused("51502", "Insufficient USDT margin for the amendment.", "51502_1001")


def _refuse_later(engine: Engine, order: Order, request: AmendRequest) -> None:
    msg = "The amended post-only order would take liquidity."
    change = OrderChanged(order, req_id=request.req_id, amend_result=FAILED, code="51511", msg=msg)
    if not request.cancel_on_fail:
        engine.emit(change)
        return
    canceled = order.canceled(CancelSource.SYSTEM, engine.now_ms)
    engine.store(attrs.evolve(change, order=canceled, amend_result=FAILED_AND_CANCELED))
