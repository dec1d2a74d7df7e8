"""The summary of a recording, counted in bounded memory."""

from __future__ import annotations

from collections import Counter

import attrs
from rich.console import Group, RenderableType
from rich.table import Table

from oms_trio.core.effects import (
    Alert,
    CancelOrders,
    Effect,
    PlaceOrder,
    PublishClosure,
    PublishExecution,
    PublishRejection,
)
from oms_trio.core.events import (
    Action,
    Event,
    OrderAnswer,
    SessionDown,
    SessionUp,
    Started,
    Verdict,
)
from oms_trio.replay.order_tracker import OrderHistory, OrderTracker
from oms_trio.replay.recordings.recording import PlayedStep
from oms_trio.replay.report.durations import DurationHistogram, format_duration
from oms_trio.replay.report.gaps import GapTracker
from oms_trio.replay.times import format_time
from oms_trio.replay.trade_tracker import TradeHistory, TradeTracker


@attrs.define
class Summary:
    """Counts everything that happened; a watcher."""

    first_ns: int = 0
    last_ns: int = 0
    records: Counter[str] = attrs.Factory(Counter)
    inputs: Counter[type[Event]] = attrs.Factory(Counter)
    effects: Counter[type[Effect]] = attrs.Factory(Counter)
    rejections: Counter[str] = attrs.Factory(Counter)
    """Rejections by reason."""
    alerts: Counter[str] = attrs.Factory(Counter)
    ends: Counter[str] = attrs.Factory(Counter)
    """Orders by the state in which they ended."""
    fills: int = 0
    unknown: int = 0
    cancels: int = 0
    won: int = 0
    reward: float = 0.0
    best: float = 0.0
    worst: float = 0.0
    max_drawdown: float = 0.0
    foreign: int = 0
    to_order: DurationHistogram = attrs.Factory(DurationHistogram)
    ack: DurationHistogram = attrs.Factory(DurationHistogram)
    to_ack: DurationHistogram = attrs.Factory(DurationHistogram)
    to_fill: DurationHistogram = attrs.Factory(DurationHistogram)
    gaps: GapTracker = attrs.Factory(GapTracker)
    _trades: TradeTracker = attrs.field(init=False)
    _orders: OrderTracker = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Follow trades and orders."""
        self._trades = TradeTracker(self._take_trade)
        self._orders = OrderTracker(self._take_order, self._take_ack, self._take_first_fill)

    def __call__(self, played: PlayedStep) -> None:
        """See ``Watcher``."""
        at_ns = played.step.at_ns
        self.first_ns = self.first_ns or at_ns
        self.last_ns = max(self.last_ns, at_ns)
        self.records[played.step.journaled_input.kind.value] += 1
        self.fills += len(played.booked)
        self.foreign = played.state.foreign_reports
        for event in played.step.journaled_input.events:
            self.inputs[type(event)] += 1
            self.unknown += isinstance(event, OrderAnswer) and event.verdict is Verdict.UNKNOWN
        for effect in played.effects:
            self.effects[type(effect)] += 1
            self._take_effect(effect)
        self.gaps(played)
        self._trades(played)
        self._orders(played)

    def _take_effect(self, effect: Effect) -> None:
        match effect:
            case CancelOrders(orders=orders):
                self.cancels += len(orders)
            case PublishRejection(reason=reason):
                self.rejections[reason.value] += 1
            case PublishClosure(reward=reward):
                self._take_reward(reward)
            case Alert(event=name):
                self.alerts[name] += 1
            case _:
                pass

    def _take_reward(self, reward: float) -> None:
        self.best = max(self.best, reward)
        self.worst = min(self.worst, reward)
        self.won += reward > 0
        self.reward += reward

    def _take_trade(self, trade: TradeHistory) -> None:
        self.max_drawdown = min(self.max_drawdown, trade.max_drawdown)

    def _take_order(self, history: OrderHistory) -> None:
        self.ends[history.info.order_state.value] += 1

    def _take_ack(self, history: OrderHistory) -> None:
        assert history.acked_ns is not None
        self.ack.add(history.acked_ns - history.info.created_ns)
        if history.received_ns is not None:
            self.to_order.add(history.info.created_ns - history.received_ns)
            self.to_ack.add(history.acked_ns - history.received_ns)

    def _take_first_fill(self, history: OrderHistory) -> None:
        if history.received_ns is not None and history.first_fill_ns is not None:
            self.to_fill.add(history.first_fill_ns - history.info.created_ns)

    @property
    def open_orders(self) -> int:
        """The number of orders that are open at the end."""
        return len(self._orders.open)

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines of the summary, as names and texts."""
        lasted = max(self.last_ns - self.first_ns, 0)
        gaps = self.gaps
        count, effects = self.inputs, self.effects
        current = f"; one since {format_time(gaps.since_ns)} has not ended" if gaps.since_ns else ""
        longest = f", {format_duration(gaps.longest_ns)} the longest" if gaps.count else ""
        rows = [
            ("from", format_time(self.first_ns)),
            ("until", f"{format_time(self.last_ns)} ({format_duration(lasted)})"),
            ("records", _listed(self.records)),
            ("actions", str(count[Action])),
            ("orders", f"{effects[PlaceOrder]} sent, {self.unknown} of unknown outcome at first"),
            ("ended", f"{_listed(self.ends)}; {self.open_orders} open"),
            ("cancels", f"{self.cancels} requested"),
            ("rejections", _listed(self.rejections)),
            ("fills", f"{self.fills}; {effects[PublishExecution]} executions published"),
            ("trades", f"{effects[PublishClosure]} closed, {self.won} with a gain"),
            ("reward", f"{self.reward:+.6f} (best {self.best:+.6f}, worst {self.worst:+.6f})"),
            ("drawdown", f"{self.max_drawdown:.4f} at worst"),
            ("starts", str(count[Started])),
            ("sessions", f"{count[SessionUp]} opened, {count[SessionDown]} lost"),
            ("gaps", f"{gaps.count}: {format_duration(gaps.total_ns)} in all{longest}{current}"),
        ]
        if self.alerts:
            rows.append(("alerts", _listed(self.alerts)))
        if self.foreign:
            rows.append(("not ours", f"{self.foreign} order reports"))
        return rows

    def latencies(self) -> list[tuple[str, DurationHistogram]]:
        """Return the latencies by name."""
        return [
            ("action to order", self.to_order),
            ("order to ack", self.ack),
            ("order to first fill", self.to_fill),
            ("action to order ack", self.to_ack),
        ]

    def render(self, title: str) -> RenderableType:
        """Draw it for a terminal."""
        facts = Table.grid(padding=(0, 2))
        for name, text in self.rows():
            facts.add_row(name, text)
        times = Table(box=None, padding=(0, 2), pad_edge=False)
        for name in ("latency", "p50", "p99", "max", "n"):
            times.add_column(name, justify="left" if name == "latency" else "right")
        for name, found in self.latencies():
            longest = format_duration(float(found.longest_ns)) if found.count else "-"
            p50, p99 = format_duration(found.quantile(0.5)), format_duration(found.quantile(0.99))
            times.add_row(name, p50, p99, longest, str(found.count))
        return Group(title, facts, "", times)


def _listed(counts: Counter[str]) -> str:
    """Format counts with their sum in front."""
    parts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{counts.total()}: {parts}" if parts else "0"
