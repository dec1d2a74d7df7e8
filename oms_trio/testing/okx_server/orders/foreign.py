"""Rows of nobody here: orders, fills and positions such as other clients and products leave.

A person, another program or a product that the simulator does not know may own them, so their
fields may be anything (``Faults.foreign_order`` and its like). They match nothing and hold no
margin: they only stand in pushes and answers, where a client has to pass over them.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.engine import Engine
from oms_trio.testing.okx_server.events import OrderChanged
from oms_trio.testing.okx_server.faults.behaviour import Faults, read_fields
from oms_trio.testing.okx_server.values import ZERO, Fill, Order, OrdType, Position
from oms_trio.testing.okx_server.ws.pushes import JsonObject, order_push, position_push

ORD_ID = "3967288020668900000"
"""Older than every order of the simulator, so the row stands last in every list."""

BILL_ID = "3967288020668900001"
POS_ID = "3967288020668900002"
TRADE_ID = 1640200000

_ENDED = {"filled", "canceled", "mmp_canceled"}
_OPEN = {"live", "partially_filled"}


def pending_order(engine: Engine, faults: Faults) -> list[Order]:
    """Return the foreign order for a list of open orders: none when its state is an end."""
    state = read_fields(faults.foreign_order).get("state", "live")
    return [_order(engine)] if faults.foreign_order and state not in _ENDED else []


def past_order(engine: Engine, faults: Faults) -> list[Order]:
    """Return the foreign order for a list of past orders: none when its state is open."""
    state = read_fields(faults.foreign_order).get("state", "live")
    return [_order(engine)] if faults.foreign_order and state not in _OPEN else []


def fill(engine: Engine, faults: Faults) -> list[Fill]:
    """Return the foreign match for a list of fills."""
    return [_fill(engine)] if faults.foreign_fill else []


def dressed(row: JsonObject, faults: Faults) -> JsonObject:
    """Return a row of REST; a foreign one gets the fields that the switches name."""
    if row.get("billId") == BILL_ID:
        return row | read_fields(faults.foreign_fill)
    return row | read_fields(faults.foreign_order) if row.get("ordId") == ORD_ID else row


def pushed_order(engine: Engine, faults: Faults) -> list[JsonObject]:
    """Return one more element for an orders push."""
    if not faults.foreign_order:
        return []
    row = order_push(OrderChanged(_order(engine)), engine.instrument, engine.market.last)
    return [row | read_fields(faults.foreign_order)]


def position(engine: Engine, faults: Faults) -> list[JsonObject]:
    """Return one more element for a positions push; REST's has no ``pTime``."""
    if not faults.foreign_position:
        return []
    market, now_ms = engine.market, engine.now_ms
    held = Position(POS_ID, Decimal(1), market.bid, TRADE_ID, now_ms, now_ms)
    view = attrs.evolve(engine.ledger, position=held).position_view(
        mark_px=market.mark_px, last=market.last, idx_px=market.idx_px
    )
    assert view is not None
    return [position_push(view, engine.instrument, now_ms) | read_fields(faults.foreign_position)]


def _order(engine: Engine) -> Order:
    return Order(
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


def _fill(engine: Engine) -> Fill:
    market, now_ms = engine.market, engine.now_ms
    return Fill(
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
