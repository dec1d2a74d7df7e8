"""Orders and fills as REST returns them."""

from __future__ import annotations

from oms_trio.core.model import Instrument
from oms_trio.testing.okx_server.values import (
    CancelSource,
    ExchangeFill,
    ExchangeOrder,
    JsonObject,
    OrderCategory,
    text,
)

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


def order_object(order: ExchangeOrder, instrument: Instrument) -> JsonObject:
    """Return an order as REST does; its ``fill*`` fields are those of the *last* match."""
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
        "tradeId": trade_id if order.category is OrderCategory.NORMAL else "0",
        "tradeQuoteCcy": "",
        "uTime": str(order.u_time_ms),
    }


def fill_object(fill: ExchangeFill, instrument: Instrument) -> JsonObject:
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
