"""Whole trades, put together fill by fill and reported when they close."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import attrs

from oms_trio.core.effects import FillBooked, PublishClosure
from oms_trio.core.model import OrdId, Side, StateId
from oms_trio.replay.recordings.recording import PlayedStep

ZERO = Decimal(0)

FILLS_KEPT = 2_000
"""Fills kept of one trade, so that memory stays bounded when a trade never closes."""


@attrs.frozen
class TradeFill:
    """The share of one fill in one trade: ``sz`` contracts into it (above 0) or out of it.

    ``size_after`` and ``entry_px`` are the trade's after the fill; ``gain`` is the PnL that the fill
    realised in it, in USDT.
    """

    booked: FillBooked
    at_ns: int
    sz: Decimal
    size_after: Decimal
    entry_px: Decimal | None
    gain: Decimal


@attrs.define
class TradeHistory:
    """One trade with its fills; ``closed_by`` and ``reward`` are None while it is open.

    ``state_id`` and ``portions`` are those of the published closure.
    """

    okx_id: OrdId
    side: Side
    opened_at_ns: int
    fills: list[TradeFill] = attrs.Factory(list)
    fill_count: int = 0
    size: Decimal = ZERO
    largest: Decimal = ZERO
    cumulative: Decimal = ZERO
    max_drawdown: float = 0.0
    closed_at_ns: int | None = None
    closed_by: OrdId | None = None
    state_id: StateId | None = None
    portions: tuple[tuple[OrdId, float], ...] = ()
    reward: float | None = None

    def average(self, *, entry: bool) -> Decimal | None:
        """Return the average price of the fills that opened the trade, or of those that closed it."""
        fills = [fill for fill in self.fills if (fill.booked.side is self.side) is entry]
        size = sum((abs(fill.sz) for fill in fills), ZERO)
        return (
            sum((fill.booked.fill.px * abs(fill.sz) for fill in fills), ZERO) / size
            if size
            else None
        )

    def add(self, fill: TradeFill) -> None:
        """Add a fill."""
        self.fill_count += 1
        self.size = fill.size_after
        self.largest = max(self.largest, self.size)
        if len(self.fills) < FILLS_KEPT:
            self.fills.append(fill)


@attrs.define
class TradeTracker:
    """Follows trades; ``on_closed`` is called with each trade that closes, ``current`` is open."""

    on_closed: Callable[[TradeHistory], object]
    current: TradeHistory | None = None

    def __call__(self, played: PlayedStep) -> None:
        """See ``Watcher``."""
        closure = None
        for effect in played.effects:
            if isinstance(effect, PublishClosure):
                closure = effect
            elif isinstance(effect, FillBooked):
                self._take(effect, closure, played.step.at_ns)
                closure = None
        open_trade = played.state.book.trade
        if self.current is not None and open_trade is not None:
            self.current.max_drawdown = open_trade.max_drawdown

    def _take(self, booked: FillBooked, closure: PublishClosure | None, now_ns: int) -> None:
        left = booked.fill.sz
        if booked.trade is not None:
            trade = self._trade(booked.trade, booked, now_ns)
            into = booked.reduced or left
            left -= into
            size_after = ZERO if booked.closed else abs(booked.position)
            entry_px = None if booked.closed else booked.entry_px
            signed = -into if booked.reduced else into
            trade.add(TradeFill(booked, now_ns, signed, size_after, entry_px, booked.gain))
            trade.cumulative, trade.max_drawdown = booked.gained, booked.max_drawdown
            if booked.closed:
                self._close(trade, booked, closure, now_ns)
        if booked.opened is not None:
            trade = self.current = TradeHistory(booked.opened, booked.side, now_ns)
            size_after = abs(booked.position)
            trade.add(TradeFill(booked, now_ns, left, size_after, booked.entry_px, ZERO))

    def _trade(self, okx_id: OrdId, booked: FillBooked, now_ns: int) -> TradeHistory:
        """Return the open trade; one that was open before the replay began starts here."""
        if self.current is None or self.current.okx_id != okx_id:
            side = booked.side
            if booked.reduced:
                side = Side.SELL if side is Side.BUY else Side.BUY
            self.current = TradeHistory(okx_id, side, now_ns)
        return self.current

    def _close(
        self, trade: TradeHistory, booked: FillBooked, closure: PublishClosure | None, now_ns: int
    ) -> None:
        trade.closed_at_ns, trade.closed_by = now_ns, booked.fill.ord_id
        trade.reward = booked.reward
        if closure is not None:
            trade.state_id, trade.portions = closure.state_id, closure.portions
        self.current = None
        self.on_closed(trade)
