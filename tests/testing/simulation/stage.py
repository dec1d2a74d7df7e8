"""A short simulation with a script instead of drawn faults, audited like a long one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio
from trio.testing import MockClock

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType, Rules
from oms_trio.core.state import TradeState
from oms_trio.journal.journal import Journal
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.faults.switches import FaultSwitches
from oms_trio.testing.okx_server.values import ExchangeOrder
from oms_trio.testing.simulation.agent import Act
from oms_trio.testing.simulation.invariants.audit import Auditor
from oms_trio.testing.simulation.one_run import unsettled
from oms_trio.testing.simulation.replayed import replay
from oms_trio.testing.simulation.setting import CONTEXT, RULES
from oms_trio.testing.simulation.wire_trace import Tape
from oms_trio.testing.simulation.world import World, open_world

PATIENT = attrs.evolve(RULES, max_order_age_ns=None, max_open_orders=300)
"""Orders are not cancelled by age or number, unless a scenario is about that."""


@attrs.define
class Stage:
    """The world, and an agent that does what a scenario says."""

    world: World
    acts: list[Act] = attrs.Factory(list)

    @property
    def exchange(self) -> SimulatedExchange:
        return self.world.exchange

    @property
    def faults(self) -> FaultSwitches:
        return self.world.exchange.faults

    @property
    def state(self) -> TradeState:
        state = self.world.state
        assert state is not None
        return state

    @property
    def told(self) -> list[dict[str, Any]]:
        """What the agent heard, without repeats of a message."""
        heard = {message.message_id: message.body for message in self.world.heard}
        return [msgspec.json.decode(body) for body in heard.values()]

    @property
    def refusals(self) -> list[str]:
        return [text["reason"] for text in self.told if "reason" in text]

    @property
    def orders(self) -> list[ExchangeOrder]:
        """Our orders on the exchange."""
        return [order for order in self.exchange.ground_truth.orders() if order.tag == CONTEXT.tag]

    def act(self, side: str, sz: str = "1", *, message_id: str | None = None) -> None:
        """Publish an action that becomes an order for this many contracts, near the mid price."""
        number = len(self.acts) + 1
        state = self.state
        assert state.balance is not None
        volume = Decimal(sz) * 670 * 1000 / (state.balance * 100) * Decimal("0.99")
        body = encode_action(
            number,
            OrderType.LIMIT,
            -1e-9 if side == "buy" else 1e-9,
            float(volume),
            Decimal(67_000),
        )
        self.acts.append(Act(body, number, message_id))
        self.world.broker.publish_action(body, message_id)

    async def order(self, side: str, sz: str = "1") -> str:
        """Act, and wait until the order is on the exchange; returns its ``ordId``."""
        before = len(self.orders)
        self.act(side, sz)
        await self.until(lambda: len(self.orders) > before)
        await trio.sleep(0.1)
        return self.orders[-1].ord_id

    def fill(self, ord_id: str, sz: str = "1", px: str = "67000") -> None:
        """Match a part of an order."""
        self.exchange.fill(ord_id, Decimal(sz), Decimal(px))

    async def until(self, holds: Callable[[], object], within_s: float = 60.0) -> None:
        """Wait until something is true."""
        with trio.fail_after(within_s):
            while not holds():  # noqa: ASYNC110 - what is looked at has no event
                await trio.sleep(0.01)

    async def at_rest(self, within_s: float = 240.0) -> None:
        """Wait until the service holds what the exchange holds, and the agent was told."""
        await self.until(lambda: not unsettled(self.world), within_s)
        await trio.sleep(1)  # what was decided last is on its way through disk and broker
        await self.until(lambda: not unsettled(self.world), within_s)


@asynccontextmanager
async def stage(folder: Path, clock: MockClock, *, rules: Rules = PATIENT) -> AsyncIterator[Stage]:
    """Run a scenario with the service ready; then all invariants must hold.

    ``clock`` is the test's: it must jump, or minutes of market would be real ones.
    """
    assert clock.autojump_threshold == 0
    async with trio.open_nursery() as nursery:
        world = open_world(1, folder, nursery, Tape(), mode=MatchingMode.MANUAL, rules=rules)
        nursery.start_soon(world.listen)
        nursery.start_soon(world.live)
        life = await world.begun()
        with trio.fail_after(30):
            await life.started.wait()
        scene = Stage(world)
        yield scene
        await scene.at_rest()
        await end(world)
        with Journal.open(world.room.journal) as journal:
            read = replay(journal, rules, CONTEXT, {life.recovered[0] for life in world.lives})
        assert world.monitor.found + Auditor(world, scene.acts, read).audit() == []
        nursery.cancel_scope.cancel()


async def end(world: World) -> float:
    """Stop the service for good; returns how long that took."""
    world.down = True
    assert world.life is not None
    asked = trio.current_time()
    world.stop()
    with trio.fail_after(60):
        await world.life.ended.wait()
    return trio.current_time() - asked
