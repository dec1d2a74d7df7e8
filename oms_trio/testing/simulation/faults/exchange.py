"""Faults of the exchange: its answers, its pushes, its REST, its clock and its instrument."""

from __future__ import annotations

from random import Random
from typing import Final

import trio

from oms_trio.core.effects import PlaceOrder
from oms_trio.testing.simulation.faults.making import Act, Strike, at_once, count, switch, switched
from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.troubles import Trouble
from oms_trio.testing.simulation.world import World

UNKNOWN_CODES: Final = ("50001", "50004", "50026", "51054", "51149", "64007")

LAGS_MS: Final = (1000, 2000, 4500, 6000, 30_000, 90_000)
"""How far REST may be behind: below, at and far above every grace that the service grants."""

BORNE_S: Final = 40.0
"""A session that answers no request must have been ended by then."""

FOREIGN: Final = (
    ("foreign_order", "state=mystery"),
    ("foreign_order", "side=both,ordType=novelty"),
    ("foreign_order", "category=novelty,sz=0"),
    ("foreign_position", "posSide=novelty,mgnMode=isolated"),
    ("foreign_fill", "execType=novelty,subType=999"),
)
"""Rows that are not ours, by the switch that shows them."""

_LINK: Final = (Trouble.LINK, Trouble.PUSHES)
_REST: Final = (Trouble.REST,)
_PUSHES: Final = (Trouble.PUSHES,)
_ORDERS: Final = (Trouble.ORDERS,)


async def _late_positions(world: World, random: Random) -> None:
    """Tell of positions late, after the next trade has begun perhaps."""
    world.exchange.faults.late_position_pushes = random.randint(1, 5)
    with switched(world, "push_delay_s", random.choice((0.5, 3.0, 10.0))):
        await trio.sleep(random.uniform(1.0, 20.0))


def _doubt(*, executed: bool) -> Act:
    def act(world: World, random: Random) -> None:
        code = random.choice(UNKNOWN_CODES)
        world.exchange.faults.answer_submits(code, random.randint(1, 3), executed=executed)

    return at_once(act)


def _refusals(world: World, random: Random) -> None:
    world.exchange.reject_next_orders(random.choice(("51008", "50011", "50061", "51006")), 2)


async def _lag(world: World, random: Random) -> None:
    with switched(world, "rest_lag_ms", random.choice(LAGS_MS)):
        await trio.sleep(random.choice((10.0, 60.0, 180.0)) * random.random())


async def _lag_cut(world: World, random: Random) -> None:
    """Lose the session while REST is behind: what it does not tell has happened all the same."""
    with switched(world, "rest_lag_ms", random.choice(LAGS_MS)):
        await trio.sleep(random.uniform(0.0, 10.0))
        world.exchange.faults.cut()
        await trio.sleep(random.uniform(5.0, 120.0))


async def _lag_doubt(world: World, random: Random) -> None:
    """Leave the outcome of orders unknown while REST is behind: that it shows none proves nothing."""
    with switched(world, "rest_lag_ms", random.choice(LAGS_MS)):
        for _ in range(random.randint(1, 4)):
            code = random.choice(UNKNOWN_CODES)
            world.exchange.faults.answer_submits(code, executed=random.random() < 0.7)
        await trio.sleep(random.uniform(10.0, 120.0))


async def _lag_kill(world: World, random: Random) -> None:
    """Kill the process just after it has sent an order that REST does not show for a while."""
    with switched(world, "rest_lag_ms", random.choice(LAGS_MS)):
        with trio.move_on_after(world.pace.patience_s):
            await world.decision(PlaceOrder)
        await trio.sleep(random.uniform(0.0005, 0.003))
        world.kill()
        await trio.sleep(random.uniform(10.0, 60.0))


async def _clock(world: World, random: Random) -> None:
    """Let the exchange's clock be wrong for a while, or stay as it is put."""
    skew_ms = random.choice((-1, 1)) * random.choice((300, 2000, 25_000))
    with switched(world, "clock_skew_ms", skew_ms):
        await trio.sleep(random.choice((5.0, 120.0, 900.0)) * random.random())


async def _instrument(world: World, random: Random) -> None:
    """Change the instrument during maintenance: orders are sent by what it was, until it is read."""
    with switched(world, "refuse_connections", value=True):
        world.exchange.faults.cut()
        await trio.sleep(random.uniform(1.0, 5.0))
        world.change_instrument(random)


