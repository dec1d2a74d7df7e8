"""An agent that publishes random actions, and sometimes what no agent should publish."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Final

import attrs
import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType
from oms_trio.testing.simulation.world import SimulatedWorld

CLOSES: Final = 0.55
"""The chance that an action reduces the position, so that trades come to an end."""

EMPTY: Final = 0.06
"""The chance that an action has no volume: all that comes of it is a rejection."""

ODDITY: Final = 0.08
"""The chance that what is published is not a new, sensible action."""

RESTARTS: Final = 0.01
"""The chance at each action that a forgetful agent restarts first."""

WRONG_MIDS: Final = (0.2, 0.7, 0.97, 1.03, 1.5)
"""Mid prices, as fractions of the true one, of an agent with stale or foreign market data."""

CROWD_S: Final = (0.05, 0.02)
"""The pause between the orders of a crowd: at the exchange's rate limit, and above it, so that some
orders have to wait."""

SMALL: Final = 0.012
"""The volume of an order in a crowd: hundreds of them are within the cap."""

CROWD: Final = (150, 330)
"""How many orders a crowd has: some less than may be open, and more."""


@attrs.frozen
class PublishedAction:
    """One message as the agent published it."""

    body: bytes
    state_id: int | None
    """None when the bytes are not a valid action."""
    message_id: str | None
    at: float = 0.0
    """Virtual time in seconds."""


@attrs.define
class RandomAgent:
    """Draws actions from its own generator and keeps all that it has published."""

    world: SimulatedWorld
    random: Random
    published: list[PublishedAction] = attrs.Factory(list)
    _state_id: int = 0
    _names: int = 0

    def __attrs_post_init__(self) -> None:
        """Let faults request bursts."""
        self.world.burst = self.burst

    def burst(self, count: int) -> None:
        """Publish many small actions at once, more than the exchange's rate limit admits."""
        for _ in range(count):
            self._publish(self._new(offset=self.random.uniform(0.5, 0.99), volume=SMALL))

    async def run(self) -> None:
        """Publish actions in one mood after the other; ends by cancellation only."""
        random = self.random
        while True:
            mean_s, lasting_s = random.choice(self.world.workload.moods)
            if self.world.settings.crowds and random.random() < self.world.workload.crowds:
                await self._crowd()
            end = trio.current_time() + random.expovariate(1 / lasting_s)
            while True:
                pause = random.expovariate(1 / mean_s)
                if trio.current_time() + pause > end:
                    break
                await trio.sleep(pause)
                self.publish_next()
            await trio.sleep(max(0.0, end - trio.current_time()))

    async def _crowd(self) -> None:
        """Publish many small orders that rest for a while, on both sides."""
        random = self.random
        pause_s = random.choice(CROWD_S)
        for _ in range(random.randint(*CROWD)):
            self._publish(self._new(offset=random.uniform(0.5, 0.99), volume=SMALL))
            await trio.sleep(pause_s)

    def publish_next(self) -> None:
        """Publish a new action, or with a small chance an oddity."""
        random = self.random
        if self.world.settings.forgetful and random.random() < RESTARTS:
            self._state_id = 0
        if random.random() < ODDITY:
            random.choice(self._oddities)()
        else:
            self._publish(self._new())

    # What no agent should publish.

    @property
    def _oddities(self) -> tuple[Callable[[], None], ...]:
        return (
            self._garbage,
            self._garbage,
            self._saturated,
            self._twice,
            self._much_later,
            self._same_bytes,
            self._wrong_mid,
            self._odd_name,
        )

    def _garbage(self) -> None:
        self._publish(
            PublishedAction(self.random.randbytes(self.random.choice((0, 24, 26, 40))), None, None)
        )

    def _saturated(self) -> None:
        """Encode a price of exactly -1 or +1 as an encoder does that computes in doubles."""
        body = bytearray(self._new().body)
        body[5:13] = (1 << 63).to_bytes(8, "little")
        self._publish(PublishedAction(bytes(body), None, None))

    def _twice(self) -> None:
        """Publish the last action again, as after a missing confirm."""
        again = next((one for one in reversed(self.published) if one.message_id), None)
        if again is not None:
            self._publish(again)

    def _much_later(self) -> None:
        """Publish any earlier action again, with the same ``message_id``."""
        known = [one for one in self.published if one.message_id]
        if known:
            self._publish(self.random.choice(known))

    def _same_bytes(self) -> None:
        """Publish equal bytes with another ``message_id``: that is another action."""
        known = [one for one in self.published if one.message_id and one.state_id is not None]
        if known:
            self._publish(attrs.evolve(self.random.choice(known), message_id=self._name()))

    def _wrong_mid(self) -> None:
        self._publish(self._new(mid_part=self.random.choice(WRONG_MIDS)))

    def _odd_name(self) -> None:
        """Use a ``message_id`` that is long, not ASCII, or has spaces."""
        name = self.random.choice(("\u00e9t\u00e9", "x" * 255, "a b\tc", "{}", "0"))
        self._publish(attrs.evolve(self._new(), message_id=f"{name}{self._name()}"[-255:]))

    # Usual actions.

    def _name(self) -> str:
        self._names += 1
        return f"m{self._names}"

    def _new(
        self, *, offset: float | None = None, volume: float | None = None, mid_part: float = 1.0
    ) -> PublishedAction:
        random, exchange = self.random, self.world.exchange
        self._state_id += 1
        position = exchange.engine.ledger.pos
        side = random.choice((-1, 1))
        if offset is None and position and random.random() < CLOSES:
            side = -1 if position < 0 else 1
        market = offset is None and random.random() < 0.3
        if volume is None:
            volume = 0.0 if random.random() < EMPTY else random.uniform(0.05, 3.0)
        bid = exchange.engine.market.bid + Decimal("0.05")
        mid = (bid * Decimal(str(mid_part))).quantize(Decimal("0.01"))
        body = encode_action(
            self._state_id,
            OrderType.MARKET if market else OrderType.LIMIT,
            side * (random.uniform(0.0, 0.15) if offset is None else offset),
            volume,
            mid,
        )
        named = random.random() < 0.6
        return PublishedAction(body, self._state_id, self._name() if named else None)

    def _publish(self, action: PublishedAction) -> None:
        action = attrs.evolve(action, at=trio.current_time())
        self.published.append(action)
        if action.state_id is not None:
            self.world.monitor.published_at[action.state_id] = action.at
        self.world.broker.publish_action(action.body, action.message_id)
