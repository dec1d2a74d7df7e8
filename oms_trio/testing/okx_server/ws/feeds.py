"""What one private connection has subscribed to, and the pushes that it gets for it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from oms_trio.testing.okx_server.events import (
    AccountChanged,
    Event,
    OrderChanged,
    PositionChanged,
    Settled,
)
from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.faults.behaviour import Counter
from oms_trio.testing.okx_server.orders import foreign
from oms_trio.testing.okx_server.values import Reported
from oms_trio.testing.okx_server.ws.connection import NEVER, ServerConnection
from oms_trio.testing.okx_server.ws.pushes import (
    JsonObject,
    account_push,
    balance_and_position,
    order_push,
    position_push,
)

GATHER_S = 0.05
"""Positions and account changes are gathered this long before they are told."""

BEHIND_POSITIONS_S = GATHER_S + 0.01
"""How late orders pushes are when positions are to come first."""

ASIDE_S = 1.0
"""How long a push that should change places waits for the next one."""

MAX_CHANNEL_CONNECTIONS = 30

CHANNELS = frozenset({"orders", "positions", "account", "balance_and_position"})
SILENT_CHANNELS = frozenset({"liquidation-warning", "account-greeks"})
"""Taken and counted, but the simulator has nothing to tell on them."""

_PERIODIC = frozenset({"positions", "account"})


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

    @property
    def wants_usdt(self) -> bool:
        """Whether an account subscription covers the one currency that there is."""
        return self.arg.get("ccy") in (None, "", "USDT")


@attrs.define(eq=False)
class Feeds:
    """The subscriptions of one connection. Times are seconds of the line's clock."""

    exchange: Exchange
    line: ServerConnection
    _held: dict[bytes, Subscription] = attrs.field(factory=dict, init=False)
    _gathered: set[str] = attrs.field(factory=set, init=False)
    _gathered_at_s: float = attrs.field(default=NEVER, init=False)
    _aside: list[JsonObject] = attrs.field(factory=list, init=False)
    """A push that is to change places with the next one."""
    _aside_until_s: float = attrs.field(default=NEVER, init=False)

    @property
    def any(self) -> bool:
        """Whether anything is subscribed."""
        return bool(self._held)

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        periodic = [held.next_s for held in self._held.values() if held.period_s]
        return min([self._gathered_at_s, self._aside_until_s, *periodic])

    def on_time(self) -> None:
        """Tell what is due: what was gathered first, then periodic snapshots."""
        now_s = self.line.time()
        if now_s >= self._gathered_at_s:
            self._gathered_at_s = NEVER
            for channel in sorted(self._gathered, reverse=True):
                self._tell_changed(channel)
            self._gathered.clear()
        if now_s >= self._aside_until_s:
            self._bring_back()
        for held in self._held.values():
            if held.period_s and now_s >= held.next_s:
                held.next_s = now_s + held.period_s
                data = self._snapshot(held)
                if data:
                    self._push(held, self._frame(held, data, "snapshot"))

    def refuse(self, arg: Mapping[str, object]) -> JsonObject:
        """Return the event that ends a subscription although it was acknowledged."""
        return {
            "event": "channel-conn-count-error",
            "channel": arg["channel"],
            "connCount": str(MAX_CHANNEL_CONNECTIONS),
        }

    def subscribe(self, arg: Mapping[str, object]) -> JsonObject:
        """Subscribe, and return the event that counts the channel's connections.

        Beyond the limit that event is an error, and the subscription is dead. ``start`` follows.
        """
        period_s = _period(arg)
        if period_s is not None and self.exchange.push_every_s is not None:
            period_s = self.exchange.push_every_s
        held = Subscription(told(arg), period_s)
        counts = self.exchange.channel_connections
        count = counts.get(held.channel, 0)
        if not self._holds(held.channel):
            if count >= MAX_CHANNEL_CONNECTIONS:
                return self.refuse(arg)
            counts[held.channel] = count = count + 1
        self._held[_key(arg)] = held
        return {"event": "channel-conn-count", "channel": held.channel, "connCount": str(count)}

    def start(self, arg: Mapping[str, object]) -> None:
        """Send the first snapshot, which orders do not have, and start the period."""
        held = self._held.get(_key(arg))
        if held is None or held.channel in SILENT_CHANNELS:
            return
        if held.period_s:
            held.next_s = self.line.time() + held.period_s
            self.line.wake()
        if held.channel == "balance_and_position":
            self.line.push(self._frame(held, [self._settled(self._now_settled(), snapshot=True)]))
        elif held.channel != "orders":
            self.line.push(self._frame(held, self._snapshot(held), "snapshot"))

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
            case Settled():
                for held in self._of("balance_and_position"):
                    self.line.push(self._frame(held, [self._settled(event)]))

    # Orders, with what can go wrong with their pushes.

    def _tell_order(self, change: OrderChanged) -> None:
        exchange, faults = self.exchange, self.exchange.faults
        told = self._of("orders")
        if change.order.reported is not Reported.PUSHED:
            return
        if not told or faults.use_up("miss_order_pushes"):
            return
        data = order_push(change, exchange.instrument, exchange.engine.market.last)
        rows = faults.edited("orders", [data, *foreign.pushed_order(exchange.engine, faults)])
        copies = [rows]
        if faults.use_up("repeat_order_pushes"):
            copies.append([{**rows[0], "uTime": str(change.order.u_time_ms + 1)}])
        if faults.use_up("echo_order_pushes"):
            copies.append(rows)
        frames = [self._frame(held, copy) for held in told for copy in copies]
        if not self._aside and faults.use_up("swap_order_pushes"):
            self._aside, self._aside_until_s = frames, self.line.time() + ASIDE_S
            self.line.wake()
            return
        late_s = BEHIND_POSITIONS_S if faults.positions_first else 0.0
        if faults.use_up("late_order_pushes"):
            late_s = faults.push_delay_s
        for frame in frames:
            if late_s:
                self.line.push_late(frame, late_s)
            else:
                self.line.push(frame)
        self._bring_back()

    def _bring_back(self) -> None:
        frames, self._aside, self._aside_until_s = self._aside, [], NEVER
        for frame in frames:
            self.line.push(frame)

    # Position, account, and both at once.

    def _gather(self, channel: str) -> None:
        self._gathered.add(channel)
        if self._gathered_at_s == NEVER:
            self._gathered_at_s = self.line.time() + GATHER_S
            self.line.wake()

    def _tell_changed(self, channel: str) -> None:
        faults = self.exchange.faults
        told = [held for held in self._of(channel) if self._current(held)]
        missed: Counter = (
            "miss_position_pushes" if channel == "positions" else "miss_account_pushes"
        )
        if told and faults.use_up(missed):
            return
        for held in told:
            self._push(held, self._frame(held, self._current(held), "event_update"))

    def _push(self, held: Subscription, frame: JsonObject) -> None:
        faults = self.exchange.faults
        if held.channel == "positions" and faults.use_up("late_position_pushes"):
            self.line.push_late(frame, faults.push_delay_s)
        else:
            self.line.push(frame)

    def _current(self, held: Subscription) -> list[JsonObject]:
        """Return what an event tells: a closed position is told once, with ``pos`` 0."""
        engine = self.exchange.engine
        if held.channel == "account":
            account = account_push(engine.account_view(), engine.now_ms)
            return [account] if held.wants_usdt else []
        view = engine.position_view()
        own = [] if view is None else [position_push(view, engine.instrument, engine.now_ms)]
        return own + foreign.position(engine, self.exchange.faults)

    def _snapshot(self, held: Subscription) -> list[JsonObject]:
        """Return what a snapshot tells: only a position that is not 0."""
        return [row for row in self._current(held) if row.get("pos") != "0"]

    def _now_settled(self) -> Settled:
        ledger = self.exchange.engine.ledger
        return Settled("snapshot", ledger.cash_bal, ledger.u_time_ms, ledger.position)

    def _settled(self, change: Settled, *, snapshot: bool = False) -> JsonObject:
        engine = self.exchange.engine
        return balance_and_position(change, engine.instrument, engine.now_ms, is_snapshot=snapshot)

    def _frame(
        self, held: Subscription, data: list[JsonObject], event_type: str = ""
    ) -> JsonObject:
        frame: JsonObject = {"arg": {**held.arg, "uid": self.exchange.account.uid}}
        if event_type:
            frame["eventType"] = event_type
        if event_type == "snapshot":
            frame |= {"curPage": 1, "lastPage": True}
        if held.channel != "orders":  # whose rows are changed before they are repeated
            data = self.exchange.faults.edited(held.channel, data)
        return frame | {"data": data}

    def _of(self, channel: str) -> list[Subscription]:
        return [held for held in self._held.values() if held.channel == channel]

    def _holds(self, channel: str) -> bool:
        return bool(self._of(channel))


def told(arg: Mapping[str, object]) -> JsonObject:
    """Return an argument as acks and pushes repeat it: without its extra parameters."""
    return {key: value for key, value in arg.items() if key != "extraParams"}


def _period(arg: Mapping[str, object]) -> float | None:
    """Read ``extraParams``: a string that holds JSON, whose interval is a string again."""
    if arg["channel"] not in _PERIODIC:
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
