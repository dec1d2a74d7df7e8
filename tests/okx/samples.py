"""Frames and bodies in the exchange's real shape, with our own values."""

from __future__ import annotations

import json
from typing import Any, Final

from oms_trio.okx.wire.signing import Credentials

INST_ID: Final = "BTC-USDT-SWAP"
CREDENTIALS: Final = Credentials("6f0c-sim", "sim-secret-0001", "pp-sim")

_ORDERS_ARG: Final = {"channel": "orders", "instType": "SWAP", "instId": INST_ID}

LOGIN_OK: Final = '{"event":"login","code":"0","msg":"","connId":"7c1d90ab"}'

PARTIAL_FILL: Final = """
{"arg":{"channel":"orders","instType":"SWAP","instId":"BTC-USDT-SWAP","uid":"55001122334455667"},
"data":[{"instType":"SWAP","instId":"BTC-USDT-SWAP","tgtCcy":"","ccy":"USDT","tradeQuoteCcy":"",
"ordId":"3967288020668928111","clOrdId":"oms7f3a01","algoClOrdId":"","algoId":"","tag":"rl",
"px":"84000.1","sz":"3.5","notionalUsd":"2939.4","ordType":"limit","side":"buy","posSide":"net",
"tdMode":"cross","accFillSz":"1.2","fillNotionalUsd":"1007.8","avgPx":"84000.1",
"state":"partially_filled","lever":"100","pnl":"0","feeCcy":"USDT","fee":"-0.20160024",
"rebateCcy":"USDT","rebate":"0","category":"normal","uTime":"1790000004212",
"cTime":"1790000000441","source":"","reduceOnly":"false","cancelSource":"","quickMgnType":"",
"stpId":"","stpMode":"cancel_maker","attachAlgoClOrdId":"","lastPx":"84000.1","outcome":"",
"slippage":"0","riskBypassResult":"","isTpLimit":"false","slTriggerPx":"","slTriggerPxType":"",
"tpOrdPx":"","tpTriggerPx":"","tpTriggerPxType":"","slOrdPx":"","fillPx":"84000.1",
"tradeId":"1640211907","fillSz":"1.2","fillTime":"1790000004211","fillPnl":"0",
"fillFee":"-0.20160024","fillFeeCcy":"USDT","execType":"M","fillPxVol":"","fillPxUsd":"",
"fillMarkVol":"","fillFwdPx":"","fillMarkPx":"84003.2","fillIdxPx":"84020.7","amendSource":"",
"reqId":"","amendResult":"","code":"0","msg":"","pxType":"","pxUsd":"","pxVol":"",
"linkedAlgoOrd":{"algoId":""},"attachAlgoOrds":[]}]}
"""

POSITION: Final = """
{"arg":{"channel":"positions","instType":"SWAP","instId":"BTC-USDT-SWAP","uid":"55001122334455667"},
"eventType":"event_update","data":[{"adl":"1","availPos":"","avgPx":"84000.1","baseBal":"",
"bePx":"84050.5","cTime":"1790000004211","ccy":"USDT","closeOrderAlgo":[],"fee":"-0.5880007",
"fundingFee":"0","idxPx":"84020.7","imr":"29.403605","instId":"BTC-USDT-SWAP","instType":"SWAP",
"last":"84009.9","lever":"100","liqPenalty":"0","liqPx":"","margin":"","markPx":"84010.3",
"mgnMode":"cross","mgnRatio":"84.31","mmr":"11.761442","notionalUsd":"2939.9",
"pTime":"1790000007040","pnl":"0","pos":"3.5","posCcy":"","posId":"2731195502047301632",
"posSide":"net","realizedPnl":"-0.5880007","tradeId":"1640211944","uTime":"1790000006990",
"upl":"0.357","uplLastPx":"0.343","uplRatio":"0.012142842687092","usdPx":"0.99985"}]}
"""

ACCOUNT: Final = """
{"arg":{"channel":"account","uid":"55001122334455667"},"eventType":"event_update",
"data":[{"adjEq":"","availEq":"","imr":"","isoEq":"0","mgnRatio":"","mmr":"","notionalUsd":"",
"ordFroz":"","totalEq":"999.6","uTime":"1790000007041","upl":"","details":[{"ccy":"USDT",
"eq":"999.7689993","cashBal":"999.4119993","availEq":"970.3653943","frozenBal":"29.403605",
"upl":"0.357","mgnRatio":"84.31","uTime":"1790000006990","collateralEnabled":false,
"collateralRestrict":false,"spotBal":""}]}]}
"""

ORDER_OK: Final = """
{"id":"p7f3a01","op":"order","code":"0","msg":"","data":[{"clOrdId":"oms7f3a01",
"ordId":"3967288020668928111","tag":"rl","ts":"1790000000441","sCode":"0",
"sMsg":"Order placed","subCode":""}],"inTime":"1790000000440021","outTime":"1790000000442310"}
"""

