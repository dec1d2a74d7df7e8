"""One public WebSocket session: prices and the instrument, without login or I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from oms_trio.testing.okx_server.events import ExchangeEvent
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.rate_limits import RateLimits
from oms_trio.testing.okx_server.rest.public_rows import (
    funding_rate,
    instrument_object,
    price_limit,
)
from oms_trio.testing.okx_server.values import JsonObject
from oms_trio.testing.okx_server.ws.connection import NEVER, CloseFrame, ServerConnection
from oms_trio.testing.okx_server.ws.private_session import CONTROL_REQUESTS, UNSUBSCRIBED_S
from oms_trio.testing.okx_server.ws.pushes import mark_price
from oms_trio.testing.okx_server.ws.subscriptions import echoed

MARK_PX_S = 0.2
"""How often a changing mark price is pushed."""

REPEAT_S = {"mark-price": 10.0, "price-limit": 5.0, "funding-rate": 60.0}
"""How often unchanged data is pushed again; instruments are pushed on subscription only."""


def _mark_price(exchange: SimulatedExchange) -> JsonObject:
    return mark_price(exchange.instrument, exchange.engine.market.mark_px, exchange.now_ms)


CHANNELS: Mapping[str, Callable[[SimulatedExchange], JsonObject]] = {
    "mark-price": _mark_price,
    "price-limit": price_limit,
    "funding-rate": funding_rate,
    "instruments": instrument_object,
}


@attrs.define(eq=False)
class PublicSession:
    """The subscriptions of one public connection, and when they are due."""

    exchange: SimulatedExchange
    connection: ServerConnection
    _args: dict[str, JsonObject] = attrs.field(factory=dict, init=False)
    """The argument of each subscribed channel."""
    _next_s: dict[str, float] = attrs.field(factory=dict, init=False)
    _pushed_px: str = attrs.field(default="", init=False)
    _check_px_s: float = attrs.field(default=NEVER, init=False)
    """When the mark price is compared with the pushed one next."""
    _limits: RateLimits = attrs.field(factory=RateLimits, init=False)
    _must_subscribe_by_s: float = attrs.field(default=NEVER, init=False)

    def __attrs_post_init__(self) -> None:
        """Start the timer."""
        if self.exchange.close_unsubscribed:
            self._must_subscribe_by_s = self.connection.time() + UNSUBSCRIBED_S

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        own = (self._check_px_s, self._must_subscribe_by_s, *self._next_s.values())
        return min(self.connection.deadline, *own)

    def on_time(self) -> None:
        """Do what is due."""
        for frame in self.connection.take_stalled():
            self._process(frame)
        now_s = self.connection.time()
        for channel in [name for name, due_s in self._next_s.items() if now_s >= due_s]:
            self._push(channel)
        if now_s >= self._check_px_s:
            self._check_px_s = now_s + MARK_PX_S
            if str(self.exchange.engine.market.mark_px) != self._pushed_px:
                self._push("mark-price")
        self.connection.on_time()
        if now_s >= self._must_subscribe_by_s:
            self._must_subscribe_by_s = NEVER
            self.connection.emit(CloseFrame(4004, "No subscription within 30s."))

    def receive(self, frame: str | bytes) -> None:
        """Process one frame of the client."""
        for arrived in self.connection.arrived(frame):
            self._process(arrived)

    def on_event(self, event: ExchangeEvent) -> None:
        """Ignore events of the account."""

    def close(self) -> None:
        """Do nothing: public channels are not counted."""

    def _process(self, frame: str | bytes) -> None:
        request = self.connection.read(frame)
        if request is None:
            return
        op, name = (
            value if isinstance(value, str) else "" for value in map(request.get, ("op", "id"))
        )
        args = request.get("args")
        if op not in {"subscribe", "unsubscribe"}:
            self.connection.error("60028" if op == "login" else "60019", f"Invalid OP: {op}", name)
        elif not self._limits.admit("control", CONTROL_REQUESTS, self.exchange.true_ms):
            self.connection.error("60014", "Requests too frequent", name)
        elif not isinstance(args, list) or not args or not all(isinstance(a, dict) for a in args):
            self.connection.error("60012", f"Invalid request: {op}", name)
        else:
            for arg in args:
                self._change(op, arg, name)

    def _change(self, op: str, arg: Mapping[str, object], name: str) -> None:
        channel = arg.get("channel")
        if not isinstance(channel, str) or channel not in CHANNELS:
            self.connection.error("60018", f"Wrong URL or channel:{channel} doesn't exist.", name)
            return
        ours = self.exchange.instrument.inst_id
        wanted = arg.get("instType") if channel == "instruments" else arg.get("instId")
        if wanted != ("SWAP" if channel == "instruments" else ours):
            self.connection.error("60018", f"Wrong URL or {echoed(arg)} doesn't exist.", name)
            return
        self.connection.event(op, name, arg=echoed(arg))
        if op == "unsubscribe":
            self._args.pop(channel, None)
            self._next_s.pop(channel, None)
            self._check_px_s = NEVER if channel == "mark-price" else self._check_px_s
            return
        self._must_subscribe_by_s = NEVER
        self._args[channel] = echoed(arg)
        self._check_px_s = (
            self.connection.time() + MARK_PX_S if channel == "mark-price" else self._check_px_s
        )
        self._push(channel)
        self.connection.wake()

    def _push(self, channel: str) -> None:
        if channel == "mark-price":
            self._pushed_px = str(self.exchange.engine.market.mark_px)
        if channel in REPEAT_S:
            self._next_s[channel] = self.connection.time() + REPEAT_S[channel]
        data = [CHANNELS[channel](self.exchange)]
        self.connection.push({"arg": self._args[channel], "data": data})
