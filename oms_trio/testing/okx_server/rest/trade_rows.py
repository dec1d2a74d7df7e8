"""Orders and fills as REST tells them, and the answers to trade operations."""

from __future__ import annotations

from oms_trio.core.model import Instrument
from oms_trio.testing.okx_server.events import OperationResult
from oms_trio.testing.okx_server.values import CancelSource, Category, Fill, Order, text
from oms_trio.testing.okx_server.ws.pushes import JsonObject

_REASONS = {
    CancelSource.SYSTEM: "Order canceled by the system",
    CancelSource.USER: "Order canceled by user",
    CancelSource.RISK: "Order canceled: risk of liquidation",
    CancelSource.FOK: "Order canceled: FOK order could not be filled at once",
    CancelSource.IOC: "Order canceled: IOC order's remainder",
    CancelSource.CLOSED_AT_MARKET: "Order canceled: position closed at market",
    CancelSource.CANCEL_ALL_AFTER: "Order canceled: cancel all after",
    CancelSource.POST_ONLY: "Order canceled: post only order would take",
    CancelSource.SELF_TRADE: "Order canceled: self trade prevention",
}


def order_object(order: Order, instrument: Instrument) -> JsonObject:
    """Return an order as REST tells it; its ``fill*`` fields are those of the *last* match."""
    fill = order.last_fill
    trade_id = "" if fill is None else str(fill.trade_id)
    return {
        "accFillSz": text(order.acc_fill_sz),
        "algoClOrdId": "",
        "algoId": "",
        "attachAlgoClOrdId": "",
        "attachAlgoOrds": [],
        "avgPx": "" if order.avg_px is None else text(order.avg_px),
        "cTime": str(order.c_time_ms),
        "cancelSource": order.cancel_source,
        "cancelSourceReason": (
            _REASONS[CancelSource(order.cancel_source)] if order.cancel_source else ""
        ),
        "category": order.category.value,
        "ccy": "USDT",
        "clOrdId": order.cl_ord_id,
        "fee": text(order.fee),
        "feeCcy": "USDT",
        "fillPx": text(fill.px) if fill else "",
        "fillSz": text(fill.sz) if fill else "0",
        "fillTime": str(fill.time_ms) if fill else "",
        "instId": instrument.inst_id,
        "instType": "SWAP",
        "isTpLimit": "false",
        "lever": text(order.lever),
        "linkedAlgoOrd": {"algoId": ""},
        "ordId": order.ord_id,
        "ordType": order.ord_type.value,
        "pnl": text(order.pnl),
        "posSide": "net",
        "px": "" if order.px is None else text(order.px),
        "pxType": "",
        "pxUsd": "",
        "pxVol": "",
        "quickMgnType": "",
        "rebate": "0",
        "rebateCcy": "USDT",
        "reduceOnly": "true" if order.reduce_only else "false",
        "side": order.side.value,
        "slOrdPx": "",
        "slTriggerPx": "",
        "slTriggerPxType": "",
        "source": "",
        "state": order.state.value,
        "stpId": "",
        "stpMode": order.stp_mode.value,
        "sz": text(order.sz),
        "tag": order.tag,
        "tdMode": "cross",
        "tgtCcy": "",
        "tpOrdPx": "",
        "tpTriggerPx": "",
        "tpTriggerPxType": "",
        "tradeId": trade_id if order.category is Category.NORMAL else "0",
        "tradeQuoteCcy": "",
        "uTime": str(order.u_time_ms),
    }


def fill_object(fill: Fill, instrument: Instrument) -> JsonObject:
    """Return one row of ``fills``."""
    return {
        "side": fill.side.value,
        "fillSz": text(fill.sz),
        "fillPx": text(fill.px),
        "fillPxVol": "",
        "fillFwdPx": "",
        "fee": text(fill.fee),
        "fillPnl": text(fill.pnl),
        "ordId": fill.ord_id,
        "feeRate": "",
        "instType": "SWAP",
        "fillPxUsd": "",
        "instId": instrument.inst_id,
        "clOrdId": fill.cl_ord_id,
        "posSide": "net",
        "billId": fill.bill_id,
        "subType": fill.sub_type,
        "fillMarkVol": "",
        "tag": fill.tag,
        "fillTime": str(fill.time_ms),
        "execType": fill.exec_type,
        "fillIdxPx": text(fill.idx_px),
        "tradeId": str(fill.trade_id),
        "fillMarkPx": text(fill.mark_px),
        "feeCcy": "USDT",
        "ts": str(fill.ts_ms),
        "tradeQuoteCcy": "",
    }


def placed(outcome: OperationResult) -> JsonObject:
    """Return the answer to one new order."""
    return {
        "clOrdId": outcome.cl_ord_id,
        "ordId": outcome.ord_id,
        "tag": outcome.tag,
        "ts": str(outcome.ts_ms),
        "sCode": outcome.code,
        "sMsg": outcome.msg,
        "subCode": outcome.sub_code,
    }


def canceled(outcome: OperationResult) -> JsonObject:
    """Return the answer to one cancellation."""
    return {
        "clOrdId": outcome.cl_ord_id,
        "ordId": outcome.ord_id,
        "ts": str(outcome.ts_ms),
        "sCode": outcome.code,
        "sMsg": outcome.msg,
    }


def amended(outcome: OperationResult) -> JsonObject:
    """Return the answer to one amendment."""
    return {
        "clOrdId": outcome.cl_ord_id,
        "ordId": outcome.ord_id,
        "ts": str(outcome.ts_ms),
        "reqId": outcome.req_id,
        "sCode": outcome.code,
        "sMsg": outcome.msg,
        "subCode": outcome.sub_code,
    }
