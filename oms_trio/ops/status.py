"""What the service is doing, as one value: for the terminal, the page and the gauges.

The names of the fields are stable: programs read them from ``/status`` and ``oms-trio status --json``.
"""

from __future__ import annotations

from decimal import Decimal

import attrs
import msgspec

from oms_trio.core.model import CancelState, Rules
from oms_trio.core.orders import OrderInfo
from oms_trio.core.state import TradeState
from oms_trio.core.trade import Trade
from oms_trio.ops.latency import LatencySummary

ORDERS_SHOWN = 40
"""Half of them the newest, half the oldest: listing all 300 takes time, and nobody reads so many."""


@attrs.frozen
class Connections:
    """The connections. Ages in seconds, None before the first push or reconciliation.

    ``broker`` is None in a replay without a broker. ``unroutable`` counts messages that RabbitMQ
    returned because no queue was bound for them.
    """

    okx: bool
    broker: bool | None
    sessions: int
    push_age_s: float | None
    reconciled_age_s: float | None
    unroutable: int


@attrs.frozen
class PositionStatus:
    """Contracts: the sum of our fills, and what the exchange reports (None: nothing yet).

    ``matches`` is False when the exchange's position is not the sum of our fills.
    """

    ours: Decimal
    exchange: Decimal | None
    matches: bool
    upl_ratio: float | None
    mark_px: Decimal | None


@attrs.frozen
class OpenTrade:
    """The open trade; ``reward_so_far`` is its reward if it were closed with the PnL realised so far."""

    okx_id: str
    side: str
    size: Decimal
    entry_px: Decimal
    max_drawdown: float
    reward_so_far: float
    orders: int
    opened_ms: int


@attrs.frozen
class OpenOrder:
    """One open order; ``cancel`` is the state of its cancel request, ``none`` without one."""

    state_id: int
    okx_id: str | None
    cl_ord_id: str
    side: str
    ord_type: str
    px: Decimal | None
    sz: Decimal
    filled: Decimal
    state: str
    age_s: float
    cancel: str
    unknown: bool


@attrs.frozen
class OpenOrders:
    """Open orders, newest first; ``cancelling`` of them have a cancel request."""

    open: int
    unknown: int
    cancelling: int
    shown: tuple[OpenOrder, ...]


@attrs.frozen
class Controls:
    """The risk controls. Loss in USDT (below 0 is a gain); ``tripped`` counts by control."""

    paused: str | None
    paused_by: str | None
    flattening: bool
    lost_today: Decimal | None
    rejects_in_a_row: int
    limits: dict[str, str]
    tripped: dict[str, int]
    dead_man_s: float | None
    """Seconds until the exchange cancels our orders unless the timer is restarted; None: not armed."""


@attrs.frozen
class RecentEvent:
    """One of the latest executions, closures, rejections and alerts (``kind``)."""

    at_ns: int
    kind: str
    state_id: int | None
    okx_id: str | None
    text: str


@attrs.frozen
class Store:
    """The journal and the outbox."""

    seq: int
    outbox: int


@attrs.frozen
class ReplayProgress:
    """How far a replay of a recording is.

    ``speed`` is None when it runs as fast as it can; ``progress`` goes from 0 to 1.
    """

    title: str
    speed: float | None
    progress: float
    ended: bool


@attrs.frozen
class Status:
    """Everything, at ``at_ns`` of the service's clock, or of the recording's in a replay.

    ``reasons`` says which parts keep actions from being taken, and why; ``replay`` is None for a
    running service.
    """

    version: str
    instrument: str
    at_ns: int
    uptime_s: float
    ready: bool
    reasons: dict[str, str]
    connections: Connections
    balance: Decimal | None
    position: PositionStatus
    trade: OpenTrade | None
    orders: OpenOrders
    controls: Controls
    store: Store
    latencies: dict[str, LatencySummary]
    counts: dict[str, int]
    rejections: dict[str, int]
    """Rejected actions, by reason."""
    latest: tuple[RecentEvent, ...]
    can_control: bool
    replay: ReplayProgress | None = None

    @property
    def line(self) -> str:
        """The most important facts in one line."""
        if self.reasons:
            why = "; ".join(f"{who}: {why}" for who, why in self.reasons.items())
            head = f"not taking actions ({why})"
        elif self.controls.paused is not None:
            head = f"paused ({self.controls.paused})"
        else:
            head = "taking actions"
        return f"{head}; position {self.position.ours}, {self.orders.open} open orders"


encode_status = msgspec.json.Encoder().encode


def position_of(state: TradeState) -> PositionStatus:
    """Describe the position."""
    theirs = state.sync.exchange_pos
    return PositionStatus(
        ours=state.book.position,
        exchange=None if theirs is None else theirs.pos,
        matches=state.sync.position_matches,
        upl_ratio=None if theirs is None else theirs.upl_ratio,
        mark_px=state.risk.mark_px,
    )


def trade_of(trade: Trade | None, rules: Rules) -> OpenTrade | None:
    """Describe the open trade."""
    if trade is None:
        return None
    return OpenTrade(
        okx_id=trade.okx_id,
        side=trade.side.value,
        size=trade.size,
        entry_px=round(trade.entry_px, 4),
        max_drawdown=trade.max_drawdown,
        reward_so_far=trade.reward(rules),
        orders=len(trade.parts),
        opened_ms=trade.opened_ms,
    )


def orders_of(state: TradeState, now_ns: int) -> OpenOrders:
    """Count all open orders, and list the newest and the oldest."""
    every = list(state.orders)
    shown = every
    if len(every) > ORDERS_SHOWN:
        half = ORDERS_SHOWN // 2
        shown = every[:half] + every[-half:]
    return OpenOrders(
        open=len(every),
        unknown=sum(order.outcome_unknown for order in every),
        cancelling=sum(order.cancel_state is not CancelState.NONE for order in every),
        shown=tuple(_order(order, now_ns) for order in reversed(shown)),
    )


def _order(order: OrderInfo, now_ns: int) -> OpenOrder:
    return OpenOrder(
        state_id=order.state_id,
        okx_id=order.okx_order_id,
        cl_ord_id=order.cl_ord_id,
        side=order.side.value,
        ord_type=order.ord_type.value,
        px=order.price,
        sz=order.volume,
        filled=order.filled_size,
        state=order.order_state.value,
        age_s=round((now_ns - order.created_ns) / 1e9, 1),
        cancel=order.cancel_state.value,
        unknown=order.outcome_unknown,
    )


def controls_of(state: TradeState, dead_man_s: float | None) -> Controls:
    """Describe the risk controls."""
    risk, limits = state.risk, state.rules.limits
    lost = None
    if risk.day_began_with is not None and state.balance is not None:
        lost = risk.day_began_with - state.balance
    return Controls(
        paused=risk.paused,
        paused_by=None if risk.paused_by is None else risk.paused_by.value,
        flattening=risk.flattening,
        lost_today=lost,
        rejects_in_a_row=risk.rejects,
        limits={
            name: str(value) for name, value in attrs.asdict(limits).items() if value is not None
        },
        tripped={control.value: count for control, count in risk.acted.items()},
        dead_man_s=dead_man_s,
    )