async def _gateway(world: World, random: Random) -> None:
    """Let the order gateway hang for a while: requests get no answer, with or without effect."""
    name = random.choice(("ops_hang", "ops_hang_executed"))
    with switched(world, name, value=True):
        with trio.move_on_after(60.0) as patience:
            await world.decision(PlaceOrder)
        life, sessions = world.life, world.network.sessions
        lasting_s = random.choice((5.0, BORNE_S, BORNE_S))
        await trio.sleep(lasting_s)
        calm = world.troubles.calm_for({Trouble.PROCESS}) > BORNE_S
        doubts = world.state is not None and any(
            order.outcome_unknown for order in world.state.orders
        )
        sent = doubts and not patience.cancelled_caught and lasting_s == BORNE_S
        if sent and calm and life is world.life and sessions & world.network.sessions:
            what = f"a session that has answered no request for {BORNE_S:.0f} s goes on"
            world.monitor.found.append(Violation("9", what))
        world.exchange.faults.cut()


async def _dead_subscriptions(world: World, random: Random) -> None:
    """Let sessions begin whose subscriptions are dead: another 30 of the account are open."""
    with switched(world, "dead_subscriptions", value=True):
        world.exchange.faults.cut()
        await trio.sleep(random.uniform(1.0, 60.0))


async def _foreign(world: World, random: Random) -> None:
    """Show rows of somebody else, in states, sides and types that nobody knows."""
    name, fields = random.choice(FOREIGN)
    with switched(world, name, fields):
        await trio.sleep(random.uniform(10.0, 120.0))


async def _torn(world: World, random: Random) -> None:
    """Let some of REST's answers be behind, and others not."""
    with switched(world, "rest_lag_only", random.choice(("orders", "fills", "positions", "bills"))):
        await _lag(world, random)


STRIKES: Final[dict[str, Strike]] = {
    "ack dropped": Strike(count("drop_acks", 3)),
    "cut before op": Strike(count("cut_before_op", 1)),
    "cut after op": Strike(count("cut_after_op", 1)),
    "ack delayed": Strike(switch("ack_delay_s", 3.0, 1.0, 10.0), _ORDERS, 5.0),
    "push before ack": Strike(switch("push_before_ack", True, 5.0, 60.0)),
    "positions first": Strike(switch("positions_first", True, 5.0, 60.0)),
    "position late": Strike(_late_positions, _PUSHES, after_s=15.0),
    "position missed": Strike(count("drop_position_pushes", 3)),
    "push echoed": Strike(count("echo_order_pushes", 5)),
    "push late": Strike(count("late_order_pushes", 2)),
    "pushes swapped": Strike(count("swap_order_pushes", 1)),
    "push missed": Strike(count("drop_order_pushes", 3)),
    "push repeated": Strike(count("repeat_order_pushes", 5)),
    "unknown, executed": Strike(_doubt(executed=True), _ORDERS, 60.0),
    "unknown, not executed": Strike(_doubt(executed=False), _ORDERS, 60.0),
    "order refused": Strike(at_once(_refusals), _ORDERS, 60.0),
    "REST fails": Strike(count("rest_failures", 8)),
    "REST lags": Strike(_lag, _REST),
    "REST lags, session cut": Strike(_lag_cut, (*_REST, *_LINK)),
    "unknown, REST lags": Strike(_lag_doubt, (*_REST, *_ORDERS), 60.0),
    "killed, REST lags": Strike(_lag_kill, _REST),
    "REST answer lost": Strike(count("lost_rest_answers", 2)),
    "REST down": Strike(switch("rest_status", 503, 1.0, 60.0), _REST),
    "exchange's clock": Strike(_clock, (Trouble.CLOCK,), after_s=60.0),
    "instrument suspended": Strike(switch("suspended", True, 1.0, 90.0), _ORDERS),
    "instrument changed": Strike(
        _instrument, (Trouble.LINK, Trouble.REST, Trouble.ORDERS), rare=True
    ),
    "gateway hangs": Strike(_gateway, (*_LINK, *_ORDERS), after_s=35.0),
    "subscriptions dead": Strike(_dead_subscriptions, _LINK, after_s=30.0),
    "foreign rows": Strike(_foreign),
    "REST torn": Strike(_torn, _REST),
}
