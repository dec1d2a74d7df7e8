"""Public data: the instrument, its price limits, tiers and funding rate."""

from __future__ import annotations

from decimal import Decimal

from oms_trio.testing.okx_server.account.tiers import Tier
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.orders.request_checks import MAX_LMT_AMT, MAX_LMT_SZ, MAX_MKT_SZ
from oms_trio.testing.okx_server.values import JsonObject, text


def instrument_object(exchange: SimulatedExchange) -> JsonObject:
    """Return the instrument's record with its full set of keys."""
    instrument = exchange.instrument
    base, quote, _ = instrument.inst_id.split("-")
    blank = (
        "seriesId category baseCcy quoteCcy optType stk auctionEndTime contTdSwTime preMktSwTime "
        "openType expTime alias maxMktAmt maxTwapSz maxIcebergSz maxTriggerSz rpiMinLevel "
        "rpiMinPxBand maxPlatOILmt maxPlatOICoinLmt longPosRemainingQuota shortPosRemainingQuota "
        "freq method"
    )
    return dict.fromkeys(blank.split(), "") | {
        "instType": "SWAP",
        "instId": instrument.inst_id,
        "uly": f"{base}-{quote}",
        "instFamily": f"{base}-{quote}",
        "groupId": "4",
        "settleCcy": quote,
        "ctVal": text(instrument.ct_val),
        "ctMult": text(instrument.ct_mult),
        "ctValCcy": base,
        "ctType": "linear",
        "listTime": "1573557408000",
        "lever": "100",
        "tickSz": text(instrument.tick_sz),
        "lotSz": text(instrument.lot_sz),
        "minSz": text(instrument.min_sz),
        "state": "suspend" if exchange.faults.suspended else "live",
        "ruleType": "normal",
        "maxLmtSz": text(MAX_LMT_SZ),
        "maxMktSz": text(MAX_MKT_SZ),
        "maxStopSz": text(MAX_MKT_SZ),
        "maxLmtAmt": text(MAX_LMT_AMT),
        "instIdCode": instrument.inst_id_code,
        "instCategory": "1",
        "initPxLmtPct": "0.02",
        "floatPxLmtPct": "0.005",
        "maxPxLmtPct": "0.01",
        "posLmtAmt": "250000",
        "posLmtPct": "30",
        "futureSettlement": False,
        "tradeQuoteCcyList": [],
        "upcChg": [],
    }


def price_limit(exchange: SimulatedExchange) -> JsonObject:
    """Return the prices beyond which orders are rejected."""
    return {
        "instType": "SWAP",
        "instId": exchange.instrument.inst_id,
        "buyLmt": text(exchange.engine.market.buy_lmt),
        "sellLmt": text(exchange.engine.market.sell_lmt),
        "ts": str(exchange.now_ms),
        "enabled": True,
    }


def funding_rate(exchange: SimulatedExchange) -> JsonObject:
    """Return the next funding rate, and when it is settled."""
    now_ms, every_ms = exchange.now_ms, exchange.funding_every_ms
    due_ms = (now_ms // every_ms + 1) * every_ms
    return {
        "formulaType": "withRate",
        "fundingRate": text(exchange.funding_rate),
        "fundingTime": str(due_ms),
        "impactValue": "20000",
        "instId": exchange.instrument.inst_id,
        "instType": "SWAP",
        "interestRate": "0.0001",
        "maxFundingRate": "0.00375",
        "method": "current_period",
        "minFundingRate": "-0.00375",
        "nextFundingRate": "",
        "nextFundingTime": str(due_ms + every_ms),
        "premium": "0",
        "settFundingRate": text(exchange.funded[-1][1]) if exchange.funded else "",
        "settState": "settled",
        "ts": str(now_ms),
    }


def settled_rate(exchange: SimulatedExchange, time_ms: int, rate: Decimal) -> JsonObject:
    """Return one row of ``funding-rate-history``."""
    return {
        "formulaType": "withRate",
        "fundingRate": text(rate),
        "fundingTime": str(time_ms),
        "instId": exchange.instrument.inst_id,
        "instType": "SWAP",
        "method": "current_period",
        "realizedRate": text(rate),
    }


def tier_object(tier: Tier, inst_family: str) -> JsonObject:
    """Return one row of ``position-tiers``."""
    return {
        "baseMaxLoan": "",
        "imr": text(tier.imr),
        "instFamily": inst_family,
        "instId": "",
        "maxLever": text(tier.max_lever),
        "maxSz": text(tier.max_sz),
        "minSz": text(tier.min_sz),
        "mmr": text(tier.mmr),
        "optMgnFactor": "",
        "quoteMaxLoan": "",
        "tier": str(tier.number),
        "uly": inst_family,
    }
