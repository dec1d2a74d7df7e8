"""The checks that depend on the state of account, book and market."""

from __future__ import annotations

from decimal import Decimal

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.account.ledger import TAKER_FEE
from oms_trio.testing.okx_server.account.tiers import TIERS, largest_pos
from oms_trio.testing.okx_server.matching.engine import MatchingEngine
from oms_trio.testing.okx_server.matching.market import crosses
from oms_trio.testing.okx_server.orders.request_checks import (
    Args,
    OrderRequest,
    RequestRejected,
    read_target,
)
from oms_trio.testing.okx_server.values import ExchangeOrder

MAX_PENDING = 500


def check_against_state(engine: MatchingEngine, request: OrderRequest) -> Decimal:
    """Check a new order, and return the worst price it may trade at.

    Raises:
        RequestRejected: 51016 clOrdId in use, 51006 outside the price band, 51102 too many orders,
            51169 51170 51112 reduce-only without, with or beyond the position.
    """
    if request.cl_ord_id and engine.book.is_pending(request.cl_ord_id):
        raise RequestRejected("51016", "Client order ID already exists.")
    edge = engine.market.limit_for(request.side)
    limit_px = edge if request.px is None else request.px
    if is_beyond(request.side, limit_px, edge):
        if not request.clamp_px:
            raise outside_band(edge)
        limit_px = edge
    if len(engine.book.pending) >= MAX_PENDING:
        raise RequestRejected("51102", "Too many pending orders.")
    if request.reduce_only:
        _check_reduce_only(engine.ledger.pos, request)
    return limit_px


def check_margin(engine: MatchingEngine, order: ExchangeOrder) -> None:
    """Check that the available margin covers the margin and the fee of a new order.

    Raises:
        RequestRejected: 51008 if it does not.
    """
    account = engine.account_view()
    extra = engine.ledger.ord_frozen([*engine.book.pending, order]) - account.ord_frozen
    fee = engine.ledger.notional(order.limit_px, order.sz) * TAKER_FEE
    if extra > 0 and extra + fee > account.avail_eq:
        raise RequestRejected("51008", "Order failed. Insufficient USDT margin.", "51008_1001")


def find_cancelable(engine: MatchingEngine, args: Args) -> ExchangeOrder:
    """Return the open order that a cancellation names.

    Raises:
        RequestRejected: 51400 if it is filled, cancelled or unknown.
    """
    order = engine.book.find(*read_target(args))
    if order is None or not order.is_open:
        raise RequestRejected("51400", "The order is filled, cancelled or does not exist.")
    return order


def check_tier(engine: MatchingEngine, order: ExchangeOrder) -> None:
    """Check that the position an order could lead to is allowed at its leverage.

    Raises:
        RequestRejected: 51004 if it is too large.
    """
    pending = [row for row in engine.book.pending if row.side is order.side]
    reached = sum((row.remaining for row in (*pending, order)), engine.ledger.pos * order.side.sign)
    if not order.reduce_only and reached > largest_pos(engine.ledger.lever):
        raise RequestRejected(
            "51004", "The position would exceed the limit of its leverage.", "51004_1103"
        )


def check_pos_mode(engine: MatchingEngine, pos_mode: str) -> None:
    """Check a change of the position mode.

    Raises:
        RequestRejected: 51000 for an unknown mode, 59000 while orders or a position are open.
    """
    if pos_mode not in {"net_mode", "long_short_mode"}:
        raise RequestRejected("51000", "Parameter posMode error")
    if engine.book.pending or engine.ledger.pos:
        raise RequestRejected("59000", "Close all positions and cancel pending orders first.")


def check_lever(engine: MatchingEngine, lever: Decimal) -> None:
    """Check a change of the instrument's leverage in cross margin.

    Raises:
        RequestRejected: 59102 above the ceiling, 59105 below 1, 59107 with pending orders, 59108 when the
            position would need more margin than there is.
    """
    if lever > TIERS[0].max_lever:
        raise RequestRejected("59102", "Leverage exceeds the maximum limit.")
    if lever < 1:
        raise RequestRejected("59105", "Leverage can not be less than 1.")
    if engine.book.pending:
        raise RequestRejected("59107", "Cancel pending cross-margin orders first.")
    account = engine.account_view()
    if account.notional / lever > account.eq:
        raise RequestRejected("59108", "The account's margin is too low for this leverage.")


def is_beyond(side: Side, px: Decimal, edge: Decimal) -> bool:
    """Whether a price of this side lies outside the band that ends at ``edge``."""
    return px != edge and crosses(side, px, edge)


def outside_band(edge: Decimal) -> RequestRejected:
    """Return the rejection of a price outside the price band."""
    return RequestRejected("51006", f"The price is outside the band: {edge} is its edge.")


def _check_reduce_only(pos: Decimal, request: OrderRequest) -> None:
    if not pos:
        raise RequestRejected("51169", "There is no position to reduce.")
    if pos * request.side.sign > 0:
        raise RequestRejected("51170", "Reduce-only order in the direction of the position.")
    if request.sz > abs(pos):
        raise RequestRejected("51112", "The size exceeds what can be closed.")
