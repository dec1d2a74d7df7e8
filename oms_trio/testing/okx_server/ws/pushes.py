"""The data of pushes: every field of recorded pushes, blank where it is blank there.

The order of the keys and the choice between ``""`` and ``"0"`` are those of the recordings:
``avgPx`` of an unfilled order is ``"0"`` here and ``""`` on REST.
"""

from __future__ import annotations

from decimal import Decimal

from oms_trio.core.model import Instrument
from oms_trio.testing.okx_server.account.ledger import AccountView, PositionView
from oms_trio.testing.okx_server.events import BalanceAndPositionChanged, OrderChanged
from oms_trio.testing.okx_server.values import JsonObject, NetPosition, text

USD_PX = Decimal("0.99985")
"""The price of one USDT in USD, for fields in USD only."""


def order_push(change: OrderChanged, instrument: Instrument, last: Decimal) -> JsonObject:
    """Return ``data[0]`` of an orders push; its ``fill*`` fields are those of this push's match."""
    order, fill = change.order, change.fill
    value = instrument.multiplier
    return {
        "instType": "SWAP",
        "instId": instrument.inst_id,
        "tgtCcy": "",
        "ccy": "USDT",
        "tradeQuoteCcy": "",
        "ordId": order.ord_id,
        "clOrdId": order.cl_ord_id,
        "algoClOrdId": "",
        "algoId": "",
        "tag": order.tag,
        "px": _or_blank(order.px),
        "sz": text(order.sz),
        "notionalUsd": text(order.sz * value * order.limit_px * USD_PX),
        "ordType": order.ord_type.value,
        "side": order.side.value,
        "posSide": "net",
        "tdMode": "cross",
        "accFillSz": text(order.acc_fill_sz),
        "fillNotionalUsd": text(order.turnover * value * USD_PX) if order.acc_fill_sz else "",
        "avgPx": "0" if order.avg_px is None else text(order.avg_px),
        "state": order.state.value,
        "lever": text(order.lever),
        "pnl": text(order.pnl),
        "feeCcy": "USDT",
        "fee": text(order.fee),
        "rebateCcy": "USDT",
        "rebate": "0",
        "category": order.category.value,
        "uTime": str(order.u_time_ms),
        "cTime": str(order.c_time_ms),
        "source": "",
        "reduceOnly": "true" if order.reduce_only else "false",
        "cancelSource": order.cancel_source,
        "quickMgnType": "",
        "stpId": "",
        "stpMode": order.stp_mode.value,
        "attachAlgoClOrdId": "",
        "lastPx": text(fill.px if fill else last),
        "outcome": "",
        "slippage": "0",
        "riskBypassResult": "",
        "isTpLimit": "false",
        "slTriggerPx": "",
        "slTriggerPxType": "",
        "tpOrdPx": "",
        "tpTriggerPx": "",
        "tpTriggerPxType": "",
        "slOrdPx": "",
        "fillPx": text(fill.px) if fill else "",
        "tradeId": str(fill.trade_id) if fill else "",
        "fillSz": text(fill.sz) if fill else "0",
        "fillTime": str(fill.time_ms) if fill else "",
        "fillPnl": text(fill.pnl) if fill else "0",
        "fillFee": text(fill.fee) if fill else "0",
        "fillFeeCcy": "USDT" if fill else "",
        "execType": fill.exec_type if fill else "",
        "fillPxVol": "",
        "fillPxUsd": "",
        "fillMarkVol": "",
        "fillFwdPx": "",
        "fillMarkPx": text(fill.mark_px) if fill else "",
        "fillIdxPx": text(fill.idx_px) if fill else "",
        "amendSource": "1" if change.amend_result else "",
        "reqId": change.req_id,
        "amendResult": change.amend_result,
        "code": change.code,
        "msg": change.msg,
        "pxType": "",
        "pxUsd": "",
        "pxVol": "",
        "linkedAlgoOrd": {"algoId": ""},
        "attachAlgoOrds": [],
    }


def position_push(view: PositionView, instrument: Instrument, now_ms: int) -> JsonObject:
    """Return an element of a positions push; REST's object is the same without ``pTime``."""
    held = view.position
    is_open = bool(held.pos)
    return {
        "adl": "1" if is_open else "",
        "availPos": "",
        "avgPx": text(held.avg_px) if is_open else "",
        "baseBal": "",
        "baseBorrowed": "",
        "baseInterest": "",
        "bePx": text(_break_even(view, instrument)) if is_open else "",
        "bizRefId": "",
        "bizRefType": "",
        "cTime": str(held.c_time_ms),
        "ccy": "USDT",
        "clSpotInUseAmt": "",
        "closeOrderAlgo": [],
        "deltaBS": "",
        "deltaPA": "",
        "fee": text(held.fee),
        "fundingFee": text(held.funding_fee),
        "gammaBS": "",
        "gammaPA": "",
        "hedgedPos": "",
        "idxPx": text(view.idx_px),
        "imr": text(view.imr) if is_open else "",
        "instId": instrument.inst_id,
        "instType": "SWAP",
        "interest": "",
        "last": text(view.last),
        "lever": text(view.lever),
        "liab": "",
        "liabCcy": "",
        "liqPenalty": text(held.liq_penalty),
        "liqPx": "",
        "margin": "",
        "markPx": text(view.mark_px),
        "maxSpotInUseAmt": "",
        "mgnMode": "cross",
        "mgnRatio": _or_blank(view.mgn_ratio),
        "mmr": text(view.mmr) if is_open else "",
        "nonSettleAvgPx": "",
        "notionalUsd": text(view.notional * USD_PX) if is_open else "",
        "optVal": "",
        "pTime": str(now_ms),
        "pendingCloseOrdLiabVal": "",
        "pnl": text(held.pnl),
        "pos": text(held.pos),
        "posCcy": "",
        "posId": held.pos_id,
        "posSide": "net",
        "quoteBal": "",
        "quoteBorrowed": "",
        "quoteInterest": "",
        "realizedPnl": text(held.realized_pnl),
        "settledPnl": "",
        "spotInUseAmt": "",
        "spotInUseCcy": "",
        "thetaBS": "",
        "thetaPA": "",
        "tradeId": str(held.trade_id),
        "uTime": str(held.u_time_ms),
        "upl": text(view.upl) if is_open else "",
        "uplLastPx": text(view.upl_last_px) if is_open else "",
        "uplRatio": _or_blank(view.upl_ratio),
        "uplRatioLastPx": _or_blank(view.upl_ratio_last_px),
        "usdPx": text(USD_PX),
        "vegaBS": "",
        "vegaPA": "",
    }


