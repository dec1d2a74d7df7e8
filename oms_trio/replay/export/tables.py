"""The rows of the tables that ``export`` writes, made from the steps of a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import partial
from typing import Any, Final

import attrs
import msgspec

from oms_trio.core.effects import (
    Effect,
    FillBooked,
    PublishClosure,
    PublishExecution,
    PublishRejection,
)
from oms_trio.core.model import NS_PER_MS
from oms_trio.replay.order_tracker import OrderHistory, OrderTracker
from oms_trio.replay.recordings.recording import PlayedStep, Watcher
from oms_trio.replay.trade_tracker import TradeHistory, TradeTracker

TableRow = Mapping[str, Any]
WriteRow = Callable[[TableRow], None]


class ColumnType(StrEnum):
    """The type of a column; times are Unix nanoseconds."""

    TEXT = "text"
    TIME = "time"
    WHOLE = "whole"
    FLOAT = "float"
    DECIMAL = "decimal"
    YES_NO = "yes_no"


class TableName(StrEnum):
    """A table that ``export --what`` writes."""

    TRADES = "trades"
    FILLS = "fills"
    EXECUTIONS = "executions"
    ORDERS = "orders"


_TEXT, _TIME, _WHOLE, _FLOAT, _DECIMAL, _YES_NO = ColumnType

COLUMNS: Final[dict[TableName, dict[str, ColumnType]]] = {
    TableName.TRADES: {
        "okx_id": _TEXT,
        "side": _TEXT,
        "opened": _TIME,
        "closed": _TIME,
        "closed_by": _TEXT,
        "state_id": _WHOLE,
        "fills": _WHOLE,
        "largest": _DECIMAL,
        "entry_px": _DECIMAL,
        "exit_px": _DECIMAL,
        "cumulative": _DECIMAL,
        "max_drawdown": _FLOAT,
        "reward": _FLOAT,
        "filled_portions": _TEXT,
    },
    TableName.FILLS: {
        "taken_in": _TIME,
        "fill_time": _TIME,
        "trade_id": _WHOLE,
        "okx_id": _TEXT,
        "state_id": _WHOLE,
        "side": _TEXT,
        "fill_px": _DECIMAL,
        "fill_sz": _DECIMAL,
        "fill_pnl": _DECIMAL,
        "position": _DECIMAL,
        "entry_px": _DECIMAL,
        "gain": _DECIMAL,
    },
    TableName.EXECUTIONS: {
        "at": _TIME,
        "message_id": _TEXT,
        "state_id": _WHOLE,
        "okx_id": _TEXT,
        "is_trade_closed": _YES_NO,
        "filled_portions": _TEXT,
        "reward": _FLOAT,
        "reason": _TEXT,
        "detail": _TEXT,
    },
    TableName.ORDERS: {
        "cl_ord_id": _TEXT,
        "okx_id": _TEXT,
        "state_id": _WHOLE,
        "side": _TEXT,
        "ord_type": _TEXT,
        "price": _DECIMAL,
        "volume": _DECIMAL,
        "filled_size": _DECIMAL,
        "avg_fill_price": _DECIMAL,
        "order_state": _TEXT,
        "cancel_state": _TEXT,
        "received": _TIME,
        "created": _TIME,
        "acked": _TIME,
        "first_fill": _TIME,
        "ended": _TIME,
    },
}


@attrs.frozen
class RowMaker:
    """Makes the rows of one table: ``watch`` writes those of each step.

    ``unfinished`` returns, at the end, the rows of what is still open.
    """

    watch: Watcher
    unfinished: Callable[[], Iterable[TableRow]] = tuple


def rows_of(table: TableName, write: WriteRow) -> RowMaker:
    """Return what makes the rows of a table and passes them to ``write``."""
    match table:
        case TableName.TRADES:
            trades = TradeTracker(lambda trade: write(trade_row(trade)))
            return RowMaker(
                trades, lambda: [] if trades.current is None else [trade_row(trades.current)]
            )
        case TableName.ORDERS:
            orders = OrderTracker(lambda order: write(order_row(order)))
            return RowMaker(orders, lambda: map(order_row, orders.open.values()))
        case TableName.FILLS:
            return RowMaker(partial(_write_fills, write))
        case TableName.EXECUTIONS:
            return RowMaker(partial(_write_executions, write))


def _write_fills(write: WriteRow, played: PlayedStep) -> None:
    for booked in played.booked:
        write(fill_row(booked, played.step.at_ns))


def _write_executions(write: WriteRow, played: PlayedStep) -> None:
    for effect in played.effects:
        if (row := execution_row(effect, played.step.at_ns)) is not None:
            write(row)


def trade_row(trade: TradeHistory) -> TableRow:
    """Return the row of a trade; an open one has no reward."""
    return {
        "okx_id": trade.okx_id,
        "side": trade.side.value,
        "opened": trade.opened_at_ns,
        "closed": trade.closed_at_ns,
        "closed_by": trade.closed_by,
        "state_id": trade.state_id,
        "fills": trade.fill_count,
        "largest": trade.largest,
        "entry_px": trade.average(entry=True),
        "exit_px": trade.average(entry=False),
        "cumulative": trade.cumulative,
        "max_drawdown": trade.max_drawdown,
        "reward": trade.reward,
        "filled_portions": _json(dict(trade.portions)) if trade.portions else None,
    }


def fill_row(booked: FillBooked, at_ns: int) -> TableRow:
    """Return the row of a booked fill; ``gain`` is the PnL that it realised, in USDT."""
    fill = booked.fill
    return {
        "taken_in": at_ns,
        "fill_time": fill.time_ms * NS_PER_MS,
        "trade_id": fill.trade_id,
        "okx_id": fill.ord_id,
        "state_id": booked.state_id,
        "side": booked.side.value,
        "fill_px": fill.px,
        "fill_sz": fill.sz,
        "fill_pnl": fill.pnl,
        "position": booked.position,
        "entry_px": booked.entry_px,
        "gain": booked.gain,
    }


def execution_row(effect: Effect, at_ns: int) -> TableRow | None:
    """Return the row of a message to the agent; None for any other effect."""
    match effect:
        case PublishExecution():
            more: dict[str, Any] = {"okx_id": effect.ord_id, "is_trade_closed": False}
        case PublishClosure():
            more = {
                "okx_id": effect.ord_id,
                "is_trade_closed": True,
                "filled_portions": _json(dict(effect.portions)),
                "reward": effect.reward,
            }
        case PublishRejection():
            more = {"reason": effect.reason.value, "detail": effect.detail}
        case _:
            return None
    return {"at": at_ns, "message_id": effect.message_id, "state_id": effect.state_id, **more}


def order_row(order: OrderHistory) -> TableRow:
    """Return the row of an order, as it ended or as it is now."""
    info = order.info
    return {
        "cl_ord_id": info.cl_ord_id,
        "okx_id": info.okx_order_id,
        "state_id": info.state_id,
        "side": info.side.value,
        "ord_type": info.ord_type.value,
        "price": info.price,
        "volume": info.volume,
        "filled_size": info.filled_size,
        "avg_fill_price": info.avg_fill_price,
        "order_state": info.order_state.value,
        "cancel_state": info.cancel_state.value,
        "received": order.received_ns,
        "created": info.created_ns,
        "acked": order.acked_ns,
        "first_fill": order.first_fill_ns,
        "ended": order.ended_ns,
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
