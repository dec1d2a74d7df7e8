"""What happens on the account beside the agent: hands, the risk engine, the market, the operator."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Final

import trio

from oms_trio.core.effects import PlaceOrder
from oms_trio.core.events import Verb
from oms_trio.testing.simulation.faults.making import Act, Strike, at_once, switched
from oms_trio.testing.simulation.world import World

REPORTED: Final = (0, 1, 2)
"""How the risk engine's orders are told: by pushes, by REST's lists, or by bills alone; documentation
and reports disagree."""

SIZES: Final = (Decimal(1), Decimal(20), Decimal(200))
"""Contracts traded by hand: lost among ours, as many as ours, and far above the cap."""

BURST: Final = (70, 120)
"""Actions at once: the limit is 60 orders in 2 s."""

WAITING: Final = 8
"""So many unanswered orders mean that some wait for room."""

SIDES: Final = ("buy", "sell")


async def _hand_trade(world: World, random: Random) -> None:
    """Trade by hand beside the service, and take it back: its position is unexplained meanwhile."""
    side, back = random.sample(SIDES, 2)
    sz = random.choice(SIZES)
    if not world.trade_by_hand(side, sz):
        return
    with world.trading_by_hand():
        try:
            await trio.sleep(random.uniform(0.5, 60.0))
        finally:
            world.trade_back(back, sz)


def _kept_trade(world: World, random: Random) -> None:
    """Trade by hand for good: the operator has to adopt the position."""
    world.trade_by_hand(random.choice(SIDES), random.choice(SIZES))


async def _deleveraged(world: World, random: Random) -> None:
    """Lose a part of the position to somebody else's bankruptcy."""
    await trio.lowlevel.checkpoint()
    lot = world.exchange.instrument.lot_sz
    if (held := abs(world.exchange.engine.ledger.pos)) and not world.monitor.by_hand:
        with switched(world, "quiet_risk_orders", value=random.choice(REPORTED)):
            world.exchange.deleverage(min(held, lot * random.randint(1, 400)))


async def _liquidated(world: World, random: Random) -> None:
    """Lose the whole position to the exchange's risk engine."""
    await trio.lowlevel.checkpoint()
    if world.exchange.engine.ledger.pos and not world.monitor.by_hand:
        with switched(world, "quiet_risk_orders", value=random.choice(REPORTED)):
            world.exchange.liquidate()


async def _liquidated_partly(world: World, random: Random) -> None:
    """Lose a part of the position, as a large one does first."""
    await trio.lowlevel.checkpoint()
    if (held := abs(world.exchange.engine.ledger.pos)) and not world.monitor.by_hand:
        lot = world.exchange.instrument.lot_sz
        part = max(lot, held / random.choice((2, 3, 7)) // lot * lot)
        with switched(world, "quiet_risk_orders", value=random.choice(REPORTED)):
            world.exchange.liquidate(part)


def _fund(world: World, random: Random) -> None:
    world.fund(Decimal(random.randint(-75, 75)) / 10_000)


def _jump(world: World, random: Random) -> None:
    """Let the market move by up to 10 % at once."""
    world.jump_market(Decimal(random.choice((-1, 1)) * random.randint(10, 100)) / 1000)


def _command(verb: Verb) -> Act:
    """Make a command of the operator; whoever is on duty resumes trading later."""

    async def act(world: World, _random: Random) -> None:
        await world.command(verb)

    return act


async def _pause(world: World, random: Random) -> None:
    if await world.command(Verb.PAUSE):
        await trio.sleep(random.uniform(1.0, 60.0))
        await world.command(Verb.RESUME)


async def _stopped_waiting(world: World, random: Random) -> None:
    """Stop everything while orders wait to be sent: for room, for another try, or to be looked up."""
    chance = random.random()
    if chance < 0.3:
        world.exchange.refuse_next(random.choice(("50011", "50061")), 3)
    elif chance < 0.6:
        world.burst(random.randint(*BURST))
    with trio.move_on_after(world.pace.patience_s):
        await world.moment(
            lambda state: (
                any(order.verify_before_send or order.retry_due_ns for order in state.orders)
                or sum(order.awaiting_ack for order in state.orders) >= WAITING
            )
        )
    await world.command(random.choice((Verb.PAUSE, Verb.KILL, Verb.CANCEL_ALL, Verb.CANCEL_ALL)))


async def _adopted_cancelled(world: World, random: Random) -> None:
    """Kill the process just after it has sent an order, and cancel everything when it is back."""
    with trio.move_on_after(world.pace.patience_s):
        await world.decision(PlaceOrder)
    await trio.sleep(random.uniform(0.0005, 0.003))
    world.kill()
    life = await world.begun()
    with trio.move_on_after(30.0):
        await life.started.wait()
    await world.command(random.choice((Verb.CANCEL_ALL, Verb.KILL)))


async def on_duty(world: World, random: Random) -> None:
    """Adopt what is traded by hand for good, and resume after every pause; until cancelled."""
    while True:
        await trio.sleep(random.uniform(15.0, 90.0))
        state, monitor = world.state, world.monitor
        if state is None or world.hands:
            continue
        if monitor.by_hand:
            await world.command(Verb.ADOPT)
        elif state.risk.paused is not None and not monitor.adopting:
            await world.command(Verb.RESUME)


STRIKES: Final[dict[str, Strike]] = {
    "traded by hand": Strike(_hand_trade),
    "traded by hand, kept": Strike(at_once(_kept_trade)),
    "deleveraged": Strike(_deleveraged),
    "liquidated": Strike(_liquidated),
    "liquidated in part": Strike(_liquidated_partly),
    "funded": Strike(at_once(_fund)),
    "market jumps": Strike(at_once(_jump)),
    "operator pauses": Strike(_pause),
    "operator cancels all": Strike(_command(Verb.CANCEL_ALL)),
    "operator kills": Strike(_command(Verb.KILL)),
    "operator flattens": Strike(_command(Verb.FLATTEN)),
    "operator adopts": Strike(_command(Verb.ADOPT)),
    "operator stops, orders waiting": Strike(_stopped_waiting),
    "killed, then all cancelled": Strike(_adopted_cancelled),
    "operator resumes": Strike(_command(Verb.RESUME)),
}
"""Hands, the risk engine and the operator hamper nothing: the service has to cope at once."""
