"""Faults of our own side: process, clock, disk and broker."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import attrs
import trio

from oms_trio.core.effects import (
    CancelOrders,
    Effect,
    PlaceOrder,
    PublishClosure,
    PublishExecution,
    PublishRejection,
    SettleDelivery,
)
from oms_trio.testing.simulation.faults.kind import FaultKind, at_once
from oms_trio.testing.simulation.impairments import Impairment
from oms_trio.testing.simulation.machine.bit_rot import check_bit_rot
from oms_trio.testing.simulation.world import SimulatedWorld

DECISIONS: Final[tuple[type[Effect], ...]] = (
    PlaceOrder,
    PublishRejection,
    PublishExecution,
    PublishClosure,
    SettleDelivery,
    CancelOrders,
)


@attrs.define(eq=False)
class _Countdown(trio.abc.Instrument):
    """Calls a function before the n-th task step from now."""

    left: int
    then: Callable[[], None]

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's hook
        self.left -= 1
        if self.left == 0:
            trio.lowlevel.remove_instrument(self)
            self.then()


def _kill(world: SimulatedWorld, random: Random) -> None:
    """Kill the process a few task steps from now: between any two instructions."""
    trio.lowlevel.add_instrument(_Countdown(random.randint(1, 25), world.kill))


async def _kill_deciding(world: SimulatedWorld, random: Random) -> None:
    """Kill between a decision and its commit, its publication or its sending."""
    with trio.move_on_after(world.workload.patience_s):
        await world.wait_for_effect(random.choice(DECISIONS))
    trio.lowlevel.add_instrument(_Countdown(random.randint(1, 12), world.kill))


async def _kill_twice(world: SimulatedWorld, random: Random) -> None:
    world.kill()
    process = await world.next_process()
    with trio.move_on_after(random.random()):
        await process.started.wait()
    _kill(world, random)


async def _killed_stop(world: SimulatedWorld, random: Random) -> None:
    world.stop()
    await trio.sleep(random.uniform(0.0, 0.05))
    _kill(world, random)


async def _freeze(world: SimulatedWorld, random: Random) -> None:
    """Freeze the process as SIGSTOP does, for less or more time than every timeout."""
    await world.freeze(random.choice((0.5, 3.0, 14.0, 60.0)) * random.random())


async def _freeze_deciding(world: SimulatedWorld, random: Random) -> None:
    """Freeze it just after a decision."""
    with trio.move_on_after(world.workload.patience_s):
        await world.wait_for_effect(random.choice(DECISIONS))
    await world.freeze(random.uniform(4.0, 20.0))


def _step(world: SimulatedWorld, random: Random) -> None:
    """Step the machine's wall clock: a running process does not notice, the next one may."""
    world.wall.step(random.choice((-1, 1)) * random.choice((0.5, 30.0, 90.0, 600.0)))
    if random.random() < 0.5:
        world.kill()


async def _broker_outage(world: SimulatedWorld, random: Random) -> None:
    world.broker.set_available(available=False)
    try:
        await trio.sleep(random.choice((0.5, 5.0, 60.0)) * random.random())
    finally:
        world.broker.set_available(available=True)


def _broker_restart(world: SimulatedWorld, _random: Random) -> None:
    if world.broker.connected:
        world.broker.restart()


async def _broker_alarm(world: SimulatedWorld, random: Random) -> None:
    """Raise the broker's memory alarm: it reads nothing from us and sends no error."""
    world.broker.set_blocked(True)
    try:
        await trio.sleep(random.choice((1.0, 20.0, 90.0)) * random.random())
    finally:
        world.broker.set_blocked(False)


def _queue_deleted(world: SimulatedWorld, _random: Random) -> None:
    """Delete the action queue with its messages; the service declares it again."""
    world.deleted += world.broker.delete_queue()


async def _disk_full(world: SimulatedWorld, random: Random) -> None:
    world.disk.full = True
    try:
        await trio.sleep(random.uniform(0.2, 20.0))
    finally:
        world.disk.full = False


async def _disk_stalls(world: SimulatedWorld, random: Random) -> None:
    """Let every call of the journal take up to seconds."""
    world.disk.stall_s = random.choice(((0.05, 0.3), (0.5, 4.0)))
    try:
        await trio.sleep(random.uniform(1.0, 20.0))
    finally:
        world.disk.stall_s = None


async def _disk_fails(world: SimulatedWorld, random: Random) -> None:
    """Let writes fail, which ends the process: it is unknown what reached the disk."""
    world.disk.broken = True
    try:
        await trio.sleep(random.uniform(0.2, 5.0))
    finally:
        world.disk.broken = False


def _power_cut(world: SimulatedWorld, _random: Random) -> None:
    """Cut the power during the next commit."""
    world.disk.cut = world.kill


FAULT_KINDS: Final[dict[str, FaultKind]] = {
    "killed": FaultKind(at_once(_kill)),
    "killed deciding": FaultKind(_kill_deciding),
    "killed twice": FaultKind(_kill_twice),
    "stopped": FaultKind(at_once(lambda world, _: world.stop())),
    "killed stopping": FaultKind(_killed_stop),
    "frozen": FaultKind(_freeze),
    "frozen deciding": FaultKind(_freeze_deciding),
    "clock stepped": FaultKind(at_once(_step)),
    "broker away": FaultKind(_broker_outage, (Impairment.BROKER,)),
    "broker restarts": FaultKind(at_once(_broker_restart), (Impairment.BROKER,)),
    "broker alarm": FaultKind(_broker_alarm, (Impairment.BROKER,)),
    "queue deleted": FaultKind(at_once(_queue_deleted), (Impairment.BROKER,)),
    "confirm lost": FaultKind(
        at_once(lambda world, random: world.broker.lose_confirms(random.randint(1, 3)))
    ),
    "disk full": FaultKind(_disk_full, (Impairment.DISK,)),
    "disk stalls": FaultKind(_disk_stalls, (Impairment.DISK,)),
    "disk fails": FaultKind(_disk_fails, (Impairment.DISK,)),
    "power cut": FaultKind(at_once(_power_cut)),
    "bit rot": FaultKind(at_once(check_bit_rot), rare=True),
}
