"""Trade endpoints: operations, and lists of orders and fills."""

from __future__ import annotations

from collections.abc import Sequence

from oms_trio.testing.okx_server.faults import foreign_rows
from oms_trio.testing.okx_server.orders import placement
from oms_trio.testing.okx_server.orders.operations import (
    MAX_BATCH,
    TradeOperation,
    execute,
    render,
    summary,
    unsupported_in_this_mode,
)
from oms_trio.testing.okx_server.orders.request_checks import (
    Args,
    RequestRejected,
    check_inst_id,
    read_whole,
)
from oms_trio.testing.okx_server.rate_limits import Quota
from oms_trio.testing.okx_server.rest.call import RestCall, ok
from oms_trio.testing.okx_server.rest.paging import PageQuery
from oms_trio.testing.okx_server.rest.trade_rows import fill_object, order_object
from oms_trio.testing.okx_server.values import ExchangeOrder, JsonObject, Visibility

RECENT_FILLS_MS = 3 * 86_400_000
"""How far back ``fills`` reaches; older fills are in ``fills-history`` only."""

HISTORY_MS = 7 * 86_400_000

CANCEL_ALL_AFTER_QUOTA = Quota(1, 1000)

_SUMMARIES = {"0": "", "1": "All operations failed", "2": "Bulk operation partially succeeded."}


def place_order(call: RestCall) -> JsonObject:
    """``POST /trade/order``."""
    return _operate(call, TradeOperation.PLACE, [call.single])


def cancel_order(call: RestCall) -> JsonObject:
    """``POST /trade/cancel-order``."""
    return _operate(call, TradeOperation.CANCEL, [call.single])


def amend_order(call: RestCall) -> JsonObject:
    """``POST /trade/amend-order``."""
    return _operate(call, TradeOperation.AMEND, [call.single])


def place_batch(call: RestCall) -> JsonObject:
    """``POST /trade/batch-orders``."""
    return _operate(call, TradeOperation.PLACE, call.batch)


def cancel_batch(call: RestCall) -> JsonObject:
    """``POST /trade/cancel-batch-orders``."""
    return _operate(call, TradeOperation.CANCEL, call.batch)


def amend_batch(call: RestCall) -> JsonObject:
    """``POST /trade/amend-batch-orders``."""
    return _operate(call, TradeOperation.AMEND, call.batch)


def order(call: RestCall) -> JsonObject:
    """``GET /trade/order``: of several orders with one client id, the latest."""
    call.need_instrument()
    ord_id, cl_ord_id = call.query.get("ordId", ""), call.query.get("clOrdId", "")
    if not ord_id and not cl_ord_id:
        raise RequestRejected("50014", "Parameter ordId can not be empty.")
    found = call.state.book.find(ord_id, cl_ord_id)
    if found is None or found.visibility is Visibility.BILLED:
        raise RequestRejected("51603", "Order does not exist")
    return ok(order_object(found, call.exchange.instrument))


def orders_pending(call: RestCall) -> JsonObject:
    """``GET /trade/orders-pending``."""
    engine = call.state
    return _orders(
        call, foreign_rows.pending_orders(engine, call.exchange.faults) + engine.book.pending
    )


def orders_history(call: RestCall) -> JsonObject:
    """``GET /trade/orders-history``: completed within seven days."""
    call.need("instType")
    engine, since_ms = call.state, call.exchange.now_ms - HISTORY_MS
    recent = [row for row in engine.book.ended if row.u_time_ms >= since_ms]
    return _orders(call, foreign_rows.past_orders(engine, call.exchange.faults) + recent)


def orders_history_archive(call: RestCall) -> JsonObject:
    """``GET /trade/orders-history-archive``: three months, without cancelled unfilled orders."""
    call.need("instType")
    return _orders(call, [row for row in call.state.book.ended if row.acc_fill_sz])


def fills(call: RestCall) -> JsonObject:
    """``GET /trade/fills``: three days."""
    return _fills(call, call.exchange.now_ms - RECENT_FILLS_MS)


def fills_history(call: RestCall) -> JsonObject:
    """``GET /trade/fills-history``: three months."""
    call.need("instType")
    return _fills(call, 0)


