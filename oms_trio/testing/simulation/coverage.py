"""Which state the service was in at each fault: without that, "no failure" proves little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from oms_trio.core.model import CancelState, OrderState
from oms_trio.core.state import TradeState

DOWN: Final = "no process"
IDLE: Final = "idle"

CONDITIONS: Final[Mapping[str, Callable[[TradeState], bool]]] = {
    "awaiting ack": lambda state: any(order.awaiting_ack for order in state.orders),
    "outcome unknown": lambda state: any(
        order.outcome_unknown or order.verify_before_send for order in state.orders
    ),
    "resting": lambda state: any(order.order_state is OrderState.LIVE for order in state.orders),
    "partly filled": lambda state: any(
        order.order_state is OrderState.PARTIALLY_FILLED for order in state.orders
    ),
    "cancelling": lambda state: any(
        order.cancel_state is CancelState.REQUESTED and not order.ended for order in state.orders
    ),
    "fill missing": lambda state: bool(state.orders.waiting),
    "trade open": lambda state: state.book.trade is not None,
    "no session": lambda state: not state.sync.has_session,
    "reconciling": lambda state: state.sync.has_session and not state.sync.snapshot_applied,
    "position differs": lambda state: (
        state.sync.snapshot_applied and state.sync.differs_since_ns is not None
    ),
    "stopping": lambda state: state.draining,
}
"""What the service may be in the middle of, by name; several can hold at once."""

COLUMNS: Final = (IDLE, *CONDITIONS, DOWN)

Coverage = Counter[tuple[str, str]]
"""By names of a fault and of a state: how often the fault came in that state."""


def conditions(state: TradeState | None) -> tuple[str, ...]:
    """Return the names of all conditions that hold now."""
    if state is None:
        return (DOWN,)
    return tuple(name for name, holds in CONDITIONS.items() if holds(state)) or (IDLE,)
