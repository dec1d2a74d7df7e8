"""The account as REST returns it: configuration, fees, bills and past positions."""

from __future__ import annotations

from decimal import Decimal

from oms_trio.core.model import Instrument, Side
from oms_trio.testing.okx_server.account.bills import Bill
from oms_trio.testing.okx_server.account.ledger import MAKER_FEE, TAKER_FEE
from oms_trio.testing.okx_server.account.position_history import PositionRecord
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.values import JsonObject, text


def config_object(account: ExchangeAccount, pos_mode: str) -> JsonObject:
    """Return ``account/config``."""
    return {
        "uid": account.uid,
        "mainUid": account.uid,
        "acctLv": account.acct_lv,
        "posMode": pos_mode,
        "acctStpMode": "cancel_maker",
        "autoLoan": False,
        "greeksType": "PA",
        "feeType": "0",
        "level": "Lv1",
        "levelTmp": "",
        "ctIsoMode": "automatic",
        "mgnIsoMode": "automatic",
        "stgyType": "0",
        "roleType": "0",
        "traderInsts": [],
        "spotRoleType": "0",
        "spotTraderInsts": [],
        "spotOffsetType": "",
        "opAuth": "0",
        "kycLv": "2",
        "label": "simulated",
        "ip": "",
        "perm": account.perm,
        "liquidationGear": "",
        "enableSpotBorrow": False,
        "spotBorrowAutoRepay": False,
        "type": "1",
        "settleCcy": "USDT",
        "settleCcyList": ["USD", "USDC"],
    }


def lever_object(instrument: Instrument, lever: Decimal) -> JsonObject:
    """Return the answer to ``set-leverage`` and ``leverage-info``."""
    return {
        "lever": text(lever),
        "mgnMode": "cross",
        "instId": instrument.inst_id,
        "posSide": "net",
    }


def fee_object(now_ms: int) -> JsonObject:
    """Return ``trade-fee``: below 0 is charged."""
    maker, taker = text(-MAKER_FEE), text(-TAKER_FEE)
    return {
        "category": "",
        "delivery": "",
        "exercise": "",
        "feeGroup": [{"groupId": "4", "maker": maker, "taker": taker}],
        "fiat": [],
        "instType": "SWAP",
        "level": "Lv1",
        "maker": "",
        "makerU": maker,
        "makerUSDC": "",
        "ruleType": "normal",
        "taker": "",
        "takerU": taker,
        "takerUSDC": "",
        "ts": str(now_ms),
    }


def bill_object(bill: Bill, instrument: Instrument) -> JsonObject:
    """Return one row of ``bills``."""
    fill = bill.fill
    return {
        "bal": text(bill.bal),
        "balChg": text(bill.bal_chg),
        "billId": bill.bill_id,
        "ccy": "USDT",
        "clOrdId": fill.cl_ord_id if fill else "",
        "earnAmt": "",
        "earnApr": "",
        "execType": fill.exec_type if fill else "",
        "fee": text(fill.fee) if fill else "0",
        "fillFwdPx": "",
        "fillIdxPx": text(fill.idx_px) if fill else "",
        "fillMarkPx": text(fill.mark_px) if fill else "",
        "fillMarkVol": "",
        "fillPxUsd": "",
        "fillPxVol": "",
        "fillTime": str(fill.time_ms) if fill else "",
        "from": "",
        "instId": instrument.inst_id,
        "instType": "SWAP",
        "interest": "0",
        "mgnMode": "cross",
        "notes": "",
        "ordId": fill.ord_id if fill else "",
        "pnl": text(bill.pnl),
        "posBal": "0",
        "posBalChg": "0",
        "px": text(bill.px),
        "subType": bill.sub_type,
        "sz": text(bill.sz),
        "tag": fill.tag if fill else "",
        "to": "",
        "tradeId": str(fill.trade_id) if fill else "",
        "ts": str(bill.ts_ms),
        "type": bill.bill_type,
    }


def position_record_object(record: PositionRecord, instrument: Instrument) -> JsonObject:
    """Return one row of ``positions-history``."""
    margin = record.open_max_pos * instrument.multiplier * record.open_avg_px / record.lever
    return {
        "cTime": str(record.c_time_ms),
        "ccy": "USDT",
        "closeAvgPx": text(record.close_turnover / record.close_total_pos),
        "closeTotalPos": text(record.close_total_pos),
        "direction": "long" if record.direction is Side.BUY else "short",
        "fee": text(record.fee),
        "fundingFee": text(record.funding_fee),
        "instId": instrument.inst_id,
        "instType": "SWAP",
        "lever": text(record.lever) + ".0",
        "liqPenalty": text(record.liq_penalty),
        "mgnMode": "cross",
        "nonSettleAvgPx": "",
        "openAvgPx": text(record.open_avg_px),
        "openMaxPos": text(record.open_max_pos),
        "pnl": text(record.pnl),
        "pnlRatio": text(record.realized_pnl / margin),
        "posId": record.pos_id,
        "posSide": "net",
        "realizedPnl": text(record.realized_pnl),
        "settledPnl": "",
        "triggerPx": "",
        "type": record.close_type.value,
        "uTime": str(record.u_time_ms),
        "uly": instrument.inst_id.removesuffix("-SWAP"),
    }
