"""What happened in a recording, counted in memory that does not grow with it."""

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
from oms_trio.replay.export.orders import Orders, OrderStory
from oms_trio.replay.export.trades import Trades, TradeStory
from oms_trio.replay.recordings.model import Moment
from oms_trio.replay.report.durations import Latencies, in_words
from oms_trio.replay.report.gaps import Gaps
from oms_trio.replay.times import iso


@attrs.define
class Summary:
    """Counts of everything."""

    first_ns: int = 0
    last_ns: int = 0
    records: Counter[str] = attrs.Factory(Counter)
    inputs: Counter[type[Event]] = attrs.Factory(Counter)
    effects: Counter[type[Effect]] = attrs.Factory(Counter)
    refused: Counter[str] = attrs.Factory(Counter)
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
    to_order: Latencies = attrs.Factory(Latencies)
    ack: Latencies = attrs.Factory(Latencies)
    to_ack: Latencies = attrs.Factory(Latencies)
    to_fill: Latencies = attrs.Factory(Latencies)
    gaps: Gaps = attrs.Factory(Gaps)
    _trades: Trades = attrs.field(init=False)
    _orders: Orders = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Follow trades and orders."""
        self._trades = Trades(self._take_trade)
        self._orders = Orders(self._take_order, self._take_ack, self._take_first_fill)

    def __call__(self, moment: Moment) -> None:
        """See ``Watcher``."""
        at_ns = moment.step.at_ns
        self.first_ns = self.first_ns or at_ns
        self.last_ns = max(self.last_ns, at_ns)
        self.records[moment.step.arrival.kind.value] += 1
        self.fills += len(moment.booked)
        self.foreign = moment.state.foreign_reports
        for event in moment.step.arrival.events:
            self.inputs[type(event)] += 1
            self.unknown += isinstance(event, OrderAnswer) and event.verdict is Verdict.UNKNOWN
        for effect in moment.effects:
            self.effects[type(effect)] += 1
            self._take_effect(effect)
        self.gaps(moment)
        self._trades(moment)
        self._orders(moment)

    def _take_effect(self, effect: Effect) -> None:
        match effect:
            case CancelOrders(orders=orders):
                self.cancels += len(orders)
            case PublishRejection(reason=reason):
                self.refused[reason.value] += 1
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

    def _take_trade(self, trade: TradeStory) -> None:
        self.max_drawdown = min(self.max_drawdown, trade.max_drawdown)

    def _take_order(self, story: OrderStory) -> None:
        self.ends[story.info.order_state.value] += 1

    def _take_ack(self, story: OrderStory) -> None:
        assert story.acked_ns is not None
        self.ack.add(story.acked_ns - story.info.created_ns)
        if story.received_ns is not None:
            self.to_order.add(story.info.created_ns - story.received_ns)
            self.to_ack.add(story.acked_ns - story.received_ns)

    def _take_first_fill(self, story: OrderStory) -> None:
        if story.received_ns is not None and story.first_fill_ns is not None:
            self.to_fill.add(story.first_fill_ns - story.info.created_ns)

    @property
    def open_orders(self) -> int:
        """Orders that are open at the end."""
        return len(self._orders.open)

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of the summary: names and texts."""
        lasted = max(self.last_ns - self.first_ns, 0)
        gaps = self.gaps
        count, effects = self.inputs, self.effects
        lasting = f"; one lasts on since {iso(gaps.since_ns)}" if gaps.since_ns else ""
        longest = f", {in_words(gaps.longest_ns)} the longest" if gaps.count else ""
        rows = [
            ("from", iso(self.first_ns)),
            ("until", f"{iso(self.last_ns)} ({in_words(lasted)})"),
            ("records", _listed(self.records)),
            ("actions", str(count[Action])),
            ("orders", f"{effects[PlaceOrder]} sent, {self.unknown} of unknown outcome at first"),
            ("ended", f"{_listed(self.ends)}; {self.open_orders} open"),
            ("cancels", f"{self.cancels} requested"),
            ("rejections", _listed(self.refused)),
            ("fills", f"{self.fills}; {effects[PublishExecution]} executions published"),
            ("trades", f"{effects[PublishClosure]} closed, {self.won} with a gain"),
            ("reward", f"{self.reward:+.6f} (best {self.best:+.6f}, worst {self.worst:+.6f})"),
            ("drawdown", f"{self.max_drawdown:.4f} at worst"),
            ("starts", str(count[Started])),
            ("sessions", f"{count[SessionUp]} up, {count[SessionDown]} lost"),
            ("gaps", f"{gaps.count}: {in_words(gaps.total_ns)} in all{longest}{lasting}"),
        ]
        if self.alerts:
            rows.append(("alerts", _listed(self.alerts)))
        if self.foreign:
            rows.append(("not ours", f"{self.foreign} order reports"))
        return rows

    def latencies(self) -> list[tuple[str, Latencies]]:
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
            longest = in_words(float(found.longest_ns)) if found.count else "-"
            p50, p99 = in_words(found.quantile(0.5)), in_words(found.quantile(0.99))
            times.add_row(name, p50, p99, longest, str(found.count))
        return Group(title, facts, "", times)


def _listed(counts: Counter[str]) -> str:
    """Write counts with their sum in front."""
    parts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{counts.total()}: {parts}" if parts else "0"
