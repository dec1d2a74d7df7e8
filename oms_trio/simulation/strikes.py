"""The faults of a run, drawn from its seed, each aimed at a moment of the service.

A fault at a random time nearly always meets an idle service. So most strikes wait for a condition
(an order in flight, a fill missing, ...) and come at once when it holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Final

import attrs
import trio

from oms_trio.core.effects import (
    CancelOrders,
    Effect,
    PlaceOrder,
    PublishClosure,
    PublishExecution,
    PublishRefusal,
    SettleDelivery,
)
from oms_trio.sim.faults import Faults
from oms_trio.simulation.coverage import CONDITIONS, Coverage, conditions
from oms_trio.simulation.world import World

UNKNOWN_CODES: Final = ("50001", "50004", "50026", "51054", "51149", "64007")

QUIET: Final = 0.5
"""How often an ADL is told by the position alone, which documentation and reports disagree about."""

DECISIONS: Final[tuple[type[Effect], ...]] = (
    PlaceOrder,
    PublishRefusal,
    PublishExecution,
    PublishClosure,
    SettleDelivery,
    CancelOrders,
)

Strike = Callable[[World, Random], Awaitable[None]]


@contextmanager
def switched(world: World, name: str, value: object) -> Iterator[None]:
    """Set one switch of the exchange's faults for the block."""
    faults = world.exchange.faults
    setattr(faults, name, value)
    try:
        yield
    finally:
        setattr(faults, name, getattr(Faults(), name))


def _switch(name: str, value: Any, least_s: float, most_s: float) -> Strike:  # noqa: ANN401 - as the switches
    """Make a strike that sets a switch for a while."""

    async def strike(world: World, random: Random) -> None:
        with switched(world, name, value):
            await trio.sleep(random.uniform(least_s, most_s))

    return strike


def _count(name: str, most: int) -> Strike:
    """Make a strike that lets a counted fault happen up to ``most`` times."""

    async def strike(world: World, random: Random) -> None:
        await trio.lowlevel.checkpoint()
        setattr(world.exchange.faults, name, random.randint(1, most))

    return strike


