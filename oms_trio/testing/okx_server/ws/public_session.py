"""One public WebSocket session: prices and the instrument, without login."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from oms_trio.testing.okx_server.events import Event
from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.rate_limits import Limits
from oms_trio.testing.okx_server.rest.public_rows import (
    funding_rate,
    instrument_object,
    price_limit,
)
from oms_trio.testing.okx_server.ws.connection import NEVER, Ending, ServerConnection
from oms_trio.testing.okx_server.ws.feeds import told
from oms_trio.testing.okx_server.ws.private_session import CONTROL_REQUESTS, UNSUBSCRIBED_S
from oms_trio.testing.okx_server.ws.pushes import JsonObject, mark_price

MARK_PX_S = 0.2
"""A mark price that moved is told at this pace."""

REPEAT_S = {"mark-price": 10.0, "price-limit": 5.0, "funding-rate": 60.0}
"""What did not change is told again after this; instruments are told when they change, so once."""


def _mark_price(exchange: Exchange) -> JsonObject:
    return mark_price(exchange.instrument, exchange.engine.market.mark_px, exchange.now_ms)


CHANNELS: Mapping[str, Callable[[Exchange], JsonObject]] = {
    "mark-price": _mark_price,
    "price-limit": price_limit,
    "funding-rate": funding_rate,
    "instruments": instrument_object,
}


@attrs.define(eq=False)
class PublicSession:
    """What one connection has subscribed to, and when it is told next."""

    exchange: Exchange
    line: ServerConnection
    _held: dict[str, JsonObject] = attrs.field(factory=dict, init=False)
    """The argument of each channel."""
    _next_s: dict[str, float] = attrs.field(factory=dict, init=False)
    _told_px: str = attrs.field(default="", init=False)
    _look_s: float = attrs.field(default=NEVER, init=False)
    """When the mark price is looked at next."""
    _limits: Limits = attrs.field(factory=Limits, init=False)
    _must_subscribe_by_s: float = attrs.field(default=NEVER, init=False)

    def __attrs_post_init__(self) -> None:
        """Start the timer."""
        if self.exchange.close_unsubscribed:
            self._must_subscribe_by_s = self.line.time() + UNSUBSCRIBED_S

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        own = (self._look_s, self._must_subscribe_by_s, *self._next_s.values())
        return min(self.line.deadline, *own)

    def on_time(self) -> None:
        """Do what is due."""
        for frame in self.line.heard():
            self._take(frame)
        now_s = self.line.time()
        for channel in [name for name, due_s in self._next_s.items() if now_s >= due_s]:
            self._tell(channel)
        if now_s >= self._look_s:
            self._look_s = now_s + MARK_PX_S
            if str(self.exchange.engine.market.mark_px) != self._told_px:
                self._tell("mark-price")
        self.line.on_time()
        if now_s >= self._must_subscribe_by_s:
            self._must_subscribe_by_s = NEVER
            self.line.emit(Ending(4004, "No subscription within 30s."))

    def receive(self, frame: str | bytes) -> None:
        """Take one frame of the client."""
        for earlier in self.line.heard():
            self._take(earlier)
        if self.line.hears(frame):
            self._take(frame)

    def tell(self, event: Event) -> None:
        """Ignore what happens to the account."""

    def leave(self) -> None:
        """Do nothing: public channels are not counted."""

    def _take(self, frame: str | bytes) -> None:
        request = self.line.read(frame)
        if request is None:
            return
        op, name = (
            value if isinstance(value, str) else "" for value in map(request.get, ("op", "id"))
        )
        args = request.get("args")
        if op not in {"subscribe", "unsubscribe"}:
            self.line.error("60028" if op == "login" else "60019", f"Invalid OP: {op}", name)
        elif not self._limits.admit("control", CONTROL_REQUESTS, self.exchange.steady_ms):
            self.line.error("60014", "Requests too frequent", name)
        elif not isinstance(args, list) or not args or not all(isinstance(a, dict) for a in args):
            self.line.error("60012", f"Invalid request: {op}", name)
        else:
            for arg in args:
                self._change(op, arg, name)

    def _change(self, op: str, arg: Mapping[str, object], name: str) -> None:
        channel = arg.get("channel")
        if not isinstance(channel, str) or channel not in CHANNELS:
            self.line.error("60018", f"Wrong URL or channel:{channel} doesn't exist.", name)
            return
        ours = self.exchange.instrument.inst_id
        wanted = arg.get("instType") if channel == "instruments" else arg.get("instId")
        if wanted != ("SWAP" if channel == "instruments" else ours):
            self.line.error("60018", f"Wrong URL or {told(arg)} doesn't exist.", name)
            return
        self.line.event(op, name, arg=told(arg))
        if op == "unsubscribe":
            self._held.pop(channel, None)
            self._next_s.pop(channel, None)
            self._look_s = NEVER if channel == "mark-price" else self._look_s
            return
        self._must_subscribe_by_s = NEVER
        self._held[channel] = told(arg)
        self._look_s = self.line.time() + MARK_PX_S if channel == "mark-price" else self._look_s
        self._tell(channel)
        self.line.wake()

    def _tell(self, channel: str) -> None:
        if channel == "mark-price":
            self._told_px = str(self.exchange.engine.market.mark_px)
        if channel in REPEAT_S:
            self._next_s[channel] = self.line.time() + REPEAT_S[channel]
        data = [CHANNELS[channel](self.exchange)]
        self.line.push({"arg": self._held[channel], "data": data})
