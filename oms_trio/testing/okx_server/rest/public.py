"""Public endpoints: time, instrument, prices, tiers, funding."""

from __future__ import annotations

from operator import itemgetter

from oms_trio.testing.okx_server.account.tiers import TIERS
from oms_trio.testing.okx_server.orders.request_checks import RequestRejected
from oms_trio.testing.okx_server.rest import public_rows as objects
from oms_trio.testing.okx_server.rest.call import RestCall, ok
from oms_trio.testing.okx_server.rest.paging import PageQuery
from oms_trio.testing.okx_server.values import JsonObject
from oms_trio.testing.okx_server.ws import pushes


def time(call: RestCall) -> JsonObject:
    """``GET /public/time``."""
    return ok({"ts": call.exchange.faults.time_ts or str(call.exchange.now_ms)})


def instruments(call: RestCall) -> JsonObject:
    """``GET /public/instruments`` and ``/account/instruments``."""
    call.need("instType")
    if call.query.get("instId"):
        call.need_instrument()
    found = objects.instrument_object(call.exchange)
    return ok(found) if call.covers_instrument() else ok()


def mark_price(call: RestCall) -> JsonObject:
    """``GET /public/mark-price``."""
    call.need("instType")
    exchange = call.exchange
    px = exchange.engine.market.mark_px
    if not call.covers_instrument():
        return ok()
    return ok(pushes.mark_price(exchange.instrument, px, exchange.now_ms))


def price_limit(call: RestCall) -> JsonObject:
    """``GET /public/price-limit``."""
    call.need_instrument()
    return ok(objects.price_limit(call.exchange))


def position_tiers(call: RestCall) -> JsonObject:
    """``GET /public/position-tiers``."""
    call.need("instType", "tdMode")
    if not call.query.get("instFamily") and not call.query.get("uly"):
        raise RequestRejected("50014", "Parameter instFamily can not be empty.")
    if call.query["tdMode"] != "cross" or not call.covers_instrument():
        return ok()
    wanted = call.query.get("tier")
    family = call.exchange.instrument.inst_id.removesuffix("-SWAP")
    return ok(
        *(
            objects.tier_object(tier, family)
            for tier in TIERS
            if wanted in {None, "", str(tier.number)}
        )
    )


def funding_rate(call: RestCall) -> JsonObject:
    """``GET /public/funding-rate``."""
    call.need_instrument()
    return ok(objects.funding_rate(call.exchange))


def funding_rate_history(call: RestCall) -> JsonObject:
    """``GET /public/funding-rate-history``: cursors are funding times."""
    call.need_instrument()
    rows = sorted(call.exchange.funded)
    page = PageQuery.of(call.query).rows(rows, cursor=itemgetter(0), time_ms=itemgetter(0))
    return ok(*(objects.settled_rate(call.exchange, *row) for row in page))
