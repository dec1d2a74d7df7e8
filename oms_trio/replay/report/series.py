"""What a report draws, gathered in bounded memory: long series are thinned out."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import attrs

from oms_trio.core.events import Action, PositionUpdate
from oms_trio.core.model import Side
from oms_trio.replay.export.orders import Orders, OrderStory
from oms_trio.replay.export.trades import Trades, TradeStory
from oms_trio.replay.recordings.model import Moment
from oms_trio.replay.report.summary import Summary

POINTS = 3_000
"""Points of a series: more than a page has pixels."""

TRADES_KEPT = 1_000
ORDERS_KEPT = 1_000
"""The newest trades and orders that a page can show without becoming heavy."""


@attrs.define
class Series:
    """Values over time; when there are too many, every other one goes."""

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


@attrs.frozen
class Life:
    """An order's life as it is drawn."""

    side: Side
    created_ns: int
    first_fill_ns: int | None
    ended_ns: int | None
    state: str


@attrs.define
class Gathered:
    """All that a page shows."""

    summary: Summary = attrs.Factory(Summary)
    price: Series = attrs.Factory(Series)
    fills: dict[Side, Series] = attrs.Factory(lambda: {side: Series() for side in Side})
    position: Series = attrs.Factory(Series)
    upl_ratio: Series = attrs.Factory(Series)
    drawdown: Series = attrs.Factory(Series)
    reward: Series = attrs.Factory(Series)
    """One value a closed trade, in their order."""
    trades: deque[TradeStory] = attrs.Factory(lambda: deque(maxlen=TRADES_KEPT))
    lives: deque[Life] = attrs.Factory(lambda: deque(maxlen=ORDERS_KEPT))
    _trades: Trades = attrs.field(init=False)
    _orders: Orders = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Follow trades and orders."""
        self._trades = Trades(self._take_trade)
        self._orders = Orders(lambda story: self.lives.append(_life(story)))

    def __call__(self, moment: Moment) -> None:
        """See ``Watcher``."""
        self.summary(moment)
        for event in moment.step.arrival.events:
            if isinstance(event, Action):
                self.price.add(moment.step.at_ns, event.mid)
            elif isinstance(event, PositionUpdate):
                self._take_position(event, moment)
        for booked in moment.booked:
            self.fills[booked.side].add(booked.at_ns, booked.fill.px)
            self.position.add(booked.at_ns, booked.position)
        self._trades(moment)
        self._orders(moment)

    def finish(self) -> None:
        """Take what is still open at the end."""
        if self._trades.current is not None:
            self.trades.append(self._trades.current)
        self.lives.extend(map(_life, self._orders.open.values()))

    def _take_position(self, event: PositionUpdate, moment: Moment) -> None:
        report, trade = event.report, moment.state.book.trade
        if report.mark_px is not None:
            self.price.add(moment.step.at_ns, report.mark_px)
        if report.upl_ratio is not None:
            self.upl_ratio.add(moment.step.at_ns, report.upl_ratio)
            self.drawdown.add(moment.step.at_ns, 0.0 if trade is None else trade.max_drawdown)

    def _take_trade(self, trade: TradeStory) -> None:
        self.trades.append(trade)
        assert trade.closed_at_ns is not None
        assert trade.reward is not None
        self.reward.add(trade.closed_at_ns, trade.reward)


def _life(story: OrderStory) -> Life:
    info = story.info
    return Life(
        info.side, info.created_ns, story.first_fill_ns, story.ended_ns, info.order_state.value
    )
