"""Draw the state at an instant, and one trade with its fills, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import attrs
from rich.console import Group, RenderableType
from rich.table import Table

from oms_trio.core.orders import OrderInfo
from oms_trio.core.state import TradeState
from oms_trio.replay.recordings.recording import PlayedStep
from oms_trio.replay.times import format_time, time_of_day
from oms_trio.replay.trade_tracker import TradeHistory, TradeTracker
from oms_trio.service.state_codec import digest

_DIGITS = 10
"""Most digits that a number from the wire has; averages have more and are rounded."""


def short(number: Decimal | None) -> str:
    """Format a number; results of a division are rounded to 4 places."""
    if number is None:
        return "-"
    return format(
        number.normalize() if len(number.as_tuple().digits) <= _DIGITS else round(number, 4), "f"
    )


def show_state(state: TradeState) -> RenderableType:
    """Draw the main parts of the state, with the digest of all of it."""
    sync, book = state.sync, state.book
    table = Table.grid(padding=(0, 2))
    reported_pos = short(None if sync.exchange_pos is None else sync.exchange_pos.pos)
    for name, text in (
        ("ready", "yes" if state.ready else f"no: {sync.why}"),
        ("instrument", "-" if state.sync.instrument is None else state.sync.instrument.inst_id),
        ("balance", f"{short(state.balance)} USDT"),
        (
            "position",
            f"{short(book.position)} by our fills, {reported_pos} reported by the exchange",
        ),
        ("exposure", ", ".join(f"{s.value} {short(x)}" for s, x in state.orders.exposure.items())),
        ("orders", f"{len(state.orders)} open, {len(state.orders.ended)} ended ones kept"),
        ("fills", f"{book.fills} booked"),
        ("draining", "yes" if state.draining else "no"),
        ("digest", digest(state)),
    ):
        table.add_row(name, text)
    return table


def show_orders(state: TradeState) -> RenderableType:
    """Draw the open orders, oldest first."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("created", "state id", "okx id", "side", "price", "volume", "filled", "state", ""):
        table.add_column(name)
    for order in state.orders:
        table.add_row(*_order_row(order))
    return Group(table, f"{len(state.orders)} open orders")


def _order_row(order: OrderInfo) -> Iterable[str]:
    conditions = {
        "awaiting ack": order.awaiting_ack,
        "outcome unknown": order.outcome_unknown,
        "verify before send": order.verify_before_send,
        f"cancel {order.cancel_state.value}": order.cancel_state.value != "none",
    }
    return (
        time_of_day(order.created_ns),
        str(order.state_id),
        order.okx_order_id or "-",
        order.side.value,
        "market" if order.price is None else short(order.price),
        short(order.volume),
        f"{short(order.filled_size)} ({order.execution_percentage:.0f}%)",
        order.order_state.value,
        ", ".join(name for name, holds in conditions.items() if holds),
    )


def show_open_trade(state: TradeState) -> RenderableType:
    """Draw the open trade."""
    trade = state.book.trade
    if trade is None:
        return "flat: no trade is open"
    table = Table.grid(padding=(0, 2))
    for name, text in (
        ("trade", trade.okx_id),
        ("side", trade.side.value),
        ("size", f"{short(trade.size)} contracts"),
        ("entry", short(trade.entry_px)),
        ("realised", f"{short(trade.pnl)} USDT"),
        ("fees", f"{short(trade.fees)} USDT"),
        ("funding", f"{short(trade.funding)} USDT"),
        ("drawdown", f"{trade.max_drawdown:.6f}"),
        ("orders", ", ".join(f"{name} {short(sz)}" for name, sz in trade.parts.items())),
    ):
        table.add_row(name, text)
    return table


def show_trade(trade: TradeHistory) -> RenderableType:
    """Draw a trade fill by fill, with the calculation of its reward."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("at", "state id", "okx id", "side", "price", "contracts", "size", "entry", "gain"):
        table.add_column(name, justify="left" if name in {"at", "okx id", "side"} else "right")
    for fill in trade.fills:
        table.add_row(
            time_of_day(fill.at_ns),
            str(fill.booked.state_id),
            fill.booked.fill.ord_id,
            fill.booked.side.value,
            short(fill.booked.fill.px),
            f"{short(fill.sz):>}",
            short(fill.size_after),
            short(fill.entry_px),
            short(fill.gain) if fill.gain else "",
        )
    return Group(
        f"trade {trade.okx_id} ({trade.side.value}), opened {format_time(trade.opened_at_ns)}",
        table,
        *_ending(trade),
    )


def _ending(trade: TradeHistory) -> Iterable[RenderableType]:
    if trade.fill_count > len(trade.fills):
        yield f"... and {trade.fill_count - len(trade.fills)} more fills"
    if trade.reward is None or trade.closed_at_ns is None:
        yield f"open: cumulative {short(trade.cumulative)}, drawdown {trade.max_drawdown:.6f}"
        return
    portions = ", ".join(f"{name} {part:.4g}" for name, part in trade.portions)
    yield f"closed {format_time(trade.closed_at_ns)} by {trade.closed_by}; portions {portions}"
    sign = "-" if trade.cumulative > 0 else "+"
    yield (
        f"reward {trade.reward:.10g} = {float(trade.cumulative):.10g} x "
        f"(1 {sign} 2 x {abs(trade.max_drawdown):.10g})"
    )


@attrs.define
class TradeFinder:
    """Keeps the trades that one order, given by its okx id, opened or closed."""

    ord_id: str
    closed: list[TradeHistory] = attrs.Factory(list)
    _trades: TradeTracker = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Follow trades."""
        self._trades = TradeTracker(self._take)

    def __call__(self, played: PlayedStep) -> None:
        """See ``Watcher``."""
        self._trades(played)

    def _take(self, trade: TradeHistory) -> None:
        if self.ord_id in {trade.okx_id, trade.closed_by}:
            self.closed.append(trade)

    def trades(self) -> list[TradeHistory]:
        """Return the trades, the open one included; an order can close one and open the next."""
        current = self._trades.current
        if current is None or current.okx_id != self.ord_id:
            return self.closed
        return [*self.closed, current]
