"""Fault plans: from one seed, the same faults at the same times, every time."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import attrs
import trio

from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults.catalog import FAULT_SPECS, inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind

ON_REQUEST = frozenset(
    {
        FaultKind.ADL,
        FaultKind.LIQUIDATION,
        FaultKind.PARTIAL_LIQUIDATION,
        FaultKind.FUNDING,
        FaultKind.MARKET_MOVE,
        FaultKind.EXTERNAL_ORDER,
        FaultKind.EXTERNAL_AMEND,
        FaultKind.EXTERNAL_CANCEL,
        FaultKind.INSTRUMENT,
    }
)
"""Kinds that change what the account holds or trades: only plans that name them have them."""


def even_rates(per_minute: float) -> dict[FaultKind, float]:
    """Return equal rates for every kind but ``ON_REQUEST``, with the sum ``per_minute``."""
    kinds = [kind for kind in FaultKind if kind not in ON_REQUEST]
    return dict.fromkeys(kinds, per_minute / len(kinds))


@attrs.frozen
class FaultPlan:
    """How often each kind happens (``rates``, per minute) within a window of seconds.

    Every kind has a random generator of its own: adding a kind to a plan leaves the times of the
    others as they were.
    """

    seed: int
    rates: Mapping[FaultKind, float]
    window_s: float
    start_s: float = 0.0

    def events(self) -> list[FaultEvent]:
        """Return every event, earliest first."""
        drawn = [event for kind in self.rates for event in self._of(kind)]
        return sorted(drawn, key=lambda event: (event.at_s, event.kind))

    def __str__(self) -> str:
        """Return the plan as a table, one event a line."""
        return "\n".join([f"fault plan, seed {self.seed}", *map(str, self.events())])

    def _of(self, kind: FaultKind) -> list[FaultEvent]:
        spec, rate = FAULT_SPECS[kind], self.rates[kind]
        random = Random(f"{self.seed} {kind.value}")  # noqa: S311 - a plan must be repeatable
        drawn: list[FaultEvent] = []
        at_s = self.start_s
        while rate > 0:
            at_s += 60 * random.expovariate(1.0) / rate
            if at_s >= self.start_s + self.window_s:
                break
            drawn.append(
                FaultEvent(
                    kind,
                    at_s=round(at_s, 3),
                    times=random.randint(*spec.times),
                    duration_s=round(random.uniform(*spec.duration_s), 3),
                    delay_s=round(random.uniform(*spec.delay_s), 3),
                    code=random.choice(spec.codes),
                )
            )
        return drawn


async def run_plan(exchange: SimulatedExchange, plan: FaultPlan) -> None:
    """Inject the faults of a plan, from now on; ends after its last event, or by cancellation."""
    started = trio.current_time()
    for event in plan.events():
        await trio.sleep_until(started + event.at_s)
        inject(exchange, event)
