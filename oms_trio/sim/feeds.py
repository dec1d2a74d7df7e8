"""What one connection has subscribed to, and the pushes that it gets for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import msgspec

from oms_trio.sim.events import AccountChanged, Event, OrderChanged, PositionChanged
from oms_trio.sim.exchange import Exchange
from oms_trio.sim.pushes import JsonObject, account_push, order_push, position_push

GATHER_S = 0.05
"""Positions and account changes are gathered this long before they are told."""

NEVER = float("inf")
MAX_CHANNEL_CONNECTIONS = 30
CHANNELS = ("orders", "positions", "account")


@attrs.define
class Subscription:
    """One subscribed channel; ``period_s`` is None when only events are told."""

    arg: Mapping[str, object]
    period_s: float | None = None
    next_s: float = 0.0

    @property
    def channel(self) -> str:
        """The channel's name."""
        return str(self.arg["channel"])


@attrs.define(eq=False)
class Feeds:
    """The subscriptions of one connection. Times are seconds of the session's clock.

    ``push`` takes each frame that leaves; ``wake`` says that ``deadline`` came nearer.
    """

    exchange: Exchange
    push: Callable[[JsonObject], None]
    wake: Callable[[], None]
    time: Callable[[], float]
    _held: dict[bytes, Subscription] = attrs.field(factory=dict, init=False)
    _gathered: set[str] = attrs.field(factory=set, init=False)
    _gathered_at_s: float = attrs.field(default=NEVER, init=False)

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        periodic = [held.next_s for held in self._held.values() if held.period_s]
        return min([self._gathered_at_s, *periodic])

    def on_time(self) -> None:
        """Tell what is due: what was gathered first, then periodic snapshots."""
        now_s = self.time()
        if now_s >= self._gathered_at_s:
            self._gathered_at_s = NEVER
            for channel in sorted(self._gathered, reverse=True):
                self._tell_changed(channel)
            self._gathered.clear()
        for held in self._held.values():
            if held.period_s and now_s >= held.next_s:
                held.next_s = now_s + held.period_s
                data = self._snapshot(held.channel)
                if data:
                    self._push(held, data, "snapshot")

    def subscribe(self, arg: Mapping[str, object]) -> JsonObject:
        """Subscribe, and return the event that counts the channel's connections.

        Beyond the limit that event is an error, and the subscription is dead. ``start`` follows.
        """
        held = Subscription(told(arg), _period(arg))
        counts = self.exchange.channel_connections
        count = counts.get(held.channel, 0)
        if not self._holds(held.channel):
            if count >= MAX_CHANNEL_CONNECTIONS:
                return {
                    "event": "channel-conn-count-error",
                    "channel": held.channel,
                    "connCount": str(count),
                }
            counts[held.channel] = count = count + 1
        self._held[_key(arg)] = held
        return {"event": "channel-conn-count", "channel": held.channel, "connCount": str(count)}

    def start(self, arg: Mapping[str, object]) -> None:
        """Send the first snapshot, which orders do not have, and start the period."""
        held = self._held.get(_key(arg))
        if held is None:
            return
        if held.period_s:
            held.next_s = self.time() + held.period_s
            self.wake()
        if held.channel != "orders":
            self._push(held, self._snapshot(held.channel), "snapshot")

    def unsubscribe(self, arg: Mapping[str, object]) -> None:
        """End one subscription, if there is such a one."""
        held = self._held.pop(_key(arg), None)
        if held is not None and not self._holds(held.channel):
            self.exchange.channel_connections[held.channel] -= 1

    def leave(self) -> None:
        """Give back the channels' connection counts when the connection is over."""
        for channel in {held.channel for held in self._held.values()}:
            self.exchange.channel_connections[channel] -= 1

    def tell(self, event: Event) -> None:
        """Take one event of the exchange."""
        match event:
            case OrderChanged():
                self._tell_order(event)
            case PositionChanged(at_once=True):
                self._tell_changed("positions")
            case PositionChanged():
                self._gather("positions")
            case AccountChanged():
                self._gather("account")

    def _tell_order(self, change: OrderChanged) -> None:
        exchange = self.exchange
        told = [held for held in self._held.values() if held.channel == "orders"]
        if not told or exchange.faults.use_up("miss_order_pushes"):
            return
        data = order_push(change, exchange.instrument, exchange.engine.market.last)
        again = {**data, "uTime": str(change.order.u_time_ms + 1)}
        repeated = exchange.faults.use_up("repeat_order_pushes")
        for held in told:
            self._push(held, [data])
            if repeated:
                self._push(held, [again])

    def _gather(self, channel: str) -> None:
        self._gathered.add(channel)
        if self._gathered_at_s == NEVER:
            self._gathered_at_s = self.time() + GATHER_S
            self.wake()

    def _tell_changed(self, channel: str) -> None:
        for held in self._held.values():
            if held.channel == channel:
                self._push(held, self._current(channel), "event_update")

    def _current(self, channel: str) -> list[JsonObject]:
        """Return what an event tells: a closed position is told once, with ``pos`` 0."""
        engine = self.exchange.engine
        if channel == "account":
            return [account_push(engine.account_view(), engine.now_ms)]
        view = engine.position_view()
        return [] if view is None else [position_push(view, engine.instrument, engine.now_ms)]

    def _snapshot(self, channel: str) -> list[JsonObject]:
        """Return what a snapshot tells: only a position that is not 0."""
        flat = channel == "positions" and not self.exchange.engine.ledger.pos
        return [] if flat else self._current(channel)

    def _push(self, held: Subscription, data: list[JsonObject], event_type: str = "") -> None:
        frame: JsonObject = {"arg": {**held.arg, "uid": self.exchange.account.uid}}
        if event_type:
            frame["eventType"] = event_type
        if event_type == "snapshot":
            frame |= {"curPage": 1, "lastPage": True}
        self.push(frame | {"data": data})

    def _holds(self, channel: str) -> bool:
        return any(held.channel == channel for held in self._held.values())


def told(arg: Mapping[str, object]) -> JsonObject:
    """Return an argument as acks and pushes repeat it: without its extra parameters."""
    return {key: value for key, value in arg.items() if key != "extraParams"}


def _period(arg: Mapping[str, object]) -> float | None:
    """Read ``extraParams``: a string that holds JSON, whose interval is a string again."""
    if arg["channel"] == "orders":
        return None
    extra = arg.get("extraParams", "{}")
    try:
        interval = msgspec.json.decode(str(extra), type=dict[str, object]).get("updateInterval")
    except msgspec.DecodeError:
        interval = None
    if interval == "0":
        return None
    if arg["channel"] == "positions" and interval in {"2000", "3000", "4000"}:
        return int(str(interval)) / 1000
    return 5.0


def _key(arg: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(told(arg), order="sorted")
