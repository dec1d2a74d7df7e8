"""An agent that acts in moods, and now and then as no agent should."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Final

import attrs
import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType
from oms_trio.simulation.world import World

CLOSES: Final = 0.55
"""The chance that an action goes against the position, so that trades come to an end."""

REFUSED: Final = 0.06
"""The chance that an action asks for nothing: a refusal is all that ever tells of it."""


@attrs.frozen
class Act:
    """One action as the agent published it."""

    body: bytes
    state_id: int | None
    """None for bytes that are no action."""
    message_id: str | None


@attrs.define
class Agent:
    """Draws actions from its own randomness, and remembers all of them."""

    world: World
    random: Random
    acts: list[Act] = attrs.Factory(list)
    _count: int = 0

    async def run(self) -> None:
        """Act for ever, mood after mood; ends by cancellation only."""
        random = self.random
        while True:
            mean_s, lasting_s = random.choice(self.world.pace.moods)
            end = trio.current_time() + random.expovariate(1 / lasting_s)
            while True:
                pause = random.expovariate(1 / mean_s)
                if trio.current_time() + pause > end:
                    break
                await trio.sleep(pause)
                self.act()
            await trio.sleep(max(0.0, end - trio.current_time()))

    def act(self) -> None:
        """Publish one action, or something that is none, or something twice."""
        random = self.random
        chance = random.random()
        if chance < 0.02:
            self._publish(Act(random.randbytes(random.choice((0, 24, 26, 40))), None, None))
            return
        if chance < 0.03 and self.acts:
            # The producer did not see its confirm and publishes once more.
            again = next((act for act in reversed(self.acts) if act.message_id), None)
            if again is not None:
                self._publish(again)
                return
        act = self._new()
        self._publish(act)

    def _new(self) -> Act:
        random, exchange = self.random, self.world.exchange
        self._count += 1
        position = exchange.engine.ledger.pos
        side = random.choice((-1, 1))
        if position and random.random() < CLOSES:
            side = -1 if position < 0 else 1
        market = random.random() < 0.3
        volume = 0.0 if random.random() < REFUSED else random.uniform(0.05, 3.0)
        mid = (exchange.engine.market.bid + Decimal("0.05")).quantize(Decimal("0.01"))
        body = encode_action(
            self._count,
            OrderType.MARKET if market else OrderType.LIMIT,
            side * random.uniform(0.0, 0.15),
            volume,
            mid,
        )
        named = random.random() < 0.6
        return Act(body, self._count, f"m{self._count}" if named else None)

    def _publish(self, act: Act) -> None:
        self.acts.append(act)
        self.world.broker.publish_action(act.body, act.message_id)
