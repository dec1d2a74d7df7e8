"""Public endpoints: time, instrument, prices."""

from __future__ import annotations

from oms_trio.sim.pushes import JsonObject
from oms_trio.sim.rest_call import Call, ok
from oms_trio.sim.rest_objects import instrument_object
from oms_trio.sim.values import text


def time(call: Call) -> JsonObject:
    """``GET /public/time``."""
    return ok({"ts": str(call.exchange.now_ms)})


def instruments(call: Call) -> JsonObject:
    """``GET /public/instruments`` and ``/account/instruments``."""
    if call.query.get("instId"):
        call.need_instrument()
    return ok(instrument_object(call.exchange.instrument)) if call.covers_instrument() else ok()


def mark_price(call: Call) -> JsonObject:
    """``GET /public/mark-price``."""
    exchange = call.exchange
    return ok(
        {
            "instType": "SWAP",
            "instId": exchange.instrument.inst_id,
            "markPx": text(exchange.engine.market.mark_px),
            "ts": str(exchange.now_ms),
        }
    )


def price_limit(call: Call) -> JsonObject:
    """``GET /public/price-limit``."""
    call.need_instrument()
    exchange = call.exchange
    return ok(
        {
            "instType": "SWAP",
            "instId": exchange.instrument.inst_id,
            "buyLmt": text(exchange.engine.market.buy_lmt),
            "sellLmt": text(exchange.engine.market.sell_lmt),
            "ts": str(exchange.now_ms),
            "enabled": True,
        }
    )
