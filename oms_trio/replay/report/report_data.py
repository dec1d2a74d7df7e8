"""The data of a report, in bounded memory: long series are thinned out."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import attrs

from oms_trio.core.events import Action, PositionUpdate
from oms_trio.core.model import Side
from oms_trio.replay.order_tracker import OrderHistory, OrderTracker
from oms_trio.replay.recordings.recording import PlayedStep
from oms_trio.replay.report.summary import Summary
from oms_trio.replay.trade_tracker import TradeHistory, TradeTracker

POINTS = 3_000
"""Points that a series keeps at least: more than a page has pixels."""

TRADES_KEPT = 1_000
ORDERS_KEPT = 1_000
"""The newest trades and orders are kept, as many as a page can show without becoming slow."""


@attrs.define
class TimeSeries:
    """Values over time; when there are too many, every other one is dropped."""

    at_ns: list[int] = attrs.Factory(list)
    values: list[float] = attrs.Factory(list)
    _every: int = 1
    _skipped: int = 0

    def add(self, at_ns: int, value: float | Decimal) -> None:
        """Add one value."""
        self._skipped += 1
        if self._skipped < self._every:
            return
        self._skipped = 0
        self.at_ns.append(at_ns)
        self.values.append(float(value))
        if len(self.values) > 2 * POINTS:
            del self.at_ns[::2], self.values[::2]
            self._every *= 2

    def __len__(self) -> int:
        return len(self.values)


@attrs.define
class ReportData:
    """Collects what the page shows; a watcher. Call ``finish`` after the last step."""

    summary: Summary = attrs.Factory(Summary)
    price: TimeSeries = attrs.Factory(TimeSeries)
    fills: dict[Side, TimeSeries] = attrs.Factory(lambda: {side: TimeSeries() for side in Side})
    position: TimeSeries = attrs.Factory(TimeSeries)
    upl_ratio: TimeSeries = attrs.Factory(TimeSeries)
    drawdown: TimeSeries = attrs.Factory(TimeSeries)
    reward: TimeSeries = attrs.Factory(TimeSeries)
    """One value per closed trade, in their order."""
    trades: deque[TradeHistory] = attrs.Factory(lambda: deque(maxlen=TRADES_KEPT))
    orders: deque[OrderHistory] = attrs.Factory(lambda: deque(maxlen=ORDERS_KEPT))
    _trades: TradeTracker = attrs.field(init=False)
    _orders: OrderTracker = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Follow trades and orders."""
        self._trades = TradeTracker(self._take_trade)
        self._orders = OrderTracker(self.orders.append)

    def __call__(self, played: PlayedStep) -> None:
        """See ``Watcher``."""
        self.summary(played)
        for event in played.step.journaled_input.events:
            if isinstance(event, Action):
                self.price.add(played.step.at_ns, event.mid)
            elif isinstance(event, PositionUpdate):
                self._take_position(event, played)
        for booked in played.booked:
            self.fills[booked.side].add(played.step.at_ns, booked.fill.px)
            self.position.add(played.step.at_ns, booked.position)
        self._trades(played)
        self._orders(played)

    def finish(self) -> None:
        """Add the trade and the orders that are still open."""
        if self._trades.current is not None:
            self.trades.append(self._trades.current)
        self.orders.extend(self._orders.open.values())

    def _take_position(self, event: PositionUpdate, played: PlayedStep) -> None:
        report, trade = event.report, played.state.book.trade
        if report.mark_px is not None:
            self.price.add(played.step.at_ns, report.mark_px)
        if report.upl_ratio is not None:
            self.upl_ratio.add(played.step.at_ns, report.upl_ratio)
            self.drawdown.add(played.step.at_ns, 0.0 if trade is None else trade.max_drawdown)

    def _take_trade(self, trade: TradeHistory) -> None:
        self.trades.append(trade)
        assert trade.closed_at_ns is not None
        assert trade.reward is not None
        self.reward.add(trade.closed_at_ns, trade.reward)
