"""Faults by plan: from a seed, the same strikes at the same times, every time."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import attrs
import trio

from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.faults.catalog import MENU, strike
from oms_trio.testing.okx_server.faults.specs import Kind, Strike

ON_REQUEST = frozenset(
    {
        *(Kind.ADL, Kind.LIQUIDATION, Kind.PARTIAL_LIQUIDATION, Kind.FUNDING, Kind.MARKET_MOVE),
        *(Kind.HAND_ORDER, Kind.HAND_AMEND, Kind.HAND_CANCEL, Kind.INSTRUMENT),
    }
)
"""Only in plans that name them: they change what the account holds, or what it trades."""


def evenly(per_minute: float) -> dict[Kind, float]:
    """Return rates that sum up to ``per_minute``, the same for every kind but ``ON_REQUEST``."""
    kinds = [kind for kind in Kind if kind not in ON_REQUEST]
    return dict.fromkeys(kinds, per_minute / len(kinds))


@attrs.frozen
class FaultPlan:
    """Which faults come how often (``rates``, per minute), in a window of seconds.

    Every kind has a generator of its own, so a plan with one kind more strikes the others at the
    same times as before.
    """

    seed: int
    rates: Mapping[Kind, float]
    window_s: float
    start_s: float = 0.0

    def strikes(self) -> list[Strike]:
        """Return every strike, earliest first."""
        drawn = [each for kind in self.rates for each in self._of(kind)]
        return sorted(drawn, key=lambda each: (each.at_s, each.kind))

    def __str__(self) -> str:
        """Write the plan as a table that tells all it will do."""
        return "\n".join([f"fault plan, seed {self.seed}", *map(str, self.strikes())])

    def _of(self, kind: Kind) -> list[Strike]:
        dish, rate = MENU[kind], self.rates[kind]
        chance = Random(f"{self.seed} {kind.value}")  # noqa: S311 - a plan must be repeatable
        drawn: list[Strike] = []
        at_s = self.start_s
        while rate > 0:
            at_s += 60 * chance.expovariate(1.0) / rate
            if at_s >= self.start_s + self.window_s:
                break
            drawn.append(
                Strike(
                    kind,
                    at_s=round(at_s, 3),
                    times=chance.randint(*dish.times),
                    lasts_s=round(chance.uniform(*dish.lasts_s), 3),
                    delay_s=round(chance.uniform(*dish.delay_s), 3),
                    code=chance.choice(dish.codes),
                )
            )
        return drawn


async def play(exchange: Exchange, plan: FaultPlan) -> None:
    """Strike by the plan, from now on; ends with its last strike, or by cancellation."""
    began = trio.current_time()
    for each in plan.strikes():
        await trio.sleep_until(began + each.at_s)
        strike(exchange, each)
