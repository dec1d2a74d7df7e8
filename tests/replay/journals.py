"""Journals of scripted trading, without a service around the trade state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from oms_trio.amqp.codec import decode_action, encode_action
from oms_trio.amqp.model import Delivery
from oms_trio.core.effects import Effect, PlaceOrder, RequestSnapshot
from oms_trio.core.model import OrderType
from oms_trio.core.state import TradeState
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Record
from oms_trio.okx.wire.codec import decode_frame
from oms_trio.okx.wire.frames import OpResponse, OrdersPush, PositionsPush
from oms_trio.okx.wire.recorded import SnapshotBodies
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import JournaledInput, encode_effects
from oms_trio.service.state_codec import snapshot_of
from tests.core.desk import RULES, SECOND, START_NS
from tests.service.rig import CONTEXT

U_TIME = str(START_NS // 1_000_000)

INSTRUMENT = {
    "instId": "BTC-USDT-SWAP",
    "instIdCode": 10459,
    "instType": "SWAP",
    "ctType": "linear",
    "settleCcy": "USDT",
    "ctVal": "0.01",
    "ctMult": "1",
    "tickSz": "0.1",
    "lotSz": "0.01",
    "minSz": "0.01",
    "state": "live",
}


def body(*rows: dict[str, Any]) -> str:
    """Return a REST answer."""
    return json.dumps({"code": "0", "msg": "", "data": list(rows)})


def orders_push(ord_id: str, name: str, side: str, sz: str, **more: str) -> str:
    """Return an ``orders`` push; ``more`` are other fields by the exchange's names."""
    row = {
        "instId": "BTC-USDT-SWAP",
        "ordId": ord_id,
        "clOrdId": name,
        "tag": "omstrio",
        "side": side,
        "ordType": "limit",
        "state": "live",
        "px": "67000",
        "sz": sz,
        "accFillSz": "0",
        "avgPx": "0",
        "cTime": str(START_NS // 1_000_000),
        "uTime": str(START_NS // 1_000_000),
        **more,
    }
    arg = {"channel": "orders", "instType": "SWAP", "instId": "BTC-USDT-SWAP"}
    return json.dumps({"arg": arg, "data": [row]})


def fill_push(
    ord_id: str, name: str, side: str, sz: str, px: str, trade_id: int, *, tag: str = "omstrio"
) -> str:
    """Return the push of an order that one match fills completely."""
    time_ms = str(START_NS // 1_000_000 + trade_id)
    return orders_push(
        ord_id,
        name,
        side,
        sz,
        tag=tag,
        state="filled",
        accFillSz=sz,
        avgPx=px,
        fillPx=px,
        fillSz=sz,
        fillTime=time_ms,
        tradeId=str(trade_id),
        uTime=time_ms,
    )


def position_push(pos: str, upl_ratio: str, trade_id: int) -> str:
    """Return a ``positions`` push."""
    row = {
        "instId": "BTC-USDT-SWAP",
        "mgnMode": "cross",
        "pos": pos,
        "avgPx": "67000",
        "uplRatio": upl_ratio,
        "markPx": "66990",
        "tradeId": str(trade_id),
        "uTime": str(START_NS // 1_000_000 + trade_id),
    }
    return json.dumps({"arg": {"channel": "positions"}, "data": [row]})


@attrs.define
class JournalWriter:
    """A trade state whose inputs and outputs are written into a journal, as the service does."""

    journal: Journal
    state: TradeState = attrs.Factory(lambda: TradeState(RULES))
    now_ns: int = START_NS
    effects: list[Effect] = attrs.Factory(list)
    trade_id: int = 1000
    actions: int = 0

    def feed(self, taken: JournaledInput, seconds: float = 1.0) -> tuple[Effect, ...]:
        """Let time pass, apply one input, and append it to the journal."""
        self.now_ns += round(seconds * SECOND)
        effects = tuple(
            one for event in taken.events for one in self.state.apply(event, self.now_ns)
        )
        self.effects += effects
        record = Record(
            taken.kind.value,
            taken.raw,
            self.now_ns,
            self.now_ns,
            taken.context,
            encode_effects(effects),
        )
        self.journal.append([Entry(self.journal.last_seq + 1, record)])
        return effects

    def push(self, text: str, seconds: float = 1.0) -> tuple[Effect, ...]:
        """Apply a push."""
        event = decode_frame(text, CONTEXT.inst_id)
        assert isinstance(event, OrdersPush | PositionsPush)
        return self.feed(journaled_inputs.push(text, event), seconds)

    def start(self) -> None:
        """Start a process, and reconcile with an exchange that has no orders of ours."""
        self.feed(journaled_inputs.started(RULES))
        self.session_up()

    def session_up(self) -> None:
        """Bring a session up and answer the request that it causes."""
        (requested,) = [
            e for e in self.feed(journaled_inputs.session_up()) if isinstance(e, RequestSnapshot)
        ]
        position = self.state.book.position
        rows = [
            {"instId": "BTC-USDT-SWAP", "mgnMode": "cross", "pos": str(position), "uTime": U_TIME}
        ]
        bodies = SnapshotBodies(
            request=requested.request,
            asked_at_ns=self.now_ns,
            instrument=body(INSTRUMENT),
            balance=body(
                {"uTime": U_TIME, "details": [{"ccy": "USDT", "cashBal": "10000", "uTime": U_TIME}]}
            ),
            pending=(body(),),
            history=(body(),),
            looked_up={},
            position=body(*(rows if position else [])),
            fills=(body(),),
        )
        self.feed(journaled_inputs.snapshot(bodies, CONTEXT))
        assert self.state.ready

    def act(self, price: float, volume: float = 1.0) -> str | None:
        """Apply an action; return the clOrdId of the order that it became, or None."""
        self.actions += 1
        raw = encode_action(self.actions, OrderType.LIMIT, price, volume, Decimal(67000))
        delivery = Delivery(self.actions, raw, None, False)
        action = decode_action(delivery, self.now_ns + SECOND - 2_000_000)
        effects = self.feed(journaled_inputs.action(action))
        names = [str(one.cl_ord_id) for one in effects if isinstance(one, PlaceOrder)]
        return names[0] if names else None

    def trade(self, side: str, px: str) -> str:
        """Place an order by an action, acknowledge it and fill it completely; return its okx id."""
        name = self.act(-0.001 if side == "buy" else 0.001)
        assert name is not None
        self.trade_id += 3
        ord_id = str(900_000_000_000 + self.trade_id)
        sz = str(self.state.orders.open[next(reversed(self.state.orders.open))].volume)
        row = {"clOrdId": name, "ordId": ord_id, "sCode": "0", "sMsg": "Order placed"}
        text = json.dumps({"id": "1", "op": "order", "code": "0", "msg": "", "data": [row]})
        frame = decode_frame(text, CONTEXT.inst_id)
        assert isinstance(frame, OpResponse)
        self.feed(
            journaled_inputs.order_answer(text, frame, [next(reversed(self.state.orders.open))]),
            0.03,
        )
        self.push(fill_push(ord_id, name, side, sz, px, self.trade_id), 0.2)
        return ord_id

    def snapshot(self) -> str:
        """Save a snapshot of the state in the journal; return its digest."""
        kept = snapshot_of(self.state, self.journal.last_seq)
        self.journal.save_snapshot(kept.seq, kept.blob, kept.digest)
        return kept.digest


def write_journal(path: Path, prices: Sequence[tuple[str, str]] = ()) -> JournalWriter:
    """Write a journal of some trades and close it; the writer knows what is in it."""
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        for side, px in prices or (("buy", "67000"), ("sell", "67100")) * 3:
            writer.trade(side, px)
            position = writer.state.book.position
            writer.push(position_push(str(position), "-0.05" if position else "", writer.trade_id))
        writer.snapshot()
    return writer
