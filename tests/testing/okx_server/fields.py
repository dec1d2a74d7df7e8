"""The field sets of the exchange's objects, as recorded: what a client may rely on."""

from __future__ import annotations


def keys(names: str) -> list[str]:
    """Read a list of names, in their order."""
    return names.split()


ORDER_PUSH_KEYS = keys("""
    instType instId tgtCcy ccy tradeQuoteCcy ordId clOrdId algoClOrdId algoId tag px sz
    notionalUsd ordType side posSide tdMode accFillSz fillNotionalUsd avgPx state lever pnl
    feeCcy fee rebateCcy rebate category uTime cTime source reduceOnly cancelSource
    quickMgnType stpId stpMode attachAlgoClOrdId lastPx outcome slippage riskBypassResult
    isTpLimit slTriggerPx slTriggerPxType tpOrdPx tpTriggerPx tpTriggerPxType slOrdPx fillPx
    tradeId fillSz fillTime fillPnl fillFee fillFeeCcy execType fillPxVol fillPxUsd
    fillMarkVol fillFwdPx fillMarkPx fillIdxPx amendSource reqId amendResult code msg pxType
    pxUsd pxVol linkedAlgoOrd attachAlgoOrds
""")

POSITION_PUSH_KEYS = set(
    keys("""
    adl availPos avgPx baseBal baseBorrowed baseInterest bePx bizRefId bizRefType cTime ccy
    clSpotInUseAmt closeOrderAlgo deltaBS deltaPA fee fundingFee gammaBS gammaPA hedgedPos
    idxPx imr instId instType interest last lever liab liabCcy liqPenalty liqPx margin markPx
    maxSpotInUseAmt mgnMode mgnRatio mmr nonSettleAvgPx notionalUsd optVal pTime
    pendingCloseOrdLiabVal pnl pos posCcy posId posSide quoteBal quoteBorrowed quoteInterest
    realizedPnl settledPnl spotInUseAmt spotInUseCcy thetaBS thetaPA tradeId uTime upl
    uplLastPx uplRatio uplRatioLastPx usdPx vegaBS vegaPA
""")
)

ACCOUNT_KEYS = set(
    keys("""
    adjEq availEq borrowFroz delta deltaLever deltaNeutralStatus imr isoEq mgnRatio mmr
    notionalUsd notionalUsdForBorrow notionalUsdForFutures notionalUsdForOption
    notionalUsdForSwap ordFroz totalEq uTime upl details
""")
)

DETAIL_KEYS = set(
    keys("""
    ccy eq cashBal availEq availBal frozenBal ordFrozen upl imr mmr mgnRatio notionalLever
    eqUsd disEq uTime isoEq isoUpl fixedBal liab crossLiab isoLiab uplLiab interest borrowFroz
    maxLoan twap frpType rewardBal stgyEq coinUsdPrice colRes colBorrAutoConversion
    collateralEnabled collateralRestrict autoLendStatus autoLendMtAmt smtSyncEq
    spotCopyTradingEq spotIsoBal spotBal openAvgPx accAvgPx spotUpl spotUplRatio totalPnl
    totalPnlRatio spotInUseAmt clSpotInUseAmt maxSpotInUseAmt
""")
)

ORDER_KEYS = set(
    keys("""
    accFillSz algoClOrdId algoId attachAlgoClOrdId attachAlgoOrds avgPx cTime cancelSource
    cancelSourceReason category ccy clOrdId fee feeCcy fillPx fillSz fillTime instId instType
    isTpLimit lever linkedAlgoOrd ordId ordType pnl posSide px pxType pxUsd pxVol quickMgnType
    rebate rebateCcy reduceOnly side slOrdPx slTriggerPx slTriggerPxType source state stpId
    stpMode sz tag tdMode tgtCcy tpOrdPx tpTriggerPx tpTriggerPxType tradeId tradeQuoteCcy
    uTime
""")
)

FILL_KEYS = keys("""
    side fillSz fillPx fillPxVol fillFwdPx fee fillPnl ordId feeRate instType fillPxUsd instId
    clOrdId posSide billId subType fillMarkVol tag fillTime execType fillIdxPx tradeId
    fillMarkPx feeCcy ts tradeQuoteCcy
""")

INSTRUMENT_KEYS = set(
    keys("""
    instType seriesId instId uly groupId instFamily category baseCcy quoteCcy settleCcy ctVal
    ctMult ctValCcy optType stk listTime auctionEndTime contTdSwTime preMktSwTime openType
    expTime lever tickSz lotSz minSz ctType alias state ruleType maxLmtSz maxMktSz maxLmtAmt
    maxMktAmt maxTwapSz maxIcebergSz maxTriggerSz maxStopSz futureSettlement tradeQuoteCcyList
    instIdCode instCategory initPxLmtPct floatPxLmtPct maxPxLmtPct rpiMinLevel rpiMinPxBand
    upcChg posLmtAmt posLmtPct maxPlatOILmt maxPlatOICoinLmt longPosRemainingQuota
    shortPosRemainingQuota freq method
""")
)

CONFIG_KEYS = set(
    keys("""
    uid mainUid acctLv posMode acctStpMode autoLoan greeksType feeType level levelTmp
    ctIsoMode mgnIsoMode stgyType roleType traderInsts spotRoleType spotTraderInsts
    spotOffsetType opAuth kycLv label ip perm liquidationGear enableSpotBorrow
    spotBorrowAutoRepay type settleCcy settleCcyList
""")
)
