"""How faults are made: what one is, and the two kinds that most are of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import attrs
import trio

from oms_trio.testing.okx_server.faults.switches import FaultSwitches
from oms_trio.testing.simulation.troubles import Trouble
from oms_trio.testing.simulation.world import World

Act = Callable[[World, Random], Awaitable[None]]


@attrs.frozen
class Strike:
    """One kind of fault: what it does, what it hampers, and how long its effect outlasts it."""

    act: Act
    hampers: tuple[Trouble, ...] = ()
    after_s: float = 0.0
    rare: bool = False
    """It changes so much that it is drawn a tenth as often."""

    async def strike(self, world: World, random: Random) -> None:
        """Let it happen."""
        with world.troubles.during(self.hampers, self.after_s):
            await self.act(world, random)


@contextmanager
def switched(world: World, name: str, value: object) -> Iterator[None]:
    """Set one switch of the exchange's faults for the block."""
    faults = world.exchange.faults
    setattr(faults, name, value)
    try:
        yield
    finally:
        setattr(faults, name, getattr(FaultSwitches(), name))


def switch(name: str, value: Any, least_s: float, most_s: float) -> Act:  # noqa: ANN401 - as the switches
    """Make a fault that sets a switch for a while."""

    async def act(world: World, random: Random) -> None:
        with switched(world, name, value):
            await trio.sleep(random.uniform(least_s, most_s))

    return act


def count(name: str, most: int) -> Act:
    """Make a fault that happens up to ``most`` times, whenever there is an occasion."""

    async def act(world: World, random: Random) -> None:
        await trio.lowlevel.checkpoint()
        setattr(world.exchange.faults, name, random.randint(1, most))

    return act


def at_once(do: Callable[[World, Random], object]) -> Act:
    """Make a fault that is over when it has happened."""

    async def act(world: World, random: Random) -> None:
        await trio.lowlevel.checkpoint()
        do(world, random)

    return act
