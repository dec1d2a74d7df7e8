"""What the service is doing, as one value: for the terminal, the page and the gauges."""

from __future__ import annotations

from decimal import Decimal

import attrs
import msgspec

from oms_trio.core.model import CancelState, Rules
from oms_trio.core.orders import OrderInfo
from oms_trio.core.state import TradeState
from oms_trio.core.trade import Trade
from oms_trio.ops.latency import Spread

ORDERS_SHOWN = 40
"""The newest and the oldest open orders; of 300 nobody reads more, and building them takes time."""


@attrs.frozen
class Links:
    """The connections. Ages in seconds, None when there was none yet.

    ``broker`` is None where there is none to be connected to. ``unroutable`` counts messages that
    no queue has taken: whom they were for has not bound one.
    """

    okx: bool
    broker: bool | None
    sessions: int
    push_age_s: float | None
    reconciled_age_s: float | None
    unroutable: int


@attrs.frozen
class Position:
    """Contracts: what our fills explain, and what the exchange says (None: not asked yet)."""

    ours: Decimal
    exchange: Decimal | None
    explained: bool
    upl_ratio: float | None
    mark_px: Decimal | None


@attrs.frozen
class OpenTrade:
    """The trade that is open; ``reward_so_far`` is what it would bring if it ended as it is."""

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
    """One open order; ``cancel`` says what became of the wish to cancel it."""

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
class Orders:
    """Open orders, newest first; ``old`` of them are to be cancelled."""

    open: int
    unknown: int
    old: int
    shown: tuple[OpenOrder, ...]


@attrs.frozen
class Controls:
    """The risk controls. Loss in USDT (below 0 is a gain), ``acted`` counts by control."""

    paused: str | None
    paused_by: str | None
    flattening: bool
    lost_today: Decimal | None
    rejects_in_a_row: int
    limits: dict[str, str]
    acted: dict[str, int]
    dead_man_s: float | None
    """Seconds until the exchange cancels our orders unless told otherwise; None when not armed."""


@attrs.frozen
class Event:
    """Something that happened lately: an execution, closure, refusal or alert."""

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
class Replay:
    """What is shown is a recording that is played again; ``speed`` is None when it does not wait.

    ``progress`` goes from 0 to 1.
    """

    title: str
    speed: float | None
    progress: float
    ended: bool


@attrs.frozen
class Status:
    """Everything, at ``at_ns`` of the clock that is the service's, or a recording's.

    ``reasons`` says who keeps actions from being taken, and why; ``replay`` is None while it is all
    real.
    """

    version: str
    instrument: str
    at_ns: int
    uptime_s: float
    ready: bool
    reasons: dict[str, str]
    links: Links
    balance: Decimal | None
    position: Position
    trade: OpenTrade | None
    orders: Orders
    controls: Controls
    store: Store
    latencies: dict[str, Spread]
    counts: dict[str, int]
    refusals: dict[str, int]
    """Actions without an order, by reason."""
    latest: tuple[Event, ...]
    can_control: bool
    replay: Replay | None = None

    @property
    def line(self) -> str:
        """One line: what is most worth knowing."""
        if self.reasons:
            why = "; ".join(f"{who}: {why}" for who, why in self.reasons.items())
            head = f"not taking actions ({why})"
        elif self.controls.paused is not None:
            head = f"paused ({self.controls.paused})"
        else:
            head = "taking actions"
        return f"{head}; position {self.position.ours}, {self.orders.open} open orders"


encode_status = msgspec.json.Encoder().encode


def position_of(state: TradeState) -> Position:
    """Say what is held."""
    told = state.sync.exchange_pos
    return Position(
        ours=state.book.position,
        exchange=None if told is None else told.pos,
        explained=state.sync.position_matches,
        upl_ratio=None if told is None else told.upl_ratio,
        mark_px=state.risk.mark_px,
    )


def trade_of(trade: Trade | None, rules: Rules) -> OpenTrade | None:
    """Say what trade is open."""
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


def orders_of(state: TradeState, now_ns: int) -> Orders:
    """Say what is open: all in numbers, the newest and the oldest one by one."""
    every = list(state.orders)
    shown = every
    if len(every) > ORDERS_SHOWN:
        half = ORDERS_SHOWN // 2
        shown = every[:half] + every[-half:]
    return Orders(
        open=len(every),
        unknown=sum(order.outcome_unknown for order in every),
        old=sum(order.cancel_state is not CancelState.NONE for order in every),
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
    """Say what the risk controls allow and remember."""
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
        acted={control.value: count for control, count in risk.acted.items()},
        dead_man_s=dead_man_s,
    )
