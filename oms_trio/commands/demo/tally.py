"""What happens in a demo, counted at the service and at the agent."""

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
    """One closure as the agent received it."""

    okx_id: str
    portions: int
    reward: float


@attrs.define
class Tally:
    """Counts, and the latest values for the screen."""

    actions: int = 0
    orders: int = 0
    executions: int = 0
    closed: list[ClosedTrade] = attrs.Factory(list)
    rejected: Counter[str] = attrs.Factory(Counter)
    latest: deque[str] = attrs.Factory(lambda: deque(maxlen=LATEST))
    state: TradeState | None = None

    def observe(
        self, arrival: JournaledInput, effects: tuple[Effect, ...], state: TradeState
    ) -> None:
        """Count an input and its effects (``tasks.trade_state.Observer``)."""
        self.state = state
        self.actions += arrival.kind is Kind.ACTION
        self.orders += sum(isinstance(effect, PlaceOrder) for effect in effects)

    def read(self, body: bytes) -> None:
        """Count one message to the agent."""
        message = msgspec.json.decode(body)
        self.latest.append(body.decode())
        if "reason" in message:
            self.rejected[message["reason"]] += 1
        elif message["is_trade_closed"]:
            trade = ClosedTrade(
                message["okx_id"], len(message["filled_portions"]), message["reward"]
            )
            self.closed.append(trade)
        else:
            self.executions += 1

    @property
    def settled(self) -> int:
        """Actions that have become an order or a rejection."""
        return self.orders + self.rejected.total()

    @property
    def messages(self) -> int:
        """Messages that the agent has received."""
        return self.executions + len(self.closed) + self.rejected.total()

    @property
    def reward(self) -> float:
        """The sum of all rewards so far."""
        return sum(trade.reward for trade in self.closed)

    @property
    def position(self) -> Decimal:
        """The signed net position of our fills, in contracts."""
        return Decimal(0) if self.state is None else self.state.book.position

    @property
    def trade(self) -> Trade | None:
        """The open trade."""
        return None if self.state is None else self.state.book.trade

    @property
    def open_orders(self) -> list[OrderInfo]:
        """Open orders, oldest first."""
        return [] if self.state is None else list(self.state.orders)
