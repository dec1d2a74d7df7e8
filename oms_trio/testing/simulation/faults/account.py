"""What happens on the account besides the agent: manual trades, liquidation, funding, the operator."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Final

import trio

from oms_trio.core.effects import PlaceOrder
from oms_trio.core.events import Verb
from oms_trio.testing.simulation.faults.kind import FaultKind, Inject, at_once, switched
from oms_trio.testing.simulation.world import SimulatedWorld

REPORTED: Final = (0, 1, 2)
"""How liquidations and ADL are reported: by pushes, by REST's lists, or by bills alone;
documentation and reports disagree."""

SIZES: Final = (Decimal(1), Decimal(20), Decimal(200))
"""Contracts traded by hand: much less than ours, about as many, and far above the cap."""

BURST: Final = (70, 120)
"""So many actions at once: the exchange's limit is 60 orders in 2 s."""

WAITING: Final = 8
"""With so many unanswered orders some wait for the rate limit."""

SIDES: Final = ("buy", "sell")


async def _hand_trade(world: SimulatedWorld, random: Random) -> None:
    """Trade by hand, and close that trade again: the position is unexplained meanwhile."""
    side, back = random.sample(SIDES, 2)
    sz = random.choice(SIZES)
    if not world.market.trade_by_hand(side, sz):
        return
    with world.market.trading_by_hand():
        try:
            await trio.sleep(random.uniform(0.5, 60.0))
        finally:
            world.market.close_hand_trade(back, sz)


def _lasting_trade(world: SimulatedWorld, random: Random) -> None:
    """Trade by hand and keep it: the operator has to adopt the position."""
    world.market.trade_by_hand(random.choice(SIDES), random.choice(SIZES))


async def _adl(world: SimulatedWorld, random: Random) -> None:
    """Let ADL close a part of the position."""
    await trio.lowlevel.checkpoint()
    lot = world.exchange.instrument.lot_sz
    if (held := abs(world.exchange.engine.ledger.pos)) and not world.monitor.by_hand:
        with switched(world, "hide_risk_orders", value=random.choice(REPORTED)):
            world.exchange.deleverage(min(held, lot * random.randint(1, 400)))


async def _liquidated(world: SimulatedWorld, random: Random) -> None:
    """Let a liquidation close the whole position."""
    await trio.lowlevel.checkpoint()
    if world.exchange.engine.ledger.pos and not world.monitor.by_hand:
        with switched(world, "hide_risk_orders", value=random.choice(REPORTED)):
            world.exchange.liquidate()


async def _liquidated_partly(world: SimulatedWorld, random: Random) -> None:
    """Let a partial liquidation close some of the position, as it does first with large ones."""
    await trio.lowlevel.checkpoint()
    if (held := abs(world.exchange.engine.ledger.pos)) and not world.monitor.by_hand:
        lot = world.exchange.instrument.lot_sz
        part = max(lot, held / random.choice((2, 3, 7)) // lot * lot)
        with switched(world, "hide_risk_orders", value=random.choice(REPORTED)):
            world.exchange.liquidate(part)


def _fund(world: SimulatedWorld, random: Random) -> None:
    world.market.settle_funding(Decimal(random.randint(-75, 75)) / 10_000)


def _jump(world: SimulatedWorld, random: Random) -> None:
    """Move the price by up to 10 % at once."""
    world.market.jump(Decimal(random.choice((-1, 1)) * random.randint(10, 100)) / 1000)


def _command(verb: Verb) -> Inject:
    """Make a fault of one command; the operator on duty resumes trading later."""

    async def inject(world: SimulatedWorld, _random: Random) -> None:
        await world.command(verb)

    return inject


async def _pause(world: SimulatedWorld, random: Random) -> None:
    if await world.command(Verb.PAUSE):
        await trio.sleep(random.uniform(1.0, 60.0))
        await world.command(Verb.RESUME)


async def _stop_while_waiting(world: SimulatedWorld, random: Random) -> None:
    """Stop trading while orders wait: for the rate limit, for another try, or to be looked up."""
    chance = random.random()
    if chance < 0.3:
        world.exchange.reject_next_orders(random.choice(("50011", "50061")), 3)
    elif chance < 0.6:
        world.burst(random.randint(*BURST))
    with trio.move_on_after(world.workload.patience_s):
        await world.wait_for_state(
            lambda state: (
                any(order.verify_before_send or order.retry_due_ns for order in state.orders)
                or sum(order.awaiting_ack for order in state.orders) >= WAITING
            )
        )
    await world.command(random.choice((Verb.PAUSE, Verb.KILL, Verb.CANCEL_ALL, Verb.CANCEL_ALL)))


async def _kill_then_cancel_all(world: SimulatedWorld, random: Random) -> None:
    """Kill the process just after it has sent an order; when the next one is up, cancel everything."""
    with trio.move_on_after(world.workload.patience_s):
        await world.wait_for_effect(PlaceOrder)
    await trio.sleep(random.uniform(0.0005, 0.003))
    world.kill()
    process = await world.next_process()
    with trio.move_on_after(30.0):
        await process.started.wait()
    await world.command(random.choice((Verb.CANCEL_ALL, Verb.KILL)))


async def on_duty(world: SimulatedWorld, random: Random) -> None:
    """Adopt manual trades that stay, and resume after every pause; ends by cancellation only."""
    while True:
        await trio.sleep(random.uniform(15.0, 90.0))
        state, monitor = world.state, world.monitor
        if state is None or world.market.manual_traders:
            continue
        if monitor.by_hand:
            await world.command(Verb.ADOPT)
        elif state.risk.paused is not None and not monitor.adopting:
            await world.command(Verb.RESUME)


FAULT_KINDS: Final[dict[str, FaultKind]] = {
    "traded by hand": FaultKind(_hand_trade),
    "traded by hand, stays": FaultKind(at_once(_lasting_trade)),
    "ADL": FaultKind(_adl),
    "liquidated": FaultKind(_liquidated),
    "partly liquidated": FaultKind(_liquidated_partly),
    "funding": FaultKind(at_once(_fund)),
    "price jumps": FaultKind(at_once(_jump)),
    "operator pauses": FaultKind(_pause),
    "operator cancels all": FaultKind(_command(Verb.CANCEL_ALL)),
    "operator kills": FaultKind(_command(Verb.KILL)),
    "operator flattens": FaultKind(_command(Verb.FLATTEN)),
    "operator adopts": FaultKind(_command(Verb.ADOPT)),
    "operator stops, orders waiting": FaultKind(_stop_while_waiting),
    "killed, then all cancelled": FaultKind(_kill_then_cancel_all),
    "operator resumes": FaultKind(_command(Verb.RESUME)),
}
"""None of these impairs anything: the service has to cope at once."""
