"""The subscriptions of one private connection, and the pushes that they cause."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from oms_trio.testing.okx_server.events import (
    AccountChanged,
    BalanceAndPositionChanged,
    ExchangeEvent,
    OrderChanged,
    PositionChanged,
)
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults import foreign_rows
from oms_trio.testing.okx_server.faults.switches import Counter
from oms_trio.testing.okx_server.values import JsonObject, Visibility
from oms_trio.testing.okx_server.ws.connection import NEVER, ServerConnection
from oms_trio.testing.okx_server.ws.pushes import (
    account_push,
    balance_and_position,
    order_push,
    position_push,
)

AGGREGATION_S = 0.05
"""How long changes of positions and account are aggregated before they are pushed."""

AFTER_POSITIONS_S = AGGREGATION_S + 0.01
"""How late orders pushes are while positions have to come first."""

SWAP_S = 1.0
"""How long a push that is to be swapped waits for the next one."""

MAX_CHANNEL_CONNECTIONS = 30

CHANNELS = frozenset({"orders", "positions", "account", "balance_and_position"})
SILENT_CHANNELS = frozenset({"liquidation-warning", "account-greeks"})
"""Accepted and counted, but nothing is ever pushed."""

_PERIODIC = frozenset({"positions", "account"})


@attrs.define
class Subscription:
    """One subscribed channel; ``period_s`` is None if only changes are pushed."""

    arg: Mapping[str, object]
    period_s: float | None = None
    next_s: float = 0.0

    @property
    def channel(self) -> str:
        """The channel's name."""
        return str(self.arg["channel"])

    @property
    def wants_usdt(self) -> bool:
        """Whether an account subscription covers USDT, the account's only currency."""
        return self.arg.get("ccy") in (None, "", "USDT")


