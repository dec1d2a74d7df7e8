"""An agent that acts in moods, and now and then as no agent should."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Final

import attrs
import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType
from oms_trio.testing.simulation.world import World

CLOSES: Final = 0.55
"""The chance that an action goes against the position, so that trades come to an end."""

REFUSED: Final = 0.06
"""The chance that an action asks for nothing: a refusal is all that ever tells of it."""

ODDITY: Final = 0.08
"""The chance that what is published is no new, sensible action."""

RESTARTS: Final = 0.01
"""The chance at each action that a forgetful agent has just restarted."""

WRONG_MIDS: Final = (0.2, 0.7, 0.97, 1.03, 1.5)
"""Mid prices as parts of the true one, from agents whose market data is stale or of another market."""

CROWD_S: Final = (0.05, 0.02)
"""The pause between small orders of a crowd: as many as the exchange's limit lets through, and more,
so that some have to wait to be sent."""

SMALL: Final = 0.012
"""The volume of orders of which hundreds fit under the cap."""

CROWD: Final = (150, 330)
"""How many orders make a crowd: up to the limit of open ones, and beyond."""


@attrs.frozen
class Act:
    """One action as the agent published it."""

    body: bytes
    state_id: int | None
    """None for bytes that are no action."""
    message_id: str | None
    at: float = 0.0
    """When, in virtual time."""


@attrs.define
class Agent:
    """Draws actions from its own randomness, and remembers all of them."""

    world: World
    random: Random
    acts: list[Act] = attrs.Factory(list)
    _count: int = 0
    _named: int = 0

    def __attrs_post_init__(self) -> None:
        """Let the world ask for more than it does by itself."""
        self.world.burst = self.burst

    def burst(self, count: int) -> None:
        """Take many small actions at once: more than the exchange's limit lets through."""
        for _ in range(count):
            self._publish(self._new(offset=self.random.uniform(0.5, 0.99), volume=SMALL))

    async def run(self) -> None:
        """Act for ever, mood after mood; ends by cancellation only."""
        random = self.random
        while True:
            mean_s, lasting_s = random.choice(self.world.pace.moods)
            if self.world.setting.crowds and random.random() < self.world.pace.crowds:
                await self._crowd()
            end = trio.current_time() + random.expovariate(1 / lasting_s)
            while True:
                pause = random.expovariate(1 / mean_s)
                if trio.current_time() + pause > end:
                    break
                await trio.sleep(pause)
                self.act()
            await trio.sleep(max(0.0, end - trio.current_time()))

    async def _crowd(self) -> None:
        """Fill the book with small orders that rest for a while, on both sides."""
        random = self.random
        pause_s = random.choice(CROWD_S)
        for _ in range(random.randint(*CROWD)):
            self._publish(self._new(offset=random.uniform(0.5, 0.99), volume=SMALL))
            await trio.sleep(pause_s)

    def act(self) -> None:
        """Publish one action, or something that is none, or something twice."""
        random = self.random
        if self.world.setting.forgetful and random.random() < RESTARTS:
            self._count = 0
        if random.random() < ODDITY:
            random.choice(self._oddities)()
        else:
            self._publish(self._new())

    # What no agent should do.

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
        self._publish(Act(self.random.randbytes(self.random.choice((0, 24, 26, 40))), None, None))

    def _saturated(self) -> None:
        """Want a price of exactly -1 or +1, as an encoder in doubles writes it."""
        body = bytearray(self._new().body)
        body[5:13] = (1 << 63).to_bytes(8, "little")
        self._publish(Act(bytes(body), None, None))

    def _twice(self) -> None:
        """Publish once more, because the confirm did not come."""
        again = next((act for act in reversed(self.acts) if act.message_id), None)
        if again is not None:
            self._publish(again)

    def _much_later(self) -> None:
        """Publish something from long ago once more, by the same id."""
        known = [act for act in self.acts if act.message_id]
        if known:
            self._publish(self.random.choice(known))

    def _same_bytes(self) -> None:
        """Act once more in the same state in the same way: another id is another action."""
        known = [act for act in self.acts if act.message_id and act.state_id is not None]
        if known:
            self._publish(attrs.evolve(self.random.choice(known), message_id=self._name()))

    def _wrong_mid(self) -> None:
        self._publish(self._new(mid_part=self.random.choice(WRONG_MIDS)))

    def _odd_name(self) -> None:
        """Use a message id as other software does: long, not of ASCII, with spaces."""
        name = self.random.choice(("\u00e9t\u00e9", "x" * 255, "a b\tc", "{}", "0"))
        self._publish(attrs.evolve(self._new(), message_id=f"{name}{self._name()}"[-255:]))

    # What it does.

    def _name(self) -> str:
        self._named += 1
        return f"m{self._named}"

    def _new(
        self, *, offset: float | None = None, volume: float | None = None, mid_part: float = 1.0
    ) -> Act:
        random, exchange = self.random, self.world.exchange
        self._count += 1
        position = exchange.engine.ledger.pos
        side = random.choice((-1, 1))
        if offset is None and position and random.random() < CLOSES:
            side = -1 if position < 0 else 1
        market = offset is None and random.random() < 0.3
        if volume is None:
            volume = 0.0 if random.random() < REFUSED else random.uniform(0.05, 3.0)
        bid = exchange.engine.market.bid + Decimal("0.05")
        mid = (bid * Decimal(str(mid_part))).quantize(Decimal("0.01"))
        body = encode_action(
            self._count,
            OrderType.MARKET if market else OrderType.LIMIT,
            side * (random.uniform(0.0, 0.15) if offset is None else offset),
            volume,
            mid,
        )
        named = random.random() < 0.6
        return Act(body, self._count, self._name() if named else None)

    def _publish(self, act: Act) -> None:
        act = attrs.evolve(act, at=trio.current_time())
        self.acts.append(act)
        if act.state_id is not None:
            self.world.monitor.published_at[act.state_id] = act.at
        self.world.broker.publish_action(act.body, act.message_id)
