"""What a kind of fault consists of, and helpers that make the most frequent forms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import attrs
import trio

from oms_trio.testing.okx_server.faults.switches import FaultSwitches
from oms_trio.testing.simulation.impairments import Impairment
from oms_trio.testing.simulation.world import SimulatedWorld

Inject = Callable[[SimulatedWorld, Random], Awaitable[None]]
"""Lets a fault happen in a world; returns when it is over."""


@attrs.frozen
class FaultKind:
    """One kind of fault.

    ``impairs`` is impaired while the fault lasts and for ``after_s`` seconds longer.
    """

    inject: Inject
    impairs: tuple[Impairment, ...] = ()
    after_s: float = 0.0
    rare: bool = False
    """It changes so much that it is chosen a tenth as often."""

    async def happen(self, world: SimulatedWorld, random: Random) -> None:
        """Let a fault of this kind happen, and mark what it impairs."""
        with world.impairments.during(self.impairs, self.after_s):
            await self.inject(world, random)


@contextmanager
def switched(world: SimulatedWorld, name: str, value: object) -> Iterator[None]:
    """Set one switch of the exchange's faults during the block."""
    faults = world.exchange.faults
    setattr(faults, name, value)
    try:
        yield
    finally:
        setattr(faults, name, getattr(FaultSwitches(), name))


def switched_for(name: str, value: Any, least_s: float, most_s: float) -> Inject:  # noqa: ANN401 - as the switches
    """Make a fault that sets a switch for a random time within these bounds."""

    async def inject(world: SimulatedWorld, random: Random) -> None:
        with switched(world, name, value):
            await trio.sleep(random.uniform(least_s, most_s))

    return inject


def counted(name: str, most: int) -> Inject:
    """Make a fault that happens up to ``most`` times, at the next occasions."""

    async def inject(world: SimulatedWorld, random: Random) -> None:
        await trio.lowlevel.checkpoint()
        setattr(world.exchange.faults, name, random.randint(1, most))

    return inject


def at_once(do: Callable[[SimulatedWorld, Random], object]) -> Inject:
    """Make a fault from a function that returns at once."""

    async def inject(world: SimulatedWorld, random: Random) -> None:
        await trio.lowlevel.checkpoint()
        do(world, random)

    return inject
