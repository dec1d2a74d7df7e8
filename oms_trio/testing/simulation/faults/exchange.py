"""Faults of the exchange: its answers, its pushes, its REST interface, its clock, its instrument."""

from __future__ import annotations

from random import Random
from typing import Final

import trio

from oms_trio.core.effects import PlaceOrder
from oms_trio.testing.simulation.faults.kind import (
    FaultKind,
    Inject,
    at_once,
    counted,
    switched,
    switched_for,
)
from oms_trio.testing.simulation.impairments import Impairment
from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.world import SimulatedWorld

UNKNOWN_CODES: Final = ("50001", "50004", "50026", "51054", "51149", "64007")

LAGS_MS: Final = (1000, 2000, 4500, 6000, 30_000, 90_000)
"""How far REST may lag: less than, as much as and far more than every grace period of the service."""

HANG_S: Final = 40.0
"""After this long, the service must have ended a session that answers no request."""

FOREIGN: Final = (
    ("foreign_order", "state=mystery"),
    ("foreign_order", "side=both,ordType=novelty"),
    ("foreign_order", "category=novelty,sz=0"),
    ("foreign_position", "posSide=novelty,mgnMode=isolated"),
    ("foreign_fill", "execType=novelty,subType=999"),
)
"""Rows that are not ours, with the switch that adds them to answers and pushes."""

_LINK: Final = (Impairment.LINK, Impairment.PUSHES)
_REST: Final = (Impairment.REST,)
_PUSHES: Final = (Impairment.PUSHES,)
_ORDERS: Final = (Impairment.ORDERS,)


async def _late_positions(world: SimulatedWorld, random: Random) -> None:
    """Push positions late, perhaps after the next trade has begun."""
    world.exchange.faults.late_position_pushes = random.randint(1, 5)
    with switched(world, "push_delay_s", random.choice((0.5, 3.0, 10.0))):
        await trio.sleep(random.uniform(1.0, 20.0))


def _unknown_outcome(*, executed: bool) -> Inject:
    def inject(world: SimulatedWorld, random: Random) -> None:
        code = random.choice(UNKNOWN_CODES)
        world.exchange.faults.answer_submits(code, random.randint(1, 3), executed=executed)

    return at_once(inject)


def _rejections(world: SimulatedWorld, random: Random) -> None:
    world.exchange.reject_next_orders(random.choice(("51008", "50011", "50061", "51006")), 2)


async def _lag(world: SimulatedWorld, random: Random) -> None:
    with switched(world, "rest_lag_ms", random.choice(LAGS_MS)):
        await trio.sleep(random.choice((10.0, 60.0, 180.0)) * random.random())


async def _lag_cut(world: SimulatedWorld, random: Random) -> None:
    """Cut the session while REST lags: what it does not show yet has happened all the same."""
    with switched(world, "rest_lag_ms", random.choice(LAGS_MS)):
        await trio.sleep(random.uniform(0.0, 10.0))
        world.exchange.faults.cut()
        await trio.sleep(random.uniform(5.0, 120.0))


async def _lag_unknown(world: SimulatedWorld, random: Random) -> None:
    """Leave outcomes unknown while REST lags: that it does not show an order proves nothing."""
    with switched(world, "rest_lag_ms", random.choice(LAGS_MS)):
        for _ in range(random.randint(1, 4)):
            code = random.choice(UNKNOWN_CODES)
            world.exchange.faults.answer_submits(code, executed=random.random() < 0.7)
        await trio.sleep(random.uniform(10.0, 120.0))


async def _lag_kill(world: SimulatedWorld, random: Random) -> None:
    """Kill the process just after it has sent an order that REST does not show for a while."""
    with switched(world, "rest_lag_ms", random.choice(LAGS_MS)):
        with trio.move_on_after(world.workload.patience_s):
            await world.wait_for_effect(PlaceOrder)
        await trio.sleep(random.uniform(0.0005, 0.003))
        world.kill()
        await trio.sleep(random.uniform(10.0, 60.0))


async def _clock(world: SimulatedWorld, random: Random) -> None:
    """Step the exchange's clock for up to 15 minutes."""
    skew_ms = random.choice((-1, 1)) * random.choice((300, 2000, 25_000))
    with switched(world, "clock_skew_ms", skew_ms):
        await trio.sleep(random.choice((5.0, 120.0, 900.0)) * random.random())


async def _instrument(world: SimulatedWorld, random: Random) -> None:
    """Change the instrument while the exchange is down; until it is read again the service uses the old."""
    with switched(world, "refuse_connections", value=True):
        world.exchange.faults.cut()
        await trio.sleep(random.uniform(1.0, 5.0))
        world.market.change_instrument(random, world.state)