def account_push(view: AccountView, now_ms: int) -> JsonObject:
    """Return ``data[0]`` of an account push in Futures mode; REST's balance is the same."""
    has_anything = bool(view.eq or view.avail_eq)
    return {
        "adjEq": "",
        "availEq": "",
        "borrowFroz": "",
        "delta": "",
        "deltaLever": "",
        "deltaNeutralStatus": "",
        "imr": "",
        "isoEq": "0",
        "mgnRatio": "",
        "mmr": "",
        "notionalUsd": "",
        "notionalUsdForBorrow": "",
        "notionalUsdForFutures": "",
        "notionalUsdForOption": "",
        "notionalUsdForSwap": "",
        "ordFroz": "",
        "totalEq": text(view.eq * USD_PX),
        "uTime": str(now_ms),
        "upl": "",
        "details": [_usdt(view)] if has_anything else [],
    }


def balance_and_position(
    change: BalanceAndPositionChanged,
    instrument: Instrument,
    now_ms: int,
    *,
    is_snapshot: bool = False,
) -> JsonObject:
    """Return ``data[0]`` of a ``balance_and_position`` push, which has what changed only."""
    held = change.position
    is_listed = held is not None and (held.pos or not is_snapshot)
    return {
        "pTime": str(now_ms),
        "eventType": change.cause,
        "balData": [
            {"ccy": "USDT", "cashBal": text(change.cash_bal), "uTime": str(change.u_time_ms)}
        ],
        "posData": [_short_position(held, instrument)] if held is not None and is_listed else [],
        "trades": (
            [{"instId": instrument.inst_id, "tradeId": str(change.trade_id)}]
            if change.trade_id
            else []
        ),
    }


def mark_price(instrument: Instrument, mark_px: Decimal, now_ms: int) -> JsonObject:
    """Return the mark price as REST and the public channel have it."""
    return {
        "instType": "SWAP",
        "instId": instrument.inst_id,
        "markPx": text(mark_px),
        "ts": str(now_ms),
    }


def _short_position(held: NetPosition, instrument: Instrument) -> JsonObject:
    return {
        "posId": held.pos_id,
        "tradeId": str(held.trade_id),
        "instId": instrument.inst_id,
        "instType": "SWAP",
        "mgnMode": "cross",
        "posSide": "net",
        "pos": text(held.pos),
        "ccy": "USDT",
        "posCcy": "",
        "avgPx": text(held.avg_px) if held.pos else "",
        "baseBal": "",
        "quoteBal": "",
        "nonSettleAvgPx": "",
        "settledPnl": "",
        "uTime": str(held.u_time_ms),
    }


def _usdt(view: AccountView) -> JsonObject:
    return {
        "ccy": "USDT",
        "eq": text(view.eq),
        "cashBal": text(view.cash_bal),
        "availEq": text(view.avail_eq),
        "availBal": text(view.avail_eq),
        "frozenBal": text(view.frozen_bal),
        "ordFrozen": text(view.ord_frozen),
        "upl": text(view.upl),
        "imr": text(view.imr),
        "mmr": text(view.mmr),
        "mgnRatio": _or_blank(view.mgn_ratio),
        "notionalLever": text(view.notional / view.eq) if view.eq > 0 else "",
        "eqUsd": text(view.eq * USD_PX),
        "disEq": text(view.eq * USD_PX),
        "uTime": str(view.u_time_ms),
        "isoEq": "0",
        "isoUpl": "0",
        "fixedBal": "0",
        "liab": "",
        "crossLiab": "",
        "isoLiab": "",
        "uplLiab": "",
        "interest": "",
        "borrowFroz": "",
        "maxLoan": "",
        "twap": "0",
        "frpType": "",
        "rewardBal": "0",
        "stgyEq": "0",
        "coinUsdPrice": text(USD_PX),
        "colRes": "0",
        "colBorrAutoConversion": "0",
        "collateralEnabled": False,
        "collateralRestrict": False,
        "autoLendStatus": "off",
        "autoLendMtAmt": "0",
        "smtSyncEq": "0",
        "spotCopyTradingEq": "0",
        "spotIsoBal": "0",
        "spotBal": "",
        "openAvgPx": "",
        "accAvgPx": "",
        "spotUpl": "",
        "spotUplRatio": "",
        "totalPnl": "",
        "totalPnlRatio": "",
        "spotInUseAmt": "",
        "clSpotInUseAmt": "",
        "maxSpotInUseAmt": "",
    }


def _break_even(view: PositionView, instrument: Instrument) -> Decimal:
    """Return the price at which the position earns back its fees; OKX publishes no formula."""
    held = view.position
    return held.avg_px - held.fee / (held.pos * instrument.multiplier)


def _or_blank(number: Decimal | None) -> str:
    return "" if number is None else text(number)
