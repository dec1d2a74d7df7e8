"""The checks that depend on the state of account, book and market."""

from __future__ import annotations

from decimal import Decimal

from oms_trio.core.model import Side
from oms_trio.sim.admission import AmendRequest, Args, OrderRequest, Refused, read_target
from oms_trio.sim.engine import Engine
from oms_trio.sim.ledger import TAKER_FEE
from oms_trio.sim.market import crosses
from oms_trio.sim.values import Order, State

MAX_PENDING = 500


def check_against_state(engine: Engine, request: OrderRequest) -> Decimal:
    """Check a new order and return the worst price it may trade at.

    Raises:
        Refused: 51016 name in use, 51006 outside the band, 51102 too many orders, 51169 51170
            51112 reduce-only without, with or beyond the position.
    """
    if request.cl_ord_id and engine.book.is_pending(request.cl_ord_id):
        raise Refused("51016", "Client order ID already exists.")
    edge = engine.market.limit_for(request.side)
    limit_px = edge if request.px is None else request.px
    if _is_beyond(request.side, limit_px, edge):
        if not request.clamp_px:
            raise _outside_band(edge)
        limit_px = edge
    if len(engine.book.pending) >= MAX_PENDING:
        raise Refused("51102", "Too many pending orders.")
    if request.reduce_only:
        _check_reduce_only(engine.ledger.pos, request)
    return limit_px


def check_margin(engine: Engine, order: Order) -> None:
    """Compare what margin and fee would take with what is free, were the order open.

    Raises:
        Refused: 51008 when it is not enough.
    """
    account = engine.account_view()
    extra = engine.ledger.ord_frozen([*engine.book.pending, order]) - account.ord_frozen
    fee = engine.ledger.notional(order.limit_px, order.sz) * TAKER_FEE
    if extra > 0 and extra + fee > account.avail_eq:
        raise Refused("51008", "Order failed. Insufficient USDT margin.", "51008_1001")


def find_cancelable(engine: Engine, args: Args) -> Order:
    """Return the open order that is meant.

    Raises:
        Refused: 51400 whatever the reason that there is nothing to cancel.
    """
    order = engine.book.find(*read_target(args))
    if order is None or not order.is_open:
        raise Refused("51400", "The order is filled, cancelled or does not exist.")
    return order


def find_amendable(engine: Engine, args: Args, request: AmendRequest) -> Order:
    """Return the open order that is meant, if it can be amended so.

    Raises:
        Refused: 51503 51509 51510 gone, 51506 has no price to amend, 51006 outside the band.
    """
    order = engine.book.find(*read_target(args))
    if order is None:
        raise Refused("51503", "The order does not exist.")
    if order.state is State.CANCELED:
        raise Refused("51509", "The order has been cancelled.")
    if order.state is State.FILLED:
        raise Refused("51510", "The order has been completed.")
    if request.new_px is not None:
        if not order.ord_type.takes_px:
            raise Refused("51506", "This order type can not be amended.")
        edge = engine.market.limit_for(order.side)
        if _is_beyond(order.side, request.new_px, edge):
            raise _outside_band(edge)
    return order


def _check_reduce_only(pos: Decimal, request: OrderRequest) -> None:
    if not pos:
        raise Refused("51169", "There is no position to reduce.")
    if pos * request.side.sign > 0:
        raise Refused("51170", "Reduce-only order in the direction of the position.")
    if request.sz > abs(pos):
        raise Refused("51112", "The size exceeds what can be closed.")


def _is_beyond(side: Side, px: Decimal, edge: Decimal) -> bool:
    return px != edge and crosses(side, px, edge)


def _outside_band(edge: Decimal) -> Refused:
    return Refused("51006", f"The price is outside the band: {edge} is its edge.")
