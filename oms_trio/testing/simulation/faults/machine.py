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
from oms_trio.testing.simulation.faults.making import Strike, at_once
from oms_trio.testing.simulation.machine.bit_rot import check_rot
from oms_trio.testing.simulation.troubles import Trouble
from oms_trio.testing.simulation.world import World

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
    """Acts before the n-th task step from now."""

    left: int
    act: Callable[[], None]

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's hook
        self.left -= 1
        if self.left == 0:
            trio.lowlevel.remove_instrument(self)
            self.act()


def _kill(world: World, random: Random) -> None:
    """Kill the process some task steps from now, so that any two instructions are parted."""
    trio.lowlevel.add_instrument(_Countdown(random.randint(1, 25), world.kill))


async def _kill_deciding(world: World, random: Random) -> None:
    """Kill between a decision and what makes it durable or known."""
    with trio.move_on_after(world.pace.patience_s):
        await world.decision(random.choice(DECISIONS))
    trio.lowlevel.add_instrument(_Countdown(random.randint(1, 12), world.kill))


async def _kill_twice(world: World, random: Random) -> None:
    world.kill()
    life = await world.begun()
    with trio.move_on_after(random.random()):
        await life.started.wait()
    _kill(world, random)


async def _killed_stop(world: World, random: Random) -> None:
    world.stop()
    await trio.sleep(random.uniform(0.0, 0.05))
    _kill(world, random)


async def _freeze(world: World, random: Random) -> None:
    """Stop the process as SIGSTOP does, for less or more than anything waits."""
    await world.freeze(random.choice((0.5, 3.0, 14.0, 60.0)) * random.random())


async def _freeze_deciding(world: World, random: Random) -> None:
    """Stop it with something in the air."""
    with trio.move_on_after(world.pace.patience_s):
        await world.decision(random.choice(DECISIONS))
    await world.freeze(random.uniform(4.0, 20.0))


def _step(world: World, random: Random) -> None:
    """Put the machine's clock forward or back: a running process does not see it, the next may."""
    world.wall.step(random.choice((-1, 1)) * random.choice((0.5, 30.0, 90.0, 600.0)))
    if random.random() < 0.5:
        world.kill()


async def _broker_outage(world: World, random: Random) -> None:
    world.broker.set_available(available=False)
    try:
        await trio.sleep(random.choice((0.5, 5.0, 60.0)) * random.random())
    finally:
        world.broker.set_available(available=True)


def _broker_restart(world: World, _random: Random) -> None:
    if world.broker.connected:
        world.broker.restart()


async def _broker_alarm(world: World, random: Random) -> None:
    """Let the broker's memory run out: it takes nothing from us, and says so to nobody."""
    world.broker.set_blocked(True)
    try:
        await trio.sleep(random.choice((1.0, 20.0, 90.0)) * random.random())
    finally:
        world.broker.set_blocked(False)


def _queue_deleted(world: World, _random: Random) -> None:
    """Let somebody delete the queue; what was in it is gone, and the service declares it again."""
    world.delete_queue()


async def _disk_full(world: World, random: Random) -> None:
    world.room.full = True
    try:
        await trio.sleep(random.uniform(0.2, 20.0))
    finally:
        world.room.full = False


async def _disk_stalls(world: World, random: Random) -> None:
    """Let every call of the disk take up to seconds."""
    world.room.stall_s = random.choice(((0.05, 0.3), (0.5, 4.0)))
    try:
        await trio.sleep(random.uniform(1.0, 20.0))
    finally:
        world.room.stall_s = None


async def _disk_fails(world: World, random: Random) -> None:
    """Let writes fail until the process has ended by it: the disk says not what it holds."""
    world.room.broken = True
    try:
        await trio.sleep(random.uniform(0.2, 5.0))
    finally:
        world.room.broken = False


def _power_cut(world: World, _random: Random) -> None:
    """Cut the power during the next commit."""
    world.room.cut = world.kill


STRIKES: Final[dict[str, Strike]] = {
    "killed": Strike(at_once(_kill)),
    "killed deciding": Strike(_kill_deciding),
    "killed twice": Strike(_kill_twice),
    "stopped": Strike(at_once(lambda world, _: world.stop())),
    "killed stopping": Strike(_killed_stop),
    "frozen": Strike(_freeze),
    "frozen deciding": Strike(_freeze_deciding),
    "clock stepped": Strike(at_once(_step)),
    "broker away": Strike(_broker_outage, (Trouble.BROKER,)),
    "broker restarts": Strike(at_once(_broker_restart), (Trouble.BROKER,)),
    "broker's alarm": Strike(_broker_alarm, (Trouble.BROKER,)),
    "queue deleted": Strike(at_once(_queue_deleted), (Trouble.BROKER,)),
    "confirm lost": Strike(
        at_once(lambda world, random: world.broker.lose_confirms(random.randint(1, 3)))
    ),
    "disk full": Strike(_disk_full, (Trouble.DISK,)),
    "disk stalls": Strike(_disk_stalls, (Trouble.DISK,)),
    "disk fails": Strike(_disk_fails, (Trouble.DISK,)),
    "power cut": Strike(at_once(_power_cut)),
    "bit rot": Strike(at_once(check_rot), rare=True),
}