async def _cut(world: World, _random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.exchange.faults.cut()


async def _half_open(world: World, _random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.exchange.faults.half_open()


async def _close(world: World, random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.exchange.faults.close(random.choice((1000, 1001, 1011, 4002)))


async def _say(world: World, random: Random) -> None:
    """Say what no documentation knows; a session may end by it, the service may not."""
    await trio.lowlevel.checkpoint()
    world.exchange.faults.say(random.choice(('{"event":"novelty"}', '{"arg":{}}', "nonsense", "")))


async def _reset(world: World, _random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.network.reset()


async def _refuse(world: World, random: Random) -> None:
    """Lose the connections, and let none in for a while: maintenance of the exchange."""
    with switched(world, "refuse_connections", value=True):
        world.exchange.faults.cut()
        await trio.sleep(random.choice((1.0, 10.0, 60.0, 180.0)) * random.random())


async def _stall(world: World, random: Random) -> None:
    """Hear and say nothing for a while; TCP loses no bytes and then goes on, so the link ends."""
    with switched(world, "stalled", value=True):
        await trio.sleep(random.uniform(1.0, 50.0))
        world.exchange.faults.cut()


async def _upgrade(world: World, random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.exchange.faults.announce_upgrade(random.uniform(5.0, 60.0))


async def _overtaken(world: World, random: Random) -> None:
    """Lose the link while an order is on its way, so that questions about it overtake it."""
    with world.network.slowed((0.5, 4.5), "ws"):
        with trio.move_on_after(world.pace.patience_s):
            await world.decision(PlaceOrder)
        await trio.sleep(random.uniform(0.005, 0.3))
        world.network.strand("ws")


async def _late_positions(world: World, random: Random) -> None:
    """Tell of positions late, after the next trade has begun perhaps."""
    world.exchange.faults.late_position_pushes = random.randint(1, 5)
    with switched(world, "push_delay_s", random.choice((0.5, 3.0, 10.0))):
        await trio.sleep(random.uniform(1.0, 20.0))


async def _filled_reconciling(world: World, random: Random) -> None:
    """Lose the link, and let order after order fill before, while and after it is reconciled."""
    with trio.move_on_after(world.pace.patience_s):
        await world.moment(lambda state: len(state.orders) > 2)
    world.exchange.faults.cut()
    with switched(world, "rest_delay_s", random.choice((0.0, 0.2, 1.0))):
        with trio.move_on_after(10.0):
            await world.moment(lambda state: state.sync.asked and not state.sync.merged)
        for _ in range(random.randint(5, 40)):
            await trio.sleep(random.uniform(0.01, 0.5))
            world.fill_any(random)


def _doubt(*, executed: bool) -> Strike:
    async def strike(world: World, random: Random) -> None:
        await trio.lowlevel.checkpoint()
        code = random.choice(UNKNOWN_CODES)
        world.exchange.faults.answer_submits(code, random.randint(1, 3), executed=executed)

    return strike


async def _refusals(world: World, random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.exchange.refuse_next(random.choice(("51008", "50011", "50061", "51006")), 2)


async def _login(world: World, random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.exchange.faults.login_codes.extend(["60009"] * random.randint(1, 2))
    world.exchange.faults.cut()


def _slow(*kinds: str) -> Strike:
    """Delay these kinds of connections: orders arrive late, and questions overtake them or not."""

    async def strike(world: World, random: Random) -> None:
        delay_s = random.choice(((0.01, 0.2), (0.0, 2.0), (4.0, 15.0)))
        with world.network.slowed(delay_s, *kinds):
            await trio.sleep(random.uniform(1.0, 30.0))

    return strike


async def _broker_outage(world: World, random: Random) -> None:
    world.broker.set_available(available=False)
    try:
        await trio.sleep(random.choice((0.5, 5.0, 60.0)) * random.random())
    finally:
        world.broker.set_available(available=True)


async def _broker_restart(world: World, _random: Random) -> None:
    await trio.lowlevel.checkpoint()
    if world.broker.connected:
        world.broker.restart()


async def _lost_confirms(world: World, random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.broker.lose_confirms(random.randint(1, 3))


async def _disk_full(world: World, random: Random) -> None:
    world.room.full = True
    try:
        await trio.sleep(random.uniform(0.2, 20.0))
    finally:
        world.room.full = False


async def _kill(world: World, random: Random) -> None:
    """Kill the process some task steps from now, so that any two instructions are parted."""
    await trio.lowlevel.checkpoint()
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
    await _kill(world, random)


async def _stop(world: World, _random: Random) -> None:
    await trio.lowlevel.checkpoint()
    world.stop()


async def _killed_stop(world: World, random: Random) -> None:
    world.stop()
    await trio.sleep(random.uniform(0.0, 0.05))
    await _kill(world, random)


async def _hand_trade(world: World, random: Random) -> None:
    """Trade by hand beside the service, and take it back: its position is unexplained meanwhile."""
    side, back = random.sample(("buy", "sell"), 2)
    if not world.trade_by_hand(side):
        return
    try:
        await trio.sleep(random.uniform(0.5, 30.0))
    finally:
        world.trade_back(back)


async def _deleveraged(world: World, random: Random) -> None:
    """Lose a part of the position to the exchange's risk engine; a person trades it back."""
    exchange = world.exchange
    pos, lot = exchange.engine.ledger.pos, exchange.instrument.lot_sz
    if not pos:
        return
    taken = min(abs(pos), lot * random.randint(1, 40))
    with switched(world, "quiet_risk_orders", value=random.random() < QUIET):
        exchange.deleverage(taken)
    try:
        await trio.sleep(random.uniform(0.5, 30.0))
    finally:
        world.trade_back("buy" if pos > 0 else "sell", taken)


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


MENU: Final[dict[str, Strike]] = {
    "session cut": _cut,
    "network reset": _reset,
    "network slow": _slow("ws", "rest"),
    "order overtaken": _overtaken,
    "filled reconciling": _filled_reconciling,
    "session slow": _slow("ws"),
    "REST slow": _slow("rest"),
    "half open": _half_open,
    "closed by a frame": _close,
    "frame unknown": _say,
    "exchange closed": _refuse,
    "exchange held": _switch("held", True, 1.0, 40.0),
    "exchange stalled": _stall,
    "upgrade notice": _upgrade,
    "login refused": _login,
    "ack dropped": _count("drop_acks", 3),
    "cut before op": _count("cut_before_op", 1),
    "cut after op": _count("cut_after_op", 1),
    "ack delayed": _switch("ack_delay_s", 3.0, 1.0, 10.0),
    "push before ack": _switch("push_before_ack", True, 5.0, 60.0),
    "positions first": _switch("positions_first", True, 5.0, 60.0),
    "position late": _late_positions,
    "position missed": _count("miss_position_pushes", 3),
    "push echoed": _count("echo_order_pushes", 5),
    "push late": _count("late_order_pushes", 2),
    "pushes swapped": _count("swap_order_pushes", 1),
    "push missed": _count("miss_order_pushes", 3),
    "push repeated": _count("repeat_order_pushes", 5),
    "unknown, executed": _doubt(executed=True),
    "unknown, not executed": _doubt(executed=False),
    "order refused": _refusals,
    "REST fails": _count("rest_failures", 8),
    "REST lags": _switch("rest_lag_ms", 2000, 5.0, 60.0),
    "REST answer lost": _count("lost_rest_answers", 2),
    "REST down": _switch("rest_status", 503, 1.0, 60.0),
    "instrument suspended": _switch("suspended", True, 1.0, 90.0),
    "traded by hand": _hand_trade,
    "deleveraged": _deleveraged,
    "broker away": _broker_outage,
    "broker restarts": _broker_restart,
    "confirm lost": _lost_confirms,
    "disk full": _disk_full,
    "killed": _kill,
    "killed deciding": _kill_deciding,
    "killed twice": _kill_twice,
    "stopped": _stop,
    "killed stopping": _killed_stop,
}


async def strike_on(world: World, coverage: Coverage, random: Random) -> None:
    """Strike for ever; ends by cancellation only, and then every switch is put back.

    A run has all kinds of faults, or some, or very few: what takes several faults of a kind in a
    row is hardly ever met when each is one of many.
    """
    menu = random.sample(list(MENU), random.choice((4, 12, len(MENU))))
    try:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(random.expovariate(1 / world.pace.strike_every_s))
                name = random.choice(menu)
                with trio.move_on_after(world.pace.patience_s):
                    await _aim(world, random)
                for condition in conditions(world.state):
                    coverage[name, condition] += 1
                nursery.start_soon(MENU[name], world, random)
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
    for field in attrs.fields(Faults):
        if field.init:
            setattr(faults, field.name, getattr(Faults(), field.name))
