"""The faults of a run, drawn from its seed, each aimed at a moment of the service.

A fault at a random time nearly always meets an idle service. So most strikes wait for a condition
(an order in flight, a fill missing, ...) and come at once when it holds.
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
from oms_trio.testing.simulation.faults.machine import DECISIONS
from oms_trio.testing.simulation.faults.making import Strike
from oms_trio.testing.simulation.world import World

CATALOG: Final[dict[str, Strike]] = {
    **links.STRIKES,
    **exchange.STRIKES,
    **account.STRIKES,
    **machine.STRIKES,
}

RARELY: Final = 0.1


async def strike_on(world: World, coverage: Coverage, random: Random) -> None:
    """Strike for ever; ends by cancellation only, and then every switch is put back.

    A run has all kinds of faults, or some, or very few: what takes several faults of a kind in a
    row is hardly ever met when each is one of many.
    """
    menu = random.sample(list(CATALOG), random.choice((4, 12, len(CATALOG))))
    try:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(random.expovariate(1 / world.pace.strike_every_s))
                name = random.choice(menu)
                if CATALOG[name].rare and random.random() >= RARELY:
                    continue
                with trio.move_on_after(world.pace.patience_s):
                    await _aim(world, random)
                for condition in conditions(world.state):
                    coverage[name, condition] += 1
                nursery.start_soon(CATALOG[name].strike, world, random)
    finally:
        calm(world)


_PROVOKED: Final[dict[str, Callable[[World, Random], object]]] = {
    "fill missing": lambda world, random: world.open_gap(random),
    "link down": lambda world, _: world.exchange.faults.cut(),
    "reconciling": lambda world, _: world.exchange.faults.cut(),
    "draining": lambda world, _: world.stop(),
}
"""How to bring about what lasts milliseconds and else hardly ever is there to be struck."""


async def _aim(world: World, random: Random) -> None:
    """Wait for a moment: any, one in which something is under way, or one of a decision.

    Decisions are over in milliseconds, and what parts them from disk, broker and exchange is
    where a death or an outage costs most.
    """
    chance = random.random()
    if chance < 0.5:
        await world.decision(random.choice(DECISIONS))
    elif chance < 0.9:
        name = random.choice(list(CONDITIONS))
        if name in _PROVOKED:
            _PROVOKED[name](world, random)
        await world.moment(CONDITIONS[name])


def calm(world: World) -> None:
    """Put every switch of the exchange back."""
    faults = world.exchange.faults
    for field in attrs.fields(FaultSwitches):
        if field.init:
            setattr(faults, field.name, getattr(FaultSwitches(), field.name))