def cancel_all_after(call: RestCall) -> JsonObject:
    """``POST /trade/cancel-all-after``: times in Unix seconds, as in the exchange's samples."""
    exchange, tag = call.exchange, str(call.single.get("tag") or "")
    timeout = read_whole(str(call.single.get("timeOut", "")))
    if timeout is None:
        raise RequestRejected("51000", "Parameter timeOut error")
    if not exchange.limits.admit(f"caa {tag}", CANCEL_ALL_AFTER_QUOTA, exchange.true_ms):
        raise RequestRejected("50011", "Too Many Requests")
    due_ms = exchange.cancel_all_after(timeout, tag)
    return ok({"triggerTime": str(due_ms // 1000), "tag": tag, "ts": str(exchange.now_ms // 1000)})


def close_position(call: RestCall) -> JsonObject:
    """``POST /trade/close-position``: the answer names no order."""
    body = call.single
    check_inst_id(body, call.exchange.instrument)
    if body.get("mgnMode") != "cross":
        raise RequestRejected("51000", "Parameter mgnMode error")
    cl_ord_id, tag = str(body.get("clOrdId") or ""), str(body.get("tag") or "")
    placement.close_position(
        call.exchange.engine,
        matches=call.exchange.matches,
        auto_cancel=body.get("autoCxl") in (True, "true"),
        cl_ord_id=cl_ord_id,
        tag=tag,
    )
    inst_id = call.exchange.instrument.inst_id
    return ok({"instId": inst_id, "posSide": "net", "clOrdId": cl_ord_id, "tag": tag})


def mass_cancel(_call: RestCall) -> JsonObject:
    """``POST /trade/mass-cancel``: rejected, as it is for options only."""
    raise unsupported_in_this_mode()


def order_precheck(_call: RestCall) -> JsonObject:
    """``POST /trade/order-precheck``: not in this account mode."""
    raise unsupported_in_this_mode()


def account_rate_limit(call: RestCall) -> JsonObject:
    """``GET /trade/account-rate-limit``."""
    return ok(
        {
            "accRateLimit": "1000",
            "fillRatio": "",
            "mainFillRatio": "",
            "nextAccRateLimit": "",
            "ts": str(call.exchange.now_ms),
        }
    )


def _operate(call: RestCall, op: TradeOperation, elements: Sequence[Args]) -> JsonObject:
    if not 1 <= len(elements) <= MAX_BATCH:
        raise RequestRejected("50014", "Between 1 and 20 orders are expected.")
    in_us = call.exchange.now_us
    results = execute(call.exchange, op, elements, check_inst_id, exp_time=call.exp_time)
    code = summary(results)
    return {
        "code": code,
        "msg": _SUMMARIES[code],
        "data": render(op, results),
        "inTime": str(in_us),
        "outTime": str(in_us + 900),
    }


def _orders(call: RestCall, orders: list[ExchangeOrder]) -> JsonObject:
    """Return a page of orders by ``ordId``; ``begin`` and ``end`` are times of creation."""
    query = call.query
    wanted = [
        row
        for row in (sorted(orders, key=_age) if call.covers_instrument() else [])
        if row.visibility is not Visibility.BILLED
        and (not query.get("ordType") or row.ord_type.value in query["ordType"].split(","))
        and (not query.get("state") or row.state.value == query["state"])
    ]
    page = PageQuery.of(query).rows(wanted, cursor=_age, time_ms=lambda row: row.c_time_ms)
    return _answer(call, [order_object(row, call.exchange.instrument) for row in page])


def _fills(call: RestCall, since_ms: int) -> JsonObject:
    query, engine = call.query, call.state
    ord_id, sub_type = query.get("ordId"), query.get("subType")
    rows = foreign_rows.fills(engine, call.exchange.faults) + engine.book.fills
    page = PageQuery.of(query).rows(
        rows if call.covers_instrument() else [],
        cursor=lambda row: int(row.bill_id),
        time_ms=lambda row: row.ts_ms,
        wanted=lambda row: (
            row.visibility is not Visibility.BILLED
            and row.ts_ms >= since_ms
            and ord_id in {None, "", row.ord_id}
            and sub_type in {None, "", row.sub_type}
        ),
        begin_keeps_newest=True,
    )
    return _answer(call, [fill_object(row, call.exchange.instrument) for row in page])


def _answer(call: RestCall, rows: list[JsonObject]) -> JsonObject:
    return ok(*(foreign_rows.with_foreign_fields(row, call.exchange.faults) for row in rows))


def _age(order: ExchangeOrder) -> int:
    return int(order.ord_id)
