"""The rows of the tables that ``export`` writes: made of steps, one kind of row a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from oms_trio.core.effects import (
    Effect,
    FillBooked,
    PublishClosure,
    PublishExecution,
    PublishRejection,
)
from oms_trio.replay.export.orders import Orders, OrderStory
from oms_trio.replay.export.trades import Trades, TradeStory
from oms_trio.replay.recordings.model import Moment

Row = Mapping[str, Any]
Write = Callable[[Row], None]

NS_PER_MS: Final = 1_000_000


class Kind(StrEnum):
    """What a column holds; times are Unix nanoseconds."""

    TEXT = "text"
    TIME = "time"
    WHOLE = "whole"
    FLOAT = "float"
    DECIMAL = "decimal"
    YES_NO = "yes_no"


class What(StrEnum):
    """Which table."""

    TRADES = "trades"
    FILLS = "fills"
    EXECUTIONS = "executions"
    ORDERS = "orders"


_TEXT, _TIME, _WHOLE, _FLOAT, _DECIMAL, _YES_NO = Kind

COLUMNS: Final[dict[What, dict[str, Kind]]] = {
    What.TRADES: {
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
    What.FILLS: {
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
    What.EXECUTIONS: {
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
    What.ORDERS: {
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


class Table(Protocol):
    """Makes the rows of a table out of steps."""

    def __call__(self, moment: Moment, /) -> None:
        """Look at one step."""

    def finish(self) -> None:
        """Write what is still open at the end."""


def table_of(what: What, write: Write) -> Table:
    """Return what makes the rows of a table, each handed to ``write``."""
    match what:
        case What.TRADES:
            return _TradeRows(write)
        case What.FILLS:
            return _FillRows(write)
        case What.EXECUTIONS:
            return _ExecutionRows(write)
        case What.ORDERS:
            return _OrderRows(write)


class _TradeRows:
    def __init__(self, write: Write) -> None:
        self._write = write
        self._trades = Trades(lambda story: write(trade_row(story)))

    def __call__(self, moment: Moment) -> None:
        self._trades(moment)

    def finish(self) -> None:
        if self._trades.current is not None:
            self._write(trade_row(self._trades.current))


class _OrderRows:
    def __init__(self, write: Write) -> None:
        self._write = write
        self._orders = Orders(lambda story: write(order_row(story)))

    def __call__(self, moment: Moment) -> None:
        self._orders(moment)

    def finish(self) -> None:
        for story in self._orders.open.values():
            self._write(order_row(story))


class _FillRows:
    def __init__(self, write: Write) -> None:
        self._write = write

    def __call__(self, moment: Moment) -> None:
        for booked in moment.booked:
            self._write(fill_row(booked, moment.step.at_ns))

    def finish(self) -> None:
        """Leave it: a fill is never open."""


class _ExecutionRows:
    def __init__(self, write: Write) -> None:
        self._write = write

    def __call__(self, moment: Moment) -> None:
        for effect in moment.effects:
            if (row := execution_row(effect, moment.step.at_ns)) is not None:
                self._write(row)

    def finish(self) -> None:
        """Leave it: what was told is told."""


def trade_row(story: TradeStory) -> Row:
    """Write down a trade; an open one has no closure."""
    return {
        "okx_id": story.okx_id,
        "side": story.side.value,
        "opened": story.opened_at_ns,
        "closed": story.closed_at_ns,
        "closed_by": story.closed_by,
        "state_id": story.state_id,
        "fills": story.fills,
        "largest": story.largest,
        "entry_px": story.average(entry=True),
        "exit_px": story.average(entry=False),
        "cumulative": story.cumulative,
        "max_drawdown": story.max_drawdown,
        "reward": story.reward,
        "filled_portions": _json(dict(story.portions)) if story.portions else None,
    }


def fill_row(booked: FillBooked, at_ns: int) -> Row:
    """Write down a fill as it was booked; ``gain`` is the PnL that it realised, in USDT."""
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


def execution_row(effect: Effect, at_ns: int) -> Row | None:
    """Write down what the agent was told; None for an effect that tells it nothing."""
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


def order_row(story: OrderStory) -> Row:
    """Write down an order, as it ended or as it is."""
    info = story.info
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
        "received": story.received_ns,
        "created": info.created_ns,
        "acked": story.acked_ns,
        "first_fill": story.first_fill_ns,
        "ended": story.ended_ns,
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
