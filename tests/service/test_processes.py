"""Broker, exchange and service as separate programs, and an agent by a client not ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType
from oms_trio.journal.journal import Journal
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import serve
from oms_trio.testing.okx_server.values import ExchangeOrder
from tests.rabbitmq import RabbitNode
from tests.service.producer import DEAD, Heard, PikaAgent, agent_on
from tests.service.programs import (
    broker_at,
    environment,
    exchange_at,
    running,
    simulated_exchange,
)
from tests.service.rig import SIZED_ACTIONS

pytestmark = pytest.mark.rabbitmq

VECTORS = {
    1: "010000000000000000000000a00000000000006000e03b6600",
    4294967295: "ffffffff010000000000000040ffffffffffff1700e13b6600",
    7: "070000000000ac1c5a643bdfff000000000000e07f00e1f505",
    42: "2a000000000000000000000000ffffffffffff2f0039d86100",
}


def test_vectors_published_by_a_strange_client_are_traded(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    """Every part is a process of its own; what is no action ends with the dead letters."""
    with (
        simulated_exchange(tmp_path) as exchange,
        agent_on(rabbitmq_node, f"heard-{tmp_path.name}") as agent,
    ):
        env = environment(tmp_path, **exchange, **broker_at(rabbitmq_node.port))
        with running("run", env=env, output=tmp_path / "log") as service:
            service.wait_for(r"\bready\b")
            agent.publish([(None, bytes.fromhex(vector)) for vector in VECTORS.values()])
            agent.publish([("bad", b"no action")])
            service.wait_for("action_malformed")
            told: list[Heard] = []
            while not [heard for heard in told if heard.content["state_id"] == 4294967295]:
                told += agent.hear()
            (dead,) = agent.hear(DEAD)
            ended = service.stop()
    assert ended.code == 0
    assert "Traceback" not in ended.text
    assert (dead.body, dead.properties.message_id) == (b"no action", "bad")
    assert dead.properties.headers["x-oms-reason"] == "9 bytes instead of 25"
    market = next(heard for heard in told if heard.content["state_id"] == 4294967295)
    assert market.key == "execution.update", "a market order fills at once"
    assert market.properties.content_type == "application/json"
    assert market.properties.delivery_mode == 2
    assert market.properties.message_id
    with Journal.open(tmp_path / ".local/state/oms-trio/journal.sqlite", read_only=True) as journal:
        bodies = [record.raw.hex() for _, record in journal.tail(0) if record.kind == "action"]
    assert bodies == list(VECTORS.values())


@attrs.frozen
class Trading:
    """A service of its own process between a real broker and an exchange that obeys the test."""

    exchange: SimulatedExchange
    agent: PikaAgent
    heard: list[Heard]

    async def act(
        self, state_id: int, price: float, volume: float, mid: str, order_type: OrderType
    ) -> ExchangeOrder:
        """Publish an action and wait for its order."""
        body = encode_action(state_id, order_type, price, volume, Decimal(mid))
        before = len(self.exchange.ground_truth.orders())
        await trio.to_thread.run_sync(self.agent.publish, [(None, body)])
        with trio.fail_after(10):
            while len(self.exchange.ground_truth.orders()) == before:  # noqa: ASYNC110 - a log has no event
                await trio.sleep(0.01)
        return self.exchange.ground_truth.orders()[before]

    async def next(self) -> dict[str, Any]:
        """Wait for the next message to the agent."""
        with trio.fail_after(10):
            while not self.heard:
                self.heard.extend(await trio.to_thread.run_sync(self._hear))
        return self.heard.pop(0).content

    async def silent(self) -> bool:
        """Say whether the agent hears nothing more."""
        return not self.heard and not await trio.to_thread.run_sync(self._hear)

    def _hear(self) -> list[Heard]:
        return list(self.agent.hear(silence_s=0.05))


@asynccontextmanager
async def trading(
    folder: Path, node: RabbitNode, *, balance: str = "10000", mid: str = "67000"
) -> AsyncIterator[Trading]:
    """Run the service until the block ends."""
    exchange = SimulatedExchange(
        mode=MatchingMode.MANUAL,
        account=ExchangeAccount(balance=Decimal(balance)),
        start_px=Decimal(mid),
    )
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange))
        env = environment(folder, **exchange_at(port), **broker_at(node.port))
        with (
            agent_on(node, f"heard-{folder.name}") as agent,
            running("run", env=env, output=folder / "log") as service,
        ):
            await trio.to_thread.run_sync(service.wait_for, r"\bready\b")
            yield Trading(exchange, agent, [])
            ended = await trio.to_thread.run_sync(service.stop)
            assert ended.code == 0, ended.text
        nursery.cancel_scope.cancel()


@SIZED_ACTIONS
async def test_an_action_becomes_the_order_of_the_example(
    tmp_path: Path,
    rabbitmq_node: RabbitNode,
    balance: str,
    price: float,
    volume: float,
    mid: str,
    order_type: OrderType,
    side: str,
    px: str | None,
    sz: str,
) -> None:
    async with trading(tmp_path, rabbitmq_node, balance=balance, mid=mid) as rig:
        order = await rig.act(1, price, volume, mid, order_type)
        assert order.side.value == side
        assert order.px == (None if px is None else Decimal(px))
        assert order.sz == Decimal(sz)


async def test_the_worked_example_as_a_strange_consumer_reads_it(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    """Exactly the contract's messages in exactly its order, through a real broker."""
    async with trading(tmp_path, rabbitmq_node) as rig:

        async def place(state_id: int, sign: int, sz: str) -> str:
            volume = float(Decimal(sz) * 670 / 1000) * 0.99
            order = await rig.act(state_id, sign * 1e-9, volume, "67000", OrderType.LIMIT)
            assert order.sz == Decimal(sz)
            return order.ord_id

        def execution(state_id: int, okx_id: str) -> dict[str, Any]:
            return {"state_id": state_id, "okx_id": okx_id, "is_trade_closed": False}

        def fill(name: str, sz: str, px: str) -> None:
            rig.exchange.fill(name, Decimal(sz), Decimal(px))

        a = await place(1, -1, "2")
        fill(a, "2", "67000")
        b = await place(2, -1, "3")
        fill(b, "1", "66900")
        assert [await rig.next(), await rig.next()] == [execution(1, a), execution(2, b)]
        rig.exchange.push_position(upl_ratio=Decimal("-0.04"))
        c = await place(3, 1, "5")
        fill(c, "5", "67100")
        fill(b, "1", "66900")
        fill(b, "1", "66950")
        assert [await rig.next() for _ in range(5)] == [
            execution(3, c),
            {
                "state_id": 3,
                "okx_id": c,
                "is_trade_closed": True,
                "filled_portions": [{a: 1.0}, {b: pytest.approx(1 / 3)}, {c: 0.6}],
                "reward": pytest.approx(3.68),
            },
            execution(3, c),
            execution(2, b),
            {
                "state_id": 2,
                "okx_id": b,
                "is_trade_closed": True,
                "filled_portions": [{c: 0.4}, {b: pytest.approx(2 / 3)}],
                "reward": pytest.approx(3.5),
            },
        ]
        assert await rig.silent()
