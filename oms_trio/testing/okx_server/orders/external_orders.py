"""Orders that another client of the account places: a person or a program, without ``clOrdId`` or tag.

Neither faults, which are set for the client under test, nor rate limits apply to them.
"""

from __future__ import annotations

from decimal import Decimal

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.events import OrderChanged
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.orders import placement
from oms_trio.testing.okx_server.orders.amendments import amend as amend_order
from oms_trio.testing.okx_server.orders.request_checks import (
    AmendRequest,
    OrderRequest,
    check_size,
    check_tick,
)
from oms_trio.testing.okx_server.orders.state_checks import check_margin
from oms_trio.testing.okx_server.values import CancelSource, ExchangeOrder, OrdType


def trade(
    exchange: SimulatedExchange, side: Side, sz: Decimal, px: Decimal | None = None
) -> ExchangeOrder:
    """Place a limit order, or without ``px`` a market order, which fills at once in either mode.

    Raises:
        RequestRejected: an invalid size or price, or insufficient margin.
    """
    engine, instrument = exchange.engine, exchange.instrument
    check_size(sz, instrument)
    if px is not None:
        check_tick(px, instrument)
    ord_type = OrdType.MARKET if px is None else OrdType.LIMIT
    request = OrderRequest(side, ord_type, px, sz, "", "", reduce_only=False, clamp_px=False)
    order = placement.new_order(
        engine, request, engine.market.limit_for(side) if px is None else px
    )
    check_margin(engine, order)
    with engine.deferred():
        engine.store(OrderChanged(order))
        if px is None or exchange.matches:
            engine.take(order)
    return order


def amend(
    exchange: SimulatedExchange, name: str, *, sz: Decimal | None = None, px: Decimal | None = None
) -> None:
    """Amend the open order with this ``ordId`` or ``clOrdId``; its push has no ``reqId``.

    Raises:
        LookupError: there is no such open order.
        RequestRejected: the amendment is not possible.
    """
    order = exchange.engine.book.find_open(name)
    if sz is not None:
        check_size(sz, exchange.instrument)
    if px is not None:
        check_tick(px, exchange.instrument)
    request = AmendRequest(sz, px, "", clamp_px=False, cancel_on_fail=False)
    with exchange.engine.deferred():
        amend_order(exchange.engine, {"ordId": order.ord_id}, request, matches=exchange.matches)


def cancel(exchange: SimulatedExchange, name: str) -> None:
    """Cancel the open order with this ``ordId`` or ``clOrdId``.

    Raises:
        LookupError: there is no such open order.
    """
    order = exchange.engine.book.find_open(name)
    with exchange.engine.deferred():
        exchange.engine.cancel(order, CancelSource.USER)
