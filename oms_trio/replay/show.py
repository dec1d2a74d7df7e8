"""The state at an instant, and one trade with all that belongs to it, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import attrs
from rich.console import Group, RenderableType
from rich.table import Table

from oms_trio.core.orders import OrderInfo
from oms_trio.core.state import TradeState
from oms_trio.replay.export.trades import Trades, TradeStory
from oms_trio.replay.recordings.model import Moment
from oms_trio.replay.times import clock, iso
from oms_trio.service.state_codec import digest

_DIGITS = 10
"""Significant digits of averages; what was on the wire has fewer."""


def short(number: Decimal | None) -> str:
    """Write a number without the digits that only division made."""
    if number is None:
        return "-"
    return format(
        number.normalize() if len(number.as_tuple().digits) <= _DIGITS else round(number, 4), "f"
    )


def show_state(state: TradeState) -> RenderableType:
    """Draw what decisions depend on, in short, with the digest of all of it."""
    sync, book = state.sync, state.book
    table = Table.grid(padding=(0, 2))
    theirs = sync.exchange_pos
    for name, text in (
        ("ready", "yes" if state.ready else f"no: {sync.why}"),
        ("instrument", "-" if state.sync.instrument is None else state.sync.instrument.inst_id),
        ("balance", f"{short(state.balance)} USDT"),
        (
            "position",
            f"{short(book.position)} by our fills, {short(None if theirs is None else theirs.pos)} on the exchange",
        ),
        ("exposure", ", ".join(f"{s.value} {short(x)}" for s, x in state.orders.exposure.items())),
        ("orders", f"{len(state.orders)} open, {len(state.orders.ended)} ended are findable"),
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
    doubts = {
        "awaiting ack": order.awaiting_ack,
        "outcome unknown": order.outcome_unknown,
        "verify before send": order.verify_before_send,
        f"cancel {order.cancel_state.value}": order.cancel_state.value != "none",
    }
    return (
        clock(order.created_ns),
        str(order.state_id),
        order.okx_order_id or "-",
        order.side.value,
        "market" if order.price is None else short(order.price),
        short(order.volume),
        f"{short(order.filled_size)} ({order.execution_percentage:.0f}%)",
        order.order_state.value,
        ", ".join(name for name, holds in doubts.items() if holds),
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


def show_trade(trade: TradeStory) -> RenderableType:
    """Draw a trade fill by fill, and how its reward came to be."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("at", "state id", "okx id", "side", "price", "contracts", "size", "entry", "gain"):
        table.add_column(name, justify="left" if name in {"at", "okx id", "side"} else "right")
    for part in trade.parts:
        table.add_row(
            clock(part.at_ns),
            str(part.state_id),
            part.ord_id,
            part.side.value,
            short(part.px),
            f"{short(part.sz):>}",
            short(part.size_behind),
            short(part.entry_px),
            short(part.gain) if part.gain else "",
        )
    return Group(
        f"trade {trade.okx_id} ({trade.side.value}), opened {iso(trade.opened_at_ns)}",
        table,
        *_ending(trade),
    )


def _ending(trade: TradeStory) -> Iterable[RenderableType]:
    if trade.fills > len(trade.parts):
        yield f"... and {trade.fills - len(trade.parts)} fills more"
    if trade.reward is None or trade.closed_at_ns is None:
        yield f"open: cumulative {short(trade.cumulative)}, drawdown {trade.max_drawdown:.6f}"
        return
    portions = ", ".join(f"{name} {part:.4g}" for name, part in trade.portions)
    yield f"closed {iso(trade.closed_at_ns)} by {trade.closed_by}; portions {portions}"
    sign = "-" if trade.cumulative > 0 else "+"
    yield (
        f"reward {trade.reward:.10g} = {float(trade.cumulative):.10g} x "
        f"(1 {sign} 2 x {abs(trade.max_drawdown):.10g})"
    )


@attrs.define
class OneTrade:
    """Waits for the trade that was opened or closed by an order, and keeps that one alone."""

    ord_id: str
    found: list[TradeStory] = attrs.Factory(list)
    _trades: Trades = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Follow trades."""
        self._trades = Trades(self._take)

    def __call__(self, moment: Moment) -> None:
        """See ``Watcher``."""
        self._trades(moment)

    def _take(self, trade: TradeStory) -> None:
        if self.ord_id in {trade.okx_id, trade.closed_by}:
            self.found.append(trade)

    def stories(self) -> list[TradeStory]:
        """Return what was found, the open trade included: an order can end one and begin one."""
        current = self._trades.current
        still = [current] if current is not None and current.okx_id == self.ord_id else []
        return self.found + still
