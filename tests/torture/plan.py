"""What a run does, drawn from its seed: actions, kills, and faults at the broker.

Equal seeds give equal plans; how the processes interleave depends on the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from random import Random

import attrs

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType
from tests.torture.victim import POINTS

RANDOM = "random"
"""A kill at any instant, from outside."""

REPEAT_AFTER_S = 20.0
"""Equal bytes without a ``message_id`` are a new action only when they come later than any redelivery
of the first can: agents that repeat themselves faster must set a ``message_id``."""


@attrs.frozen
class PlannedAction:
    """One message of the agent, ``gap_s`` after the one before.

    ``copies`` of it are published, with the same ``message_id``: they are one action.
    ``price_key`` tells orders of actions with the same state id apart: 0 for a market order.
    """

    gap_s: float
    body: bytes
    message_id: str | None
    copies: int
    malformed: bool
    state_id: int
    side: str
    offset: Decimal
    mid: Decimal
    market: bool


@attrs.frozen
class PlannedKill:
    """How one process ends: at its nth arrival at a point, or after some seconds."""

    point: str
    nth: int
    after_s: float


@attrs.frozen
class TorturePlan:
    """Everything that is decided before a run starts."""

    seed: int
    kills: tuple[PlannedKill, ...]
    broker_kill_at: int | None
    """Before which kill the broker is killed; None: it is not."""
    exchange_faults: bool = True

    @classmethod
    def draw(cls, seed: int, kills: int, *, broker_kill: bool = True) -> TorturePlan:
        """Draw a plan in which no point comes twice before every point has come once."""
        random = Random(f"kills {seed}")
        points: list[str] = []
        while len(points) < kills:
            points += random.sample(list(POINTS), len(POINTS))
            points += [RANDOM] * (len(POINTS) // 3)
        drawn = [
            PlannedKill(
                point,
                random.randint(1, POINTS[point][1]) if point in POINTS else 0,
                random.uniform(0.2, 3.0),
            )
            for point in random.sample(points[:kills], kills)
        ]
        return cls(seed, tuple(drawn), random.randrange(kills) if broker_kill else None)

    def cuts(self) -> Iterator[float]:
        """Yield the seconds between cuts of the service's connections to the broker."""
        random = Random(f"cuts {self.seed}")
        while True:
            yield random.uniform(1.0, 6.0)

    def actions(self) -> Iterator[PlannedAction]:
        """Yield actions without end."""
        random = Random(f"actions {self.seed}")
        state_id = 0
        now_s = 0.0
        repeatable: list[tuple[float, PlannedAction]] = []
        while True:
            gap_s = random.choice([0.0, 0.0, 0.02, 0.1, 0.25])
            now_s += gap_s
            state_id += 1
            if random.random() < 0.03 and repeatable and repeatable[0][0] + REPEAT_AFTER_S < now_s:
                yield attrs.evolve(repeatable.pop(0)[1], gap_s=gap_s)
                continue
            if random.random() < 0.05:
                yield _malformed(random, gap_s, state_id)
                continue
            # Agents restart and count their states from 1 again.
            repeats_state = state_id > 1 and random.random() < 0.05
            action = _action(
                random, gap_s, random.randrange(1, state_id) if repeats_state else state_id
            )
            if action.message_id is None:
                repeatable.append((now_s, action))
            yield action


def _action(random: Random, gap_s: float, state_id: int) -> PlannedAction:
    market = random.random() < 0.3
    price = random.uniform(-0.4, 0.4)
    mid = Decimal(6_700_000 + random.randint(-1500, 1500)) / 100
    # About 0.2 to 2 contracts; now and then nothing, or more than the cap allows.
    volume = random.choices([random.uniform(0.1, 1.3), 0.0, 8.0], [0.95, 0.02, 0.03])[0]
    named = random.random() < 0.5
    kind = OrderType.MARKET if market else OrderType.LIMIT
    return PlannedAction(
        gap_s=gap_s,
        body=encode_action(state_id, kind, price, volume, mid),
        message_id=f"m{state_id}.{random.getrandbits(48):x}" if named else None,
        copies=2 if named and random.random() < 0.1 else 1,
        malformed=False,
        state_id=state_id,
        side="buy" if price < 0 else "sell",
        offset=Decimal(price),
        mid=mid,
        market=market,
    )


def _malformed(random: Random, gap_s: float, state_id: int) -> PlannedAction:
    good = _action(random, gap_s, state_id)
    body = bytearray(good.body)
    match random.randrange(3):
        case 0:
            body[4] = 5
        case 1:
            body[21:25] = bytes(4)
        case _:
            body += random.randbytes(random.randint(1, 40))
    return attrs.evolve(good, body=bytes(body), copies=1, malformed=True)
