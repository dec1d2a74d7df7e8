"""All kinds of faults, and the loop that injects them, each at a chosen moment of the service.

A fault at a random time nearly always meets an idle service. So most faults wait for a condition (an
order without its ack, a fill missing, ...) and happen as soon as it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import attrs
import trio

from oms_trio.testing.okx_server.faults.switches import FaultSwitches
from oms_trio.testing.simulation.coverage import CONDITIONS, Coverage, conditions
from oms_trio.testing.simulation.faults import account, exchange, links, machine
from oms_trio.testing.simulation.faults.kind import FaultKind
from oms_trio.testing.simulation.faults.machine import DECISIONS
from oms_trio.testing.simulation.world import SimulatedWorld

CATALOG: Final[dict[str, FaultKind]] = {
    **links.FAULT_KINDS,
    **exchange.FAULT_KINDS,
    **account.FAULT_KINDS,
    **machine.FAULT_KINDS,
}

RARELY: Final = 0.1
"""The chance that a rare kind happens when it is drawn."""


async def inject_faults(world: SimulatedWorld, coverage: Coverage, random: Random) -> None:
    """Let faults happen; ends by cancellation only, and then switches all of them off.

    A run has all kinds of faults, or some, or very few: what takes several faults of one kind in a
    row would hardly ever happen if each were one of many.
    """
    kinds = random.sample(list(CATALOG), random.choice((4, 12, len(CATALOG))))
    try:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(random.expovariate(1 / world.workload.fault_every_s))
                name = random.choice(kinds)
                if CATALOG[name].rare and random.random() >= RARELY:
                    continue
                with trio.move_on_after(world.workload.patience_s):
                    await _wait_for_moment(world, random)
                for condition in conditions(world.state):
                    coverage[name, condition] += 1
                nursery.start_soon(CATALOG[name].happen, world, random)
    finally:
        switch_off(world)


_PROVOCATIONS: Final[dict[str, Callable[[SimulatedWorld, Random], object]]] = {
    "fill missing": lambda world, random: world.market.open_gap(random),
    "no session": lambda world, _: world.exchange.faults.cut(),
    "reconciling": lambda world, _: world.exchange.faults.cut(),
    "stopping": lambda world, _: world.stop(),
}
"""How to cause states that last milliseconds, and that waiting alone would hardly ever meet."""


async def _wait_for_moment(world: SimulatedWorld, random: Random) -> None:
    """Wait for a decision of the service, or for a state in which something is under way, or not at all.

    Decisions are over in milliseconds, and between them and disk, broker and exchange a kill or an
    outage does the most harm.
    """
    chance = random.random()
    if chance < 0.5:
        await world.wait_for_effect(random.choice(DECISIONS))
    elif chance < 0.9:
        name = random.choice(list(CONDITIONS))
        if name in _PROVOCATIONS:
            _PROVOCATIONS[name](world, random)
        await world.wait_for_state(CONDITIONS[name])


def switch_off(world: SimulatedWorld) -> None:
    """Set every switch of the exchange's faults to its default."""
    faults = world.exchange.faults
    for field in attrs.fields(FaultSwitches):
        if field.init:
            setattr(faults, field.name, getattr(FaultSwitches(), field.name))