@attrs.define(eq=False)
class Subscriptions:
    """All subscriptions of one connection. Times are seconds of the connection's clock."""

    exchange: SimulatedExchange
    connection: ServerConnection
    _subscriptions: dict[bytes, Subscription] = attrs.field(factory=dict, init=False)
    _changed: set[str] = attrs.field(factory=set, init=False)
    _aggregated_until_s: float = attrs.field(default=NEVER, init=False)
    _swapped: list[JsonObject] = attrs.field(factory=list, init=False)
    """A push that is to be swapped with the next one."""
    _swapped_until_s: float = attrs.field(default=NEVER, init=False)

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        periodic = [
            subscription.next_s
            for subscription in self._subscriptions.values()
            if subscription.period_s
        ]
        return min([self._aggregated_until_s, self._swapped_until_s, *periodic])

    def on_time(self) -> None:
        """Push what is due: aggregated changes first, then periodic snapshots."""
        now_s = self.connection.time()
        if now_s >= self._aggregated_until_s:
            self._aggregated_until_s = NEVER
            for channel in sorted(self._changed, reverse=True):
                self._push_changed(channel)
            self._changed.clear()
        if now_s >= self._swapped_until_s:
            self._send_swapped()
        for subscription in self._subscriptions.values():
            if subscription.period_s and now_s >= subscription.next_s:
                subscription.next_s = now_s + subscription.period_s
                data = self._snapshot(subscription)
                if data:
                    self._push(subscription, self._frame(subscription, data, "snapshot"))

    def rejection(self, arg: Mapping[str, object]) -> JsonObject:
        """Return the event that ends a subscription after its acknowledgement."""
        return {
            "event": "channel-conn-count-error",
            "channel": arg["channel"],
            "connCount": str(MAX_CHANNEL_CONNECTIONS),
        }

    def subscribe(self, arg: Mapping[str, object]) -> JsonObject:
        """Subscribe, and return the event that counts the channel's connections.

        Beyond the limit the event is an error, and nothing is subscribed. ``start`` follows.
        """
        period_s = _period(arg)
        if period_s is not None and self.exchange.push_every_s is not None:
            period_s = self.exchange.push_every_s
        subscription = Subscription(echoed(arg), period_s)
        counts = self.exchange.channel_connections
        count = counts.get(subscription.channel, 0)
        if not self._holds(subscription.channel):
            if count >= MAX_CHANNEL_CONNECTIONS:
                return self.rejection(arg)
            counts[subscription.channel] = count = count + 1
        self._subscriptions[_key(arg)] = subscription
        return {
            "event": "channel-conn-count",
            "channel": subscription.channel,
            "connCount": str(count),
        }

    def start(self, arg: Mapping[str, object]) -> None:
        """Send the first snapshot, except of orders, and start the periodic pushes."""
        subscription = self._subscriptions.get(_key(arg))
        if subscription is None or subscription.channel in SILENT_CHANNELS:
            return
        if subscription.period_s:
            subscription.next_s = self.connection.time() + subscription.period_s
            self.connection.wake()
        if subscription.channel == "balance_and_position":
            self.connection.push(
                self._frame(
                    subscription, [self._brief(self._balance_and_position_now(), snapshot=True)]
                )
            )
        elif subscription.channel != "orders":
            self.connection.push(
                self._frame(subscription, self._snapshot(subscription), "snapshot")
            )

    def unsubscribe(self, arg: Mapping[str, object]) -> None:
        """End a subscription, if it exists."""
        subscription = self._subscriptions.pop(_key(arg), None)
        if subscription is not None and not self._holds(subscription.channel):
            self.exchange.channel_connections[subscription.channel] -= 1

    def close(self) -> None:
        """Stop counting this connection on its channels: it is over."""
        for channel in {subscription.channel for subscription in self._subscriptions.values()}:
            self.exchange.channel_connections[channel] -= 1

    def on_event(self, event: ExchangeEvent) -> None:
        """Push what one event of the exchange changes."""
        match event:
            case OrderChanged():
                self._push_order(event)
            case PositionChanged(at_once=True):
                self._push_changed("positions")
            case PositionChanged():
                self._aggregate("positions")
            case AccountChanged():
                self._aggregate("account")
            case BalanceAndPositionChanged():
                for subscription in self._of("balance_and_position"):
                    self.connection.push(self._frame(subscription, [self._brief(event)]))

    # Orders, with the faults of their pushes.

    def _push_order(self, change: OrderChanged) -> None:
        exchange, faults = self.exchange, self.exchange.faults
        subscribed = self._of("orders")
        if change.order.visibility is not Visibility.PUSHED:
            return
        if not subscribed or faults.consume("drop_order_pushes"):
            return
        data = order_push(change, exchange.instrument, exchange.engine.market.last)
        rows = faults.apply_edit(
            "orders", [data, *foreign_rows.pushed_orders(exchange.engine, faults)]
        )
        copies = [rows]
        if faults.consume("repeat_order_pushes"):
            copies.append([{**rows[0], "uTime": str(change.order.u_time_ms + 1)}])
        if faults.consume("echo_order_pushes"):
            copies.append(rows)
        frames = [self._frame(subscription, copy) for subscription in subscribed for copy in copies]
        if not self._swapped and faults.consume("swap_order_pushes"):
            self._swapped, self._swapped_until_s = frames, self.connection.time() + SWAP_S
            self.connection.wake()
            return
        late_s = AFTER_POSITIONS_S if faults.positions_first else 0.0
        if faults.consume("late_order_pushes"):
            late_s = faults.push_delay_s
        for frame in frames:
            if late_s:
                self.connection.push_late(frame, late_s)
            else:
                self.connection.push(frame)
        self._send_swapped()

    def _send_swapped(self) -> None:
        frames, self._swapped, self._swapped_until_s = self._swapped, [], NEVER
        for frame in frames:
            self.connection.push(frame)

    # Position and account.

    def _aggregate(self, channel: str) -> None:
        self._changed.add(channel)
        if self._aggregated_until_s == NEVER:
            self._aggregated_until_s = self.connection.time() + AGGREGATION_S
            self.connection.wake()

    def _push_changed(self, channel: str) -> None:
        faults = self.exchange.faults
        subscribed = [
            subscription for subscription in self._of(channel) if self._current(subscription)
        ]
        missed: Counter = (
            "drop_position_pushes" if channel == "positions" else "drop_account_pushes"
        )
        if subscribed and faults.consume(missed):
            return
        for subscription in subscribed:
            self._push(
                subscription, self._frame(subscription, self._current(subscription), "event_update")
            )

    def _push(self, subscription: Subscription, frame: JsonObject) -> None:
        faults = self.exchange.faults
        if subscription.channel == "positions" and faults.consume("late_position_pushes"):
            self.connection.push_late(frame, faults.push_delay_s)
        else:
            self.connection.push(frame)

    def _current(self, subscription: Subscription) -> list[JsonObject]:
        """Return the data of a change; that of a closed position has ``pos`` 0."""
        engine = self.exchange.engine
        if subscription.channel == "account":
            account = account_push(engine.account_view(), engine.now_ms)
            return [account] if subscription.wants_usdt else []
        view = engine.position_view()
        own = [] if view is None else [position_push(view, engine.instrument, engine.now_ms)]
        return own + foreign_rows.positions(engine, self.exchange.faults)

    def _snapshot(self, subscription: Subscription) -> list[JsonObject]:
        """Return the data of a snapshot, which has open positions only."""
        return [row for row in self._current(subscription) if row.get("pos") != "0"]

    def _balance_and_position_now(self) -> BalanceAndPositionChanged:
        ledger = self.exchange.engine.ledger
        return BalanceAndPositionChanged(
            "snapshot", ledger.cash_bal, ledger.u_time_ms, ledger.position
        )

    def _brief(self, change: BalanceAndPositionChanged, *, snapshot: bool = False) -> JsonObject:
        engine = self.exchange.engine
        return balance_and_position(change, engine.instrument, engine.now_ms, is_snapshot=snapshot)

    def _frame(
        self, subscription: Subscription, data: list[JsonObject], event_type: str = ""
    ) -> JsonObject:
        frame: JsonObject = {"arg": {**subscription.arg, "uid": self.exchange.account.uid}}
        if event_type:
            frame["eventType"] = event_type
        if event_type == "snapshot":
            frame |= {"curPage": 1, "lastPage": True}
        if subscription.channel != "orders":  # whose rows are edited before they are repeated
            data = self.exchange.faults.apply_edit(subscription.channel, data)
        return frame | {"data": data}

    def _of(self, channel: str) -> list[Subscription]:
        return [
            subscription
            for subscription in self._subscriptions.values()
            if subscription.channel == channel
        ]

    def _holds(self, channel: str) -> bool:
        return bool(self._of(channel))


def echoed(arg: Mapping[str, object]) -> JsonObject:
    """Return an argument as acks and pushes repeat it: without ``extraParams``."""
    return {key: value for key, value in arg.items() if key != "extraParams"}


def _period(arg: Mapping[str, object]) -> float | None:
    """Read ``extraParams``, JSON in a string, whose ``updateInterval`` is a string as well."""
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
    return msgspec.json.encode(echoed(arg), order="sorted")
