"""A short simulation in which a test causes the faults; its end is audited like a long run's."""

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
from oms_trio.testing.simulation.invariants.at_rest import why_not_at_rest
from oms_trio.testing.simulation.invariants.audit import Auditor
from oms_trio.testing.simulation.random_agent import PublishedAction
from oms_trio.testing.simulation.replayed import replay
from oms_trio.testing.simulation.run_settings import CONTEXT, RULES
from oms_trio.testing.simulation.wire_trace import WireTrace
from oms_trio.testing.simulation.world import SimulatedWorld, open_world

PATIENT = attrs.evolve(RULES, max_order_age_ns=None, max_open_orders=300)
"""Orders are not cancelled by age or number, unless a scenario is about that."""


@attrs.define
class Scenario:
    """A simulated world, and an agent that publishes what a test wants."""

    world: SimulatedWorld
    published: list[PublishedAction] = attrs.Factory(list)

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
    def messages(self) -> list[dict[str, Any]]:
        """What the agent received, without repeats of a ``message_id``."""
        received = {message.message_id: message.body for message in self.world.received}
        return [msgspec.json.decode(body) for body in received.values()]

    @property
    def rejections(self) -> list[str]:
        return [message["reason"] for message in self.messages if "reason" in message]

    @property
    def orders(self) -> list[ExchangeOrder]:
        """Our orders at the exchange, ended ones included."""
        return [order for order in self.exchange.ground_truth.orders() if order.tag == CONTEXT.tag]

    def publish_action(self, side: str, sz: str = "1", *, message_id: str | None = None) -> None:
        """Publish an action that becomes an order for this many contracts, near the mid price."""
        number = len(self.published) + 1
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
        self.published.append(PublishedAction(body, number, message_id))
        self.world.broker.publish_action(body, message_id)

    async def place_order(self, side: str, sz: str = "1") -> str:
        """Publish an action, wait until its order is at the exchange, and return its ``ordId``."""
        before = len(self.orders)
        self.publish_action(side, sz)
        await self.until(lambda: len(self.orders) > before)
        await trio.sleep(0.1)
        return self.orders[-1].ord_id

    def fill(self, ord_id: str, sz: str = "1", px: str = "67000") -> None:
        """Fill an order in part."""
        self.exchange.fill(ord_id, Decimal(sz), Decimal(px))

    async def until(self, holds: Callable[[], object], within_s: float = 60.0) -> None:
        """Wait until a condition holds."""
        with trio.fail_after(within_s):
            while not holds():  # noqa: ASYNC110 - the condition has no event
                await trio.sleep(0.01)

    async def at_rest(self, within_s: float = 240.0) -> None:
        """Wait until the service agrees with the exchange and has published everything."""
        await self.until(lambda: not why_not_at_rest(self.world), within_s)
        await trio.sleep(1)  # the last decisions are on their way through disk and broker
        await self.until(lambda: not why_not_at_rest(self.world), within_s)


@asynccontextmanager
async def open_scenario(
    folder: Path, clock: MockClock, *, rules: Rules = PATIENT
) -> AsyncIterator[Scenario]:
    """Start the service, yield a scenario, and check all invariants after it.

    ``clock`` is the test's: it must jump, or virtual minutes would be real ones.
    """
    assert clock.autojump_threshold == 0
    async with trio.open_nursery() as nursery:
        world = open_world(1, folder, nursery, WireTrace(), mode=MatchingMode.MANUAL, rules=rules)
        nursery.start_soon(world.receive_messages)
        nursery.start_soon(world.supervise)
        process = await world.next_process()
        with trio.fail_after(30):
            await process.started.wait()
        scenario = Scenario(world)
        yield scenario
        await scenario.at_rest()
        await stop_service(world)
        with Journal.open(world.disk.journal) as journal:
            read = replay(
                journal, rules, CONTEXT, {process.recovered[0] for process in world.processes}
            )
        assert world.monitor.found + Auditor(world, scenario.published, read).audit() == []
        nursery.cancel_scope.cancel()


async def stop_service(world: SimulatedWorld) -> float:
    """Stop the service without another start; return how many seconds that took."""
    world.keep_down = True
    assert world.process is not None
    began = trio.current_time()
    world.stop()
    with trio.fail_after(60):
        await world.process.ended.wait()
    return trio.current_time() - began
