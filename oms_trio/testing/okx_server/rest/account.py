"""Account endpoints: settings, balance, positions, sizes, fees, bills."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.account.bills import RECENT_BILLS_MS
from oms_trio.testing.okx_server.account.tiers import largest_pos
from oms_trio.testing.okx_server.faults import foreign_rows
from oms_trio.testing.okx_server.orders.request_checks import RequestRejected, check_inst_id
from oms_trio.testing.okx_server.rest.account_rows import (
    bill_object,
    config_object,
    fee_object,
    lever_object,
    position_record_object,
)
from oms_trio.testing.okx_server.rest.call import RestCall, ok
from oms_trio.testing.okx_server.rest.paging import PageQuery
from oms_trio.testing.okx_server.values import JsonObject, text
from oms_trio.testing.okx_server.ws.pushes import account_push, position_push


def config(call: RestCall) -> JsonObject:
    """``GET /account/config``."""
    return ok(config_object(call.exchange.account, call.exchange.pos_mode))


def set_position_mode(call: RestCall) -> JsonObject:
    """``POST /account/set-position-mode``."""
    pos_mode = str(call.single.get("posMode", ""))
    call.exchange.set_pos_mode(pos_mode)
    return ok({"posMode": pos_mode})


def set_leverage(call: RestCall) -> JsonObject:
    """``POST /account/set-leverage``, cross margin only."""
    check_inst_id(call.single, call.exchange.instrument)
    if call.single.get("mgnMode") != "cross":
        raise RequestRejected("51000", "Parameter mgnMode error")
    try:
        lever = Decimal(str(call.single.get("lever", "")))
    except InvalidOperation:
        raise RequestRejected("51000", "Parameter lever error") from None
    if not lever.is_finite():
        raise RequestRejected("51000", "Parameter lever error")
    call.exchange.set_lever(lever)
    return ok(lever_object(call.exchange.instrument, lever))


def leverage_info(call: RestCall) -> JsonObject:
    """``GET /account/leverage-info``."""
    call.need_instrument()
    return ok(lever_object(call.exchange.instrument, call.exchange.engine.ledger.lever))


def balance(call: RestCall) -> JsonObject:
    """``GET /account/balance``: the object of the account push, with one key renamed."""
    engine = call.state
    account = account_push(engine.account_view(), engine.now_ms)
    wanted = call.query.get("ccy", "")
    details = account["details"]
    assert isinstance(details, list)
    account["details"] = [
        {"maxSpotInUse" if key == "maxSpotInUseAmt" else key: value for key, value in row.items()}
        for row in details
        if not wanted or row["ccy"] in wanted.split(",")
    ]
    return ok(account)


def positions(call: RestCall) -> JsonObject:
    """``GET /account/positions``: a closed position shows, with 0, when its instrument is named."""
    engine, query = call.state, call.query
    if not call.covers_instrument():
        return ok()
    view = engine.position_view()
    rows = [] if view is None else [position_push(view, engine.instrument, engine.now_ms)]
    if view is not None and not view.position.pos and not query.get("instId"):
        rows = []
    wanted = query.get("posId", "")
    return ok(
        *(
            {key: value for key, value in row.items() if key != "pTime"}
            for row in rows + foreign_rows.positions(engine, call.exchange.faults)
            if not wanted or row["posId"] in wanted.split(",")
        )
    )


def positions_history(call: RestCall) -> JsonObject:
    """``GET /account/positions-history``: cursors are times of change; rows with equal times share a page."""
    query = call.query
    records = call.state.position_history.closed if call.covers_instrument() else []
    rows = [
        row
        for row in sorted(records, key=lambda row: row.u_time_ms)
        if query.get("mgnMode") in {None, "", "cross"}
        and query.get("type") in {None, "", row.close_type.value}
        and query.get("posId") in {None, "", row.pos_id}
    ]
    page = PageQuery.of(query).rows(
        rows,
        cursor=lambda row: row.u_time_ms,
        time_ms=lambda row: row.u_time_ms,
        before_keeps_newest=True,
        keeps_ties=True,
    )
    return ok(*(position_record_object(row, call.exchange.instrument) for row in page))


def max_size(call: RestCall) -> JsonObject:
    """``GET /account/max-size``: what can be bought and sold, closing included."""
    buy, sell = _sizes(call)
    inst_id = call.exchange.instrument.inst_id
    return ok({"ccy": "USDT", "instId": inst_id, "maxBuy": buy, "maxSell": sell})


def max_avail_size(call: RestCall) -> JsonObject:
    """``GET /account/max-avail-size``."""
    buy, sell = _sizes(call)
    return ok({"instId": call.exchange.instrument.inst_id, "availBuy": buy, "availSell": sell})


def trade_fee(call: RestCall) -> JsonObject:
    """``GET /account/trade-fee``: that of the first level."""
    call.need("instType")
    return ok(fee_object(call.exchange.now_ms)) if call.covers_instrument() else ok()


def bills(call: RestCall) -> JsonObject:
    """``GET /account/bills``: seven days."""
    return _bills(call, call.exchange.now_ms - RECENT_BILLS_MS)


def bills_archive(call: RestCall) -> JsonObject:
    """``GET /account/bills-archive``: three months."""
    return _bills(call, 0)


def _bills(call: RestCall, since_ms: int) -> JsonObject:
    query = call.query
    bill_type, sub_type = query.get("type"), query.get("subType")
    is_ours = (
        call.covers_instrument()
        and query.get("ccy") in {None, "", "USDT"}
        and query.get("mgnMode") in {None, "", "cross"}
    )
    page = PageQuery.of(query).rows(
        call.state.bills.rows if is_ours else [],
        cursor=lambda row: int(row.bill_id),
        time_ms=lambda row: row.ts_ms,
        wanted=lambda row: (
            row.ts_ms >= since_ms
            and bill_type in {None, "", row.bill_type}
            and sub_type in {None, "", row.sub_type}
        ),
    )
    return ok(*(bill_object(row, call.exchange.instrument) for row in page))


def _sizes(call: RestCall) -> tuple[str, str]:
    call.need_instrument()
    if call.query.get("tdMode") != "cross":
        raise RequestRejected("51000", "Parameter tdMode error")
    engine = call.exchange.engine
    px = call.query.get("px")
    try:
        limit_px = Decimal(px) if px else None
    except InvalidOperation:
        limit_px = Decimal("NaN")
    if limit_px is not None and not (limit_px.is_finite() and 0 < limit_px < 10**9):
        raise RequestRejected("51000", "Parameter px error")
    free = engine.account_view().avail_eq
    ledger = engine.ledger
    sizes = []
    for side in Side:
        at = limit_px or engine.market.limit_for(side)
        below_tier = max(Decimal(0), largest_pos(ledger.lever) - ledger.pos * side.sign)
        size = min(ledger.max_size(side, at, free), below_tier)
        if call.query.get("reduceOnly") == "true":
            size = min(size, max(Decimal(0), -ledger.pos * side.sign))
        sizes.append(text(size))
    return sizes[0], sizes[1]
