"""Faults of sessions and of the network below them."""

from __future__ import annotations

from random import Random
from typing import Final

import trio

from oms_trio.core.effects import PlaceOrder
from oms_trio.testing.simulation.faults.making import Act, Strike, at_once, switch, switched
from oms_trio.testing.simulation.troubles import Trouble
from oms_trio.testing.simulation.world import World

CROWD: Final = 100
"""Open orders from which on a lost session is a hard one."""

_LINK: Final = (Trouble.LINK,)
_REACH: Final = (Trouble.LINK, Trouble.REST)


async def _refuse(world: World, random: Random) -> None:
    """Lose the connections, and let none in for a while: maintenance of the exchange."""
    with switched(world, "refuse_connections", value=True):
        world.exchange.faults.cut()
        await trio.sleep(random.choice((1.0, 10.0, 60.0, 180.0)) * random.random())


async def _stall(world: World, random: Random) -> None:
    """Hear and say nothing for a while; TCP loses no bytes and then goes on, so the link ends."""
    with switched(world, "silence", value=True):
        await trio.sleep(random.uniform(1.0, 50.0))
        world.exchange.faults.cut()


async def _overtaken(world: World, random: Random) -> None:
    """Lose the link while an order is on its way, so that questions about it overtake it."""
    with world.network.slowed((0.5, 4.5), "ws"), world.troubles.during(_LINK, 5.0):
        with trio.move_on_after(world.pace.patience_s):
            await world.decision(PlaceOrder)
        await trio.sleep(random.uniform(0.005, 0.3))
        world.network.strand("ws")


async def _filled_reconciling(world: World, random: Random) -> None:
    """Lose the link, and let order after order fill before, while and after it is reconciled."""
    with trio.move_on_after(world.pace.patience_s):
        await world.moment(lambda state: len(state.orders) > 2)
    with world.troubles.during(_REACH):
        world.exchange.faults.cut()
        with switched(world, "rest_delay_s", random.choice((0.0, 0.2, 1.0))):
            with trio.move_on_after(10.0):
                await world.moment(
                    lambda state: state.sync.snapshot_requested and not state.sync.snapshot_applied
                )
            for _ in range(random.randint(5, 40)):
                await trio.sleep(random.uniform(0.01, 0.5))
                world.fill_any(random)


async def _crowded(world: World, random: Random) -> None:
    """Lose the session while the book is full of our orders, some of which end meanwhile."""
    with trio.move_on_after(world.pace.patience_s):
        await world.moment(lambda state: len(state.orders) >= CROWD)
    closed_s = random.choice((0.0, 2.0, 30.0))
    with world.troubles.during(_REACH), switched(world, "refuse_connections", value=True):
        world.exchange.faults.cut()
        await trio.sleep(closed_s)
        if random.random() < 0.5:
            world.cancel_resting(random.randint(1, 300))
        for _ in range(random.choice((0, 10, 150))):
            world.fill_any(random)
    with switched(world, "rest_delay_s", random.choice((0.0, 0.15, 0.3))):
        await trio.sleep(60.0)


async def _login(world: World, random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.exchange.faults.login_codes.extend(["60009"] * random.randint(1, 2))
    world.exchange.faults.cut()


def _slow(*kinds: str) -> Act:
    """Delay these kinds of connections: orders arrive late, and questions overtake them or not."""

    async def act(world: World, random: Random) -> None:
        delay_s = random.choice(((0.01, 0.2), (0.0, 2.0), (4.0, 15.0)))
        with world.network.slowed(delay_s, *kinds):
            await trio.sleep(random.uniform(1.0, 30.0))

    return act


def _close(world: World, random: Random) -> None:
    world.exchange.faults.close(random.choice((1000, 1001, 1011, 4002)))


def _say(world: World, random: Random) -> None:
    """Say what no documentation knows; a session may end by it, the service may not."""
    world.exchange.faults.send_raw(
        random.choice(('{"event":"novelty"}', '{"arg":{}}', "nonsense", ""))
    )


STRIKES: Final[dict[str, Strike]] = {
    "session cut": Strike(at_once(lambda world, _: world.exchange.faults.cut()), _REACH),
    "session cut, crowded": Strike(_crowded),
    "network reset": Strike(at_once(lambda world, _: world.network.reset()), _REACH),
    "network slow": Strike(_slow("ws", "rest"), _REACH, 30.0),
    "order overtaken": Strike(_overtaken),
    "filled reconciling": Strike(_filled_reconciling),
    "session slow": Strike(_slow("ws"), _LINK, 30.0),
    "REST slow": Strike(_slow("rest"), (Trouble.REST,), 30.0),
    "half open": Strike(
        at_once(lambda world, _: world.exchange.faults.half_open()), _LINK, after_s=35.0
    ),
    "closed by a frame": Strike(at_once(_close), _LINK),
    "frame unknown": Strike(at_once(_say), _LINK),
    "exchange closed": Strike(_refuse, _REACH),
    "exchange held": Strike(switch("stall", True, 1.0, 40.0), _REACH),
    "exchange stalled": Strike(_stall, _REACH),
    "upgrade notice": Strike(
        at_once(
            lambda world, random: world.exchange.faults.announce_upgrade(random.uniform(5, 60))
        ),
        _LINK,
        after_s=65.0,
    ),
    "login refused": Strike(_login, _LINK, after_s=5.0),
}
