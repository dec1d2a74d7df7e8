"""Faults of sessions and of the network under them."""

from __future__ import annotations

from random import Random
from typing import Final

import trio

from oms_trio.core.effects import PlaceOrder
from oms_trio.testing.simulation.faults.kind import (
    FaultKind,
    Inject,
    at_once,
    switched,
    switched_for,
)
from oms_trio.testing.simulation.impairments import Impairment
from oms_trio.testing.simulation.world import SimulatedWorld

CROWD: Final = 100
"""With so many open orders, reconciling after a lost session takes long."""

_LINK: Final = (Impairment.LINK,)
_REACH: Final = (Impairment.LINK, Impairment.REST)


async def _refuse_connections(world: SimulatedWorld, random: Random) -> None:
    """Cut all connections and accept none for a while, as during maintenance of the exchange."""
    with switched(world, "refuse_connections", value=True):
        world.exchange.faults.cut()
        await trio.sleep(random.choice((1.0, 10.0, 60.0, 180.0)) * random.random())


async def _stall(world: SimulatedWorld, random: Random) -> None:
    """Read and send nothing for a while, then cut: TCP would otherwise deliver everything late."""
    with switched(world, "silence", value=True):
        await trio.sleep(random.uniform(1.0, 50.0))
        world.exchange.faults.cut()


async def _overtaken(world: SimulatedWorld, random: Random) -> None:
    """Break the connection while an order is on its way, so that look-ups overtake the order."""
    with world.network.slowed((0.5, 4.5), "ws"), world.impairments.during(_LINK, 5.0):
        with trio.move_on_after(world.workload.patience_s):
            await world.wait_for_effect(PlaceOrder)
        await trio.sleep(random.uniform(0.005, 0.3))
        world.network.lose_clients("ws")


async def _filled_reconciling(world: SimulatedWorld, random: Random) -> None:
    """Cut the session, and fill order after order before, during and after reconciliation."""
    with trio.move_on_after(world.workload.patience_s):
        await world.wait_for_state(lambda state: len(state.orders) > 2)
    with world.impairments.during(_REACH):
        world.exchange.faults.cut()
        with switched(world, "rest_delay_s", random.choice((0.0, 0.2, 1.0))):
            with trio.move_on_after(10.0):
                await world.wait_for_state(
                    lambda state: state.sync.snapshot_requested and not state.sync.snapshot_applied
                )
            for _ in range(random.randint(5, 40)):
                await trio.sleep(random.uniform(0.01, 0.5))
                world.market.fill_any(random)


async def _crowded(world: SimulatedWorld, random: Random) -> None:
    """Cut the session while very many orders are open, some of which end meanwhile."""
    with trio.move_on_after(world.workload.patience_s):
        await world.wait_for_state(lambda state: len(state.orders) >= CROWD)
    closed_s = random.choice((0.0, 2.0, 30.0))
    with world.impairments.during(_REACH), switched(world, "refuse_connections", value=True):
        world.exchange.faults.cut()
        await trio.sleep(closed_s)
        if random.random() < 0.5:
            world.market.cancel_resting(random.randint(1, 300))
        for _ in range(random.choice((0, 10, 150))):
            world.market.fill_any(random)
    with switched(world, "rest_delay_s", random.choice((0.0, 0.15, 0.3))):
        await trio.sleep(60.0)


async def _login(world: SimulatedWorld, random: Random) -> None:
    await trio.lowlevel.checkpoint()
    # Five in a row are final for a process that has not logged in yet.
    codes = world.exchange.faults.login_codes
    codes.extend(["60009"] * min(random.randint(1, 2), 4 - len(codes)))
    world.exchange.faults.cut()


def _slow(*kinds: str) -> Inject:
    """Delay connections of these kinds: orders arrive late, and look-ups may overtake them."""

    async def inject(world: SimulatedWorld, random: Random) -> None:
        delay_s = random.choice(((0.01, 0.2), (0.0, 2.0), (4.0, 15.0)))
        with world.network.slowed(delay_s, *kinds):
            await trio.sleep(random.uniform(1.0, 30.0))

    return inject


def _close(world: SimulatedWorld, random: Random) -> None:
    world.exchange.faults.close(random.choice((1000, 1001, 1011, 4002)))


def _unknown_frame(world: SimulatedWorld, random: Random) -> None:
    """Send a frame that no documentation has: the session may end, the service may not."""
    world.exchange.faults.send_raw(
        random.choice(('{"event":"novelty"}', '{"arg":{}}', "nonsense", ""))
    )


FAULT_KINDS: Final[dict[str, FaultKind]] = {
    "session cut": FaultKind(at_once(lambda world, _: world.exchange.faults.cut()), _REACH),
    "session cut, crowded": FaultKind(_crowded),
    "network reset": FaultKind(at_once(lambda world, _: world.network.reset()), _REACH),
    "network slow": FaultKind(_slow("ws", "rest"), _REACH, 30.0),
    "order overtaken": FaultKind(_overtaken),
    "filled reconciling": FaultKind(_filled_reconciling),
    "session slow": FaultKind(_slow("ws"), _LINK, 30.0),
    "REST slow": FaultKind(_slow("rest"), (Impairment.REST,), 30.0),
    "half open": FaultKind(
        at_once(lambda world, _: world.exchange.faults.half_open()), _LINK, after_s=35.0
    ),
    "closed by a frame": FaultKind(at_once(_close), _LINK),
    "unknown frame": FaultKind(at_once(_unknown_frame), _LINK),
    "exchange down": FaultKind(_refuse_connections, _REACH),
    "exchange held": FaultKind(switched_for("stall", True, 1.0, 40.0), _REACH),
    "exchange stalled": FaultKind(_stall, _REACH),
    "upgrade notice": FaultKind(
        at_once(
            lambda world, random: world.exchange.faults.announce_upgrade(random.uniform(5, 60))
        ),
        _LINK,
        after_s=65.0,
    ),
    "login rejected": FaultKind(_login, _LINK, after_s=5.0),
}
