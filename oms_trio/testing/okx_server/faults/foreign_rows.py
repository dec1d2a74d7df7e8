"""Rows of an unknown owner: orders, fills and positions that other clients and products leave.

A person, another program or an unsupported product may own them, so their fields may have any
value (``FaultSwitches.foreign_order`` and the like). They neither match nor hold margin: they only
appear in pushes and answers, where a client has to ignore them.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.events import OrderChanged
from oms_trio.testing.okx_server.faults.switches import FaultSwitches, read_fields
from oms_trio.testing.okx_server.matching.engine import MatchingEngine
from oms_trio.testing.okx_server.values import (
    ZERO,
    ExchangeFill,
    ExchangeOrder,
    JsonObject,
    NetPosition,
    OrdType,
)
from oms_trio.testing.okx_server.ws.pushes import order_push, position_push

ORD_ID = "3967288020668900000"
"""Older than every order of the simulated exchange, so the row is the last of every list."""

BILL_ID = "3967288020668900001"
POS_ID = "3967288020668900002"
TRADE_ID = 1640200000

_ENDED = {"filled", "canceled", "mmp_canceled"}
_OPEN = {"live", "partially_filled"}


def pending_orders(engine: MatchingEngine, faults: FaultSwitches) -> list[ExchangeOrder]:
    """Return the foreign order for a list of open orders, unless its state is final."""
    state = read_fields(faults.foreign_order).get("state", "live")
    return [_order(engine)] if faults.foreign_order and state not in _ENDED else []


def past_orders(engine: MatchingEngine, faults: FaultSwitches) -> list[ExchangeOrder]:
    """Return the foreign order for a list of past orders, unless its state is an open one."""
    state = read_fields(faults.foreign_order).get("state", "live")
    return [_order(engine)] if faults.foreign_order and state not in _OPEN else []


def fills(engine: MatchingEngine, faults: FaultSwitches) -> list[ExchangeFill]:
    """Return the foreign fill for a list of fills."""
    return [_fill(engine)] if faults.foreign_fill else []


def with_foreign_fields(row: JsonObject, faults: FaultSwitches) -> JsonObject:
    """Return a row of REST; if it is a foreign one, with the fields that the switch names."""
    if row.get("billId") == BILL_ID:
        return row | read_fields(faults.foreign_fill)
    return row | read_fields(faults.foreign_order) if row.get("ordId") == ORD_ID else row


def pushed_orders(engine: MatchingEngine, faults: FaultSwitches) -> list[JsonObject]:
    """Return the foreign element of an orders push."""
    if not faults.foreign_order:
        return []
    row = order_push(OrderChanged(_order(engine)), engine.instrument, engine.market.last)
    return [row | read_fields(faults.foreign_order)]


def positions(engine: MatchingEngine, faults: FaultSwitches) -> list[JsonObject]:
    """Return the foreign element of a positions push; REST's answer has it without ``pTime``."""
    if not faults.foreign_position:
        return []
    market, now_ms = engine.market, engine.now_ms
    position = NetPosition(POS_ID, Decimal(1), market.bid, TRADE_ID, now_ms, now_ms)
    view = attrs.evolve(engine.ledger, position=position).position_view(
        mark_px=market.mark_px, last=market.last, idx_px=market.idx_px
    )
    assert view is not None
    return [position_push(view, engine.instrument, now_ms) | read_fields(faults.foreign_position)]


def _order(engine: MatchingEngine) -> ExchangeOrder:
    return ExchangeOrder(
        ord_id=ORD_ID,
        cl_ord_id="",
        tag="",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        px=engine.market.sell_lmt,
        limit_px=engine.market.sell_lmt,
        sz=Decimal(1),
        lever=engine.ledger.lever,
        c_time_ms=engine.now_ms,
        u_time_ms=engine.now_ms,
    )


def _fill(engine: MatchingEngine) -> ExchangeFill:
    market, now_ms = engine.market, engine.now_ms
    return ExchangeFill(
        trade_id=TRADE_ID,
        bill_id=BILL_ID,
        ord_id=ORD_ID,
        cl_ord_id="",
        tag="",
        side=Side.BUY,
        px=market.bid,
        sz=Decimal(1),
        fee=ZERO,
        pnl=ZERO,
        exec_type="M",
        mark_px=market.mark_px,
        idx_px=market.idx_px,
        time_ms=now_ms,
        ts_ms=now_ms,
    )