ORDER_REJECTED: Final = """
{"id":"p7f3a02","op":"order","code":"1","msg":"","data":[{"clOrdId":"oms7f3a02","ordId":"",
"tag":"","ts":"1790000001120","sCode":"51008","sMsg":"Insufficient margin",
"subCode":"51008_1001"}],"inTime":"1790000001119800","outTime":"1790000001121002"}
"""

REQUEST_REFUSED: Final = """
{"id":"p7f3a03","op":"order","code":"60013","msg":"Invalid args","data":[],
"inTime":"1790000002000100","outTime":"1790000002000450"}
"""

INSTRUMENT: Final = """
{"code":"0","msg":"","data":[{"instType":"SWAP","instId":"BTC-USDT-SWAP","uly":"BTC-USDT",
"instFamily":"BTC-USDT","groupId":"4","baseCcy":"","quoteCcy":"","settleCcy":"USDT",
"ctVal":"0.01","ctMult":"1","ctValCcy":"BTC","ctType":"linear","optType":"","stk":"",
"listTime":"1573557408000","expTime":"","lever":"100","tickSz":"0.1","lotSz":"0.01",
"minSz":"0.01","alias":"","state":"live","ruleType":"normal","maxLmtSz":"100000000",
"maxMktSz":"35000","maxLmtAmt":"20000000","maxMktAmt":"","maxStopSz":"35000",
"instIdCode":10459,"instCategory":"1","futureSettlement":false,"tradeQuoteCcyList":[],
"upcChg":[]}]}
"""

CONFIG: Final = """
{"code":"0","msg":"","data":[{"uid":"55001122334455667","mainUid":"55001122334455000",
"acctLv":"2","posMode":"net_mode","acctStpMode":"cancel_maker","autoLoan":false,
"perm":"read_only,trade","type":"1","enableSpotBorrow":false,"settleCcyList":["USD","USDC"]}]}
"""

LEVERAGE: Final = """
{"code":"0","msg":"","data":[{"lever":"100","mgnMode":"cross","instId":"BTC-USDT-SWAP",
"posSide":"net"}]}
"""

FILLS: Final = """
{"code":"0","msg":"","data":[{"side":"buy","fillSz":"1.2","fillPx":"84000.1","fillPxVol":"",
"fillFwdPx":"","fee":"-0.20160024","fillPnl":"0","ordId":"3967288020668928111","feeRate":"",
"instType":"SWAP","fillPxUsd":"","instId":"BTC-USDT-SWAP","clOrdId":"oms7f3a01","posSide":"net",
"billId":"3967288160020811776","subType":"1","fillMarkVol":"","tag":"rl",
"fillTime":"1790000004211","execType":"M","fillIdxPx":"84020.7","tradeId":"1640211907",
"fillMarkPx":"84003.2","feeCcy":"USDT","ts":"1790000004214","tradeQuoteCcy":""}]}
"""

NO_SUCH_ORDER: Final = '{"code":"51603","msg":"Order does not exist","data":[]}'


def order_row(**changes: object) -> dict[str, Any]:
    """A row of the partial fill above, with changes."""
    row: dict[str, Any] = json.loads(PARTIAL_FILL)["data"][0]
    return {**row, **changes}


def live_row(**changes: object) -> dict[str, Any]:
    """The same order before its first fill: every fill field is reset, as in recorded pushes."""
    reset = {
        "state": "live",
        "accFillSz": "0",
        "avgPx": "0",
        "fillSz": "0",
        "fillPx": "",
        "tradeId": "",
        "fillTime": "",
        "fillPnl": "0",
        "uTime": "1790000000441",
    }
    return order_row(**{**reset, **changes})


def orders_push(*rows: object) -> str:
    """An orders push of these rows."""
    return json.dumps({"arg": _ORDERS_ARG, "data": rows})


def positions_push(**changes: object) -> str:
    """The position push above, with changes to its row."""
    frame = json.loads(POSITION)
    frame["data"][0].update(changes)
    return json.dumps(frame)


def fill_row(**changes: object) -> dict[str, Any]:
    """A row of the fills above, with changes."""
    row: dict[str, Any] = json.loads(FILLS)["data"][0]
    return {**row, **changes}


def rest_body(*rows: object) -> str:
    """A successful answer of REST with these rows."""
    return json.dumps({"code": "0", "msg": "", "data": rows})


def error_event(code: str, msg: str = "Login failed.") -> str:
    """An error event, as after a rejected login."""
    return json.dumps({"event": "error", "code": code, "msg": msg, "connId": "7c1d90ab"})


def subscribed(channel: str) -> str:
    """The acknowledgement of one channel."""
    return json.dumps({"id": "subscribe", "event": "subscribe", "arg": {"channel": channel}})
