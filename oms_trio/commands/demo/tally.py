"""What happened in a demo, counted from both ends: at the service and at the agent."""

from __future__ import annotations

from collections import Counter, deque
from decimal import Decimal

import attrs
import msgspec

from oms_trio.core.effects import Effect, PlaceOrder
from oms_trio.core.orders import OrderInfo
from oms_trio.core.state import TradeState
from oms_trio.core.trade import Trade
from oms_trio.service.journaled_inputs import JournaledInput, Kind

LATEST = 8


@attrs.frozen
class ClosedTrade:
    """One closure as the agent read it."""

    okx_id: str
    portions: int
    reward: float


@attrs.define
class Tally:
    """Counts, and the newest values of what a screen shows."""

    actions: int = 0
    orders: int = 0
    executions: int = 0
    closed: list[ClosedTrade] = attrs.Factory(list)
    refused: Counter[str] = attrs.Factory(Counter)
    latest: deque[str] = attrs.Factory(lambda: deque(maxlen=LATEST))
    state: TradeState | None = None

    def observe(
        self, arrival: JournaledInput, effects: tuple[Effect, ...], state: TradeState
    ) -> None:
        """Watch the service from inside; it is given every input and what it caused."""
        self.state = state
        self.actions += arrival.kind is Kind.ACTION
        self.orders += sum(isinstance(effect, PlaceOrder) for effect in effects)

    def read(self, body: bytes) -> None:
        """Read one message as the agent does."""
        told = msgspec.json.decode(body)
        self.latest.append(body.decode())
        if "reason" in told:
            self.refused[told["reason"]] += 1
        elif told["is_trade_closed"]:
            trade = ClosedTrade(told["okx_id"], len(told["filled_portions"]), told["reward"])
            self.closed.append(trade)
        else:
            self.executions += 1

    @property
    def settled(self) -> int:
        """Actions whose fate is known at the agent or on the exchange."""
        return self.orders + self.refused.total()

    @property
    def heard(self) -> int:
        """How many messages the agent got."""
        return self.executions + len(self.closed) + self.refused.total()

    @property
    def reward(self) -> float:
        """The sum of all rewards so far."""
        return sum(trade.reward for trade in self.closed)

    @property
    def position(self) -> Decimal:
        """The signed net position by our own fills, in contracts."""
        return Decimal(0) if self.state is None else self.state.book.position

    @property
    def trade(self) -> Trade | None:
        """The open trade."""
        return None if self.state is None else self.state.book.trade

    @property
    def open_orders(self) -> list[OrderInfo]:
        """Open orders, oldest first."""
        return [] if self.state is None else list(self.state.orders)
