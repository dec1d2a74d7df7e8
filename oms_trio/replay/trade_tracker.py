"""Whole trades, put together fill by fill and reported when they close."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import attrs

from oms_trio.core.model import OrdId, Side, StateId
from oms_trio.replay.recordings.recording import Booked, PlayedStep

ZERO = Decimal(0)

FILLS_KEPT = 2_000
"""Fills kept of one trade, so that memory stays bounded when a trade never closes."""


@attrs.frozen
class TradeFill:
    """The share of one fill in one trade: ``sz`` contracts into it (above 0) or out of it.

    ``size_after`` and ``entry_px`` are the trade's after the fill; ``gain`` is the PnL that the fill
    realised in it, in USDT.
    """

    at_ns: int
    time_ms: int
    ord_id: OrdId
    state_id: StateId
    trade_id: int | None
    side: Side
    px: Decimal
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
        fills = [fill for fill in self.fills if (fill.side is self.side) is entry]
        size = sum((abs(fill.sz) for fill in fills), ZERO)
        return sum((fill.px * abs(fill.sz) for fill in fills), ZERO) / size if size else None

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
        for booked in played.booked:
            self._take(booked)
        open_trade = played.state.book.trade
        if self.current is not None and open_trade is not None:
            self.current.max_drawdown = open_trade.max_drawdown

    def _take(self, booked: Booked) -> None:
        left = booked.fill.sz
        if booked.trade is not None:
            history = self._history(booked.trade, booked)
            into = booked.reduced or left
            left -= into
            after = ZERO if booked.closed else abs(booked.position)
            entry = None if booked.closed else booked.entry_px
            signed = -into if booked.reduced else into
            history.add(_fill(booked, signed, after, entry, booked.gain))
            history.cumulative, history.max_drawdown = booked.cumulative, booked.max_drawdown
            if booked.closed:
                self._close(history, booked)
        if booked.opened is not None:
            history = TradeHistory(booked.opened, booked.side, booked.at_ns)
            history.add(_fill(booked, left, abs(booked.position), booked.entry_px, ZERO))
            self.current = history

    def _history(self, okx_id: OrdId, booked: Booked) -> TradeHistory:
        """Return the open trade; one that was open before the replay began starts here."""
        if self.current is None or self.current.okx_id != okx_id:
            side = booked.side
            if booked.reduced:
                side = Side.SELL if side is Side.BUY else Side.BUY
            self.current = TradeHistory(okx_id, side, booked.at_ns)
        return self.current

    def _close(self, history: TradeHistory, booked: Booked) -> None:
        history.closed_at_ns, history.closed_by = booked.at_ns, booked.fill.ord_id
        history.reward = booked.reward
        if booked.closure is not None:
            history.state_id, history.portions = booked.closure.state_id, booked.closure.portions
        self.current = None
        self.on_closed(history)


def _fill(
    booked: Booked, sz: Decimal, after: Decimal, entry_px: Decimal | None, gain: Decimal
) -> TradeFill:
    fill = booked.fill
    return TradeFill(
        at_ns=booked.at_ns,
        time_ms=fill.time_ms,
        ord_id=fill.ord_id,
        state_id=booked.order.state_id,
        trade_id=fill.trade_id,
        side=booked.side,
        px=fill.px,
        sz=sz,
        size_after=after,
        entry_px=entry_px,
        gain=gain,
    )
