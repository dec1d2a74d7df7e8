"""The demo's agent: it acts and listens like a learning one, but its actions are random."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import attrs

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType

ACTS = 0.5
"""The probability of an action in a step."""

MARKET_ORDERS = 0.25
CLOSES = 0.7
"""The probability that an action reduces the position, so that trades are closed."""


@attrs.define
class DemoAgent:
    """Draws actions from its own random numbers, at the present price."""

    random: Random
    state_id: int = 0

    def act(self, mid: Decimal, position: Decimal) -> bytes | None:
        """Return the next action as bytes, or None for a step without an action."""
        if self.random.random() >= ACTS:
            return None
        self.state_id += 1
        side = self.random.choice((-1, 1))
        if position and self.random.random() < CLOSES:
            side = -1 if position < 0 else 1
        market = self.random.random() < MARKET_ORDERS
        offset = self.random.uniform(0.001, 0.25)
        return encode_action(
            self.state_id,
            OrderType.MARKET if market else OrderType.LIMIT,
            side * offset,
            self.random.uniform(0.2, 3.0),
            mid,
        )
