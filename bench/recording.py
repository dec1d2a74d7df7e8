"""A recording of any length: actions that become orders, fill and close trades, as raw inputs.

Every cycle is seven inputs: two actions, two answers, two fills (a buy that opens a trade and a
sell that closes it) and a position push. The inputs are raw, so that reading them back costs
what it costs live.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from oms_trio.amqp.codec import decode_action, encode_action, encode_publication
from oms_trio.amqp.model import Delivery
from oms_trio.core.effects import PlaceOrder, PublishClosure, PublishExecution, PublishRejection
from oms_trio.core.model import ClOrdId, OrderType
from oms_trio.core.state import TradeState
from oms_trio.journal.model import Entry, Message, Record
from oms_trio.okx.wire.codec import decode_frame
from oms_trio.okx.wire.frames import AccountPush, OpResponse, OrdersPush, PositionsPush
from oms_trio.okx.wire.recorded import SnapshotBodies
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import DecodeContext, JournaledInput, Kind, encode_effects
from oms_trio.settings.config import Config

DEFAULTS = Config.from_environ({"HOME": "/"})
CONTEXT = DecodeContext(DEFAULTS.instrument, DEFAULTS.order_tag)
RULES = DEFAULTS.rules()
START_NS = 1_790_000_000_000_000_000
STEP_NS = 10_000_000


def _rest(*rows: dict[str, object]) -> str:
    return msgspec.json.encode({"code": "0", "msg": "", "data": rows}).decode()


SNAPSHOT = SnapshotBodies(
    request=1,
    asked_at_ns=START_NS,
    instrument=_rest(
        {
            "instId": "BTC-USDT-SWAP",
            "instType": "SWAP",
            "state": "live",
            "ctType": "linear",
            "settleCcy": "USDT",
            "ctVal": "0.01",
            "ctMult": "1",
            "tickSz": "0.1",
            "lotSz": "0.01",
            "minSz": "0.01",
            "instIdCode": 10459,
        }
    ),
    balance=_rest(
        {
            "uTime": "1790000000000",
            "details": [{"ccy": "USDT", "cashBal": "10000", "uTime": "1790000000000"}],
        }
    ),
    pending=(_rest(),),
    history=(_rest(),),
    looked_up={},
    position=_rest(),
    fills=(_rest(),),
    mark_price=_rest({"instId": "BTC-USDT-SWAP", "instType": "SWAP", "markPx": "67000"}),
)

# The exchange sends some sixty fields; those that nobody reads cost their share of decoding too.
ORDER = (
    '{"arg":{"channel":"orders","instType":"SWAP","instId":"BTC-USDT-SWAP","uid":"550011223344"},'
    '"data":[{"instType":"SWAP","instId":"BTC-USDT-SWAP","tgtCcy":"","ccy":"USDT",'
    '"tradeQuoteCcy":"","ordId":"%(ord)d","clOrdId":"%(name)s","algoClOrdId":"","algoId":"",'
    '"tag":"omstrio","px":"67000","sz":"%(sz)s","notionalUsd":"1005","ordType":"limit",'
    '"side":"%(side)s","posSide":"net","tdMode":"cross","accFillSz":"%(acc)s",'
    '"fillNotionalUsd":"1005","avgPx":"%(px)s","state":"%(state)s","lever":"100","pnl":"0",'
    '"feeCcy":"USDT","fee":"-0.2","rebateCcy":"USDT","rebate":"0","category":"normal",'
    '"uTime":"%(ms)d","cTime":"%(ms)d","source":"","reduceOnly":"false","cancelSource":"",'
    '"quickMgnType":"","stpId":"","stpMode":"cancel_maker","attachAlgoClOrdId":"",'
    '"lastPx":"%(px)s","outcome":"","slippage":"0","isTpLimit":"false","slTriggerPx":"",'
    '"slTriggerPxType":"","tpOrdPx":"","tpTriggerPx":"","tpTriggerPxType":"","slOrdPx":"",'
    '"fillPx":"%(px)s","tradeId":"%(trade)d","fillSz":"%(fill)s","fillTime":"%(ms)d",'
    '"fillPnl":"%(pnl)s","fillFee":"-0.2","fillFeeCcy":"USDT","execType":"M","fillPxVol":"",'
    '"fillPxUsd":"","fillMarkVol":"","fillFwdPx":"","fillMarkPx":"67000.2","fillIdxPx":"67000.7",'
    '"amendSource":"","reqId":"","amendResult":"","code":"0","msg":"","pxType":"","pxUsd":"",'
    '"pxVol":"","linkedAlgoOrd":{"algoId":""},"attachAlgoOrds":[]}]}'
)
ANSWER = (
    '{"id":"r%(ord)d","op":"order","code":"0","msg":"","data":[{"clOrdId":"%(name)s",'
    '"ordId":"%(ord)d","tag":"omstrio","ts":"%(ms)d","sCode":"0","sMsg":"Order placed",'
    '"subCode":""}],"inTime":"%(ms)d000","outTime":"%(ms)d500"}'
)
POSITION = (
    '{"arg":{"channel":"positions","instType":"SWAP","instId":"BTC-USDT-SWAP","uid":"55001122"},'
    '"eventType":"event_update","data":[{"instId":"BTC-USDT-SWAP","instType":"SWAP",'
    '"mgnMode":"cross","posSide":"net","pos":"%(sz)s","avgPx":"67000","upl":"-0.1",'
    '"uplRatio":"-0.001%(digit)d","markPx":"66999.9","tradeId":"%(trade)d","uTime":"%(ms)d",'
    '"cTime":"%(ms)d","pTime":"%(ms)d","lever":"100","imr":"10.05","mmr":"4.02"}]}'
)


class Recorder:
    """Feeds inputs to a state and keeps what a journal would keep of them."""

    def __init__(self) -> None:
        self.state = TradeState(RULES)
        self.now_ns = START_NS
        self.seq = 0
        self.last_name = ClOrdId("")

    def take(self, arrival: JournaledInput) -> Entry:
        """Apply one input and return its entry."""
        self.now_ns += STEP_NS
        self.seq += 1
        effects = tuple(
            effect for event in arrival.events for effect in self.state.apply(event, self.now_ns)
        )
        outbox: list[Message] = []
        for effect in effects:
            if isinstance(effect, PlaceOrder):
                self.last_name = effect.cl_ord_id
            elif isinstance(effect, PublishExecution | PublishClosure | PublishRejection):
                message = encode_publication(effect)
                outbox.append(Message(message.message_id, message.routing_key, message.body))
        record = Record(
            arrival.kind.value,
            arrival.raw,
            self.now_ns,
            self.now_ns,
            arrival.context,
            encode_effects(effects),
        )
        name = self.last_name if arrival.kind is Kind.ACTION else ""
        return Entry(self.seq, record, tuple(outbox), name)


def recording(cycles: int) -> Iterator[Entry]:
    """Give the entries of so many cycles, seven each, behind three that start the state."""
    recorder = Recorder()
    yield recorder.take(journaled_inputs.started(RULES))
    yield recorder.take(journaled_inputs.session_up())
    yield recorder.take(journaled_inputs.snapshot(SNAPSHOT, CONTEXT))
    for cycle in range(cycles):
        for half, (side, price) in enumerate((("buy", -0.25), ("sell", 0.25))):
            state_id = (2 * cycle + half) % 2**32
            body = encode_action(state_id, OrderType.LIMIT, price, 1.0, Decimal("67000.00"))
            delivery = Delivery(2 * cycle + half, body, f"m{2 * cycle + half}", redelivered=False)
            yield recorder.take(journaled_inputs.action(decode_action(delivery, recorder.now_ns)))
            fields = {
                "ord": 3967288020668928111 + 2 * cycle + half,
                "name": recorder.last_name,
                "side": side,
                "sz": "1.5",
                "acc": "1.5",
                "fill": "1.5",
                "state": "filled",
                "px": "67000" if half == 0 else "67010.5",
                "pnl": "0" if half == 0 else "0.1575",
                "trade": 1000 + 2 * cycle + half,
                "ms": recorder.now_ns // 1_000_000,
                "digit": cycle % 10,
            }
            answer = ANSWER % fields
            response = decode_frame(answer, CONTEXT.inst_id)
            assert isinstance(response, OpResponse)
            yield recorder.take(
                journaled_inputs.order_answer(answer, response, (recorder.last_name,))
            )
            yield recorder.take(_push(ORDER % fields))
            if half == 0:
                yield recorder.take(_push(POSITION % fields))


def _push(text: str) -> JournaledInput:
    event = decode_frame(text, CONTEXT.inst_id)
    assert isinstance(event, OrdersPush | PositionsPush | AccountPush)
    return journaled_inputs.push(text, event)