async def _gateway(world: SimulatedWorld, random: Random) -> None:
    """Let the order gateway give no answers for a while, whether it executes requests or not."""
    name = random.choice(("ops_hang", "ops_hang_executed"))
    with switched(world, name, value=True):
        with trio.move_on_after(60.0) as patience:
            await world.wait_for_effect(PlaceOrder)
        process, sessions = world.process, world.network.sessions
        lasting_s = random.choice((5.0, HANG_S, HANG_S))
        await trio.sleep(lasting_s)
        unimpaired = world.impairments.unimpaired_for({Impairment.PROCESS}) > HANG_S
        unknown = world.state is not None and any(
            order.outcome_unknown for order in world.state.orders
        )
        hangs = unknown and not patience.cancelled_caught and lasting_s == HANG_S
        if hangs and unimpaired and process is world.process and sessions & world.network.sessions:
            what = f"a session that has answered no request for {HANG_S:.0f} s was not ended"
            world.monitor.found.append(Violation("9", what))
        world.exchange.faults.cut()


async def _dead_subscriptions(world: SimulatedWorld, random: Random) -> None:
    """Let new sessions get no pushes, as when the account has 30 other sessions open."""
    with switched(world, "dead_subscriptions", value=True):
        world.exchange.faults.cut()
        await trio.sleep(random.uniform(1.0, 60.0))


async def _foreign(world: SimulatedWorld, random: Random) -> None:
    """Add rows of other orders, with states, sides and types that no documentation has."""
    name, fields = random.choice(FOREIGN)
    with switched(world, name, fields):
        await trio.sleep(random.uniform(10.0, 120.0))


async def _torn(world: SimulatedWorld, random: Random) -> None:
    """Let one of REST's endpoints lag, and the others not."""
    with switched(world, "rest_lag_only", random.choice(("orders", "fills", "positions", "bills"))):
        await _lag(world, random)


FAULT_KINDS: Final[dict[str, FaultKind]] = {
    "ack dropped": FaultKind(counted("drop_acks", 3)),
    "cut before op": FaultKind(counted("cut_before_op", 1)),
    "cut after op": FaultKind(counted("cut_after_op", 1)),
    "ack delayed": FaultKind(switched_for("ack_delay_s", 3.0, 1.0, 10.0), _ORDERS, 5.0),
    "push before ack": FaultKind(switched_for("push_before_ack", True, 5.0, 60.0)),
    "positions first": FaultKind(switched_for("positions_first", True, 5.0, 60.0)),
    "position late": FaultKind(_late_positions, _PUSHES, after_s=15.0),
    "position missed": FaultKind(counted("drop_position_pushes", 3)),
    "push echoed": FaultKind(counted("echo_order_pushes", 5)),
    "push late": FaultKind(counted("late_order_pushes", 2)),
    "pushes swapped": FaultKind(counted("swap_order_pushes", 1)),
    "push missed": FaultKind(counted("drop_order_pushes", 3)),
    "push repeated": FaultKind(counted("repeat_order_pushes", 5)),
    "unknown, executed": FaultKind(_unknown_outcome(executed=True), _ORDERS, 60.0),
    "unknown, not executed": FaultKind(_unknown_outcome(executed=False), _ORDERS, 60.0),
    "order rejected": FaultKind(at_once(_rejections), _ORDERS, 60.0),
    "REST fails": FaultKind(counted("rest_failures", 8)),
    "REST lags": FaultKind(_lag, _REST),
    "REST lags, session cut": FaultKind(_lag_cut, (*_REST, *_LINK)),
    "unknown, REST lags": FaultKind(_lag_unknown, (*_REST, *_ORDERS), 60.0),
    "killed, REST lags": FaultKind(_lag_kill, _REST),
    "REST answer lost": FaultKind(counted("lost_rest_answers", 2)),
    "REST down": FaultKind(switched_for("rest_status", 503, 1.0, 60.0), _REST),
    "exchange clock stepped": FaultKind(_clock, (Impairment.CLOCK,), after_s=60.0),
    "instrument suspended": FaultKind(switched_for("suspended", True, 1.0, 90.0), _ORDERS),
    "instrument changed": FaultKind(
        _instrument, (Impairment.LINK, Impairment.REST, Impairment.ORDERS), rare=True
    ),
    "gateway hangs": FaultKind(_gateway, (*_LINK, *_ORDERS), after_s=35.0),
    "subscriptions dead": FaultKind(_dead_subscriptions, _LINK, after_s=30.0),
    "foreign rows": FaultKind(_foreign),
    "REST torn": FaultKind(_torn, _REST),
}
