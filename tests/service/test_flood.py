"""Twenty thousand actions at full speed, and the broker killed under them twice."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import cache, partial
from pathlib import Path

import pytest
import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.core.identity import order_name
from oms_trio.core.model import OrderType, StateId
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.server import serve
from tests.rabbitmq import RabbitNode
from tests.service.producer import DEAD, PikaAgent, agent_on
from tests.service.programs import broker_at, environment, exchange_at, running

ACTIONS = 20_000
WARM = 5_000
GROWTH_KB = 24_000
"""What is kept on purpose grows to its bounds: names of actions taken lately, ended orders. An
action that left a kilobyte behind would show."""

SECONDS = 60


def action(number: int) -> tuple[str, bytes]:
    """A message id and a body; buys and sells in turn."""
    offset = 0.2 if number % 2 else -0.2
    body = encode_action(number, OrderType.LIMIT, offset, 1.0, Decimal(67_000))
    return f"action-{number}", body


@cache
def name_of(number: int) -> str:
    """What the order of an action is called on the exchange."""
    message_id, body = action(number)
    return order_name(StateId(number), b"id" + message_id.encode() + body)


class Account:
    """What became of each action, by three independent witnesses."""

    def __init__(self, agent: PikaAgent, exchange: SimulatedExchange) -> None:
        self.agent = agent
        self.exchange = exchange
        self.refused: dict[int, str] = {}
        self.dead: set[int] = set()
        self.repeats = 0
        self._ids: set[str] = set()
        self._missing: list[int] = []
        self._upto = 0

    @property
    def ordered(self) -> Counter[str]:
        """Orders on the exchange by our name."""
        return Counter(order.cl_ord_id for order in self.exchange.ground_truth.orders())

    def read(self) -> None:
        """Read what the agent was told, and the dead letters."""
        for heard in self.agent.hear():
            if heard.properties.message_id in self._ids:
                self.repeats += 1
                continue
            self._ids.add(heard.properties.message_id)
            if heard.key == "execution.reject":
                state_id = heard.content["state_id"]
                assert state_id not in self.refused, "refused under two message ids"
                self.refused[state_id] = heard.content["reason"]
        for heard in self.agent.hear(DEAD):
            self.dead.add(int(heard.properties.message_id.removeprefix("action-")))

    def missing(self, upto: int) -> list[int]:
        """Actions of which nothing is known."""
        ordered = self.ordered
        self._missing += range(self._upto + 1, upto + 1)
        self._upto = max(self._upto, upto)
        self._missing = [
            number
            for number in self._missing
            if number not in self.refused
            and number not in self.dead
            and name_of(number) not in ordered
        ]
        return self._missing


@pytest.mark.rabbitmq
async def test_every_action_is_accounted_for_once_and_memory_stays_flat(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    node = rabbitmq_node
    in_thread = trio.to_thread.run_sync
    exchange = SimulatedExchange(seed=1)
    with agent_on(node, f"heard-{tmp_path.name}") as agent:
        account = Account(agent, exchange)

        async def until_accounted(upto: int) -> None:
            with trio.fail_after(SECONDS):
                while account.missing(upto):
                    await in_thread(account.read)

        async with trio.open_nursery() as nursery:
            port = await nursery.start(partial(serve, exchange))
            env = environment(tmp_path, **exchange_at(port), **broker_at(node.port))
            with running("run", env=env, output=tmp_path / "log") as service:
                await in_thread(service.wait_for, r"\bready\b")
                await in_thread(agent.publish, [action(n) for n in range(1, WARM + 1)])
                await until_accounted(WARM)
                warm_kb = service.rss_kb

                rest = [action(n) for n in range(WARM + 1, ACTIONS + 1)]
                async with trio.open_nursery() as producing:
                    producing.start_soon(in_thread, agent.publish, rest)
                    for links_up in (4, 6):
                        await trio.sleep(0.3)
                        await in_thread(node.kill)
                        await in_thread(node.start)
                        await in_thread(service.wait_for, "broker_connected", links_up)
                await until_accounted(ACTIONS)
                assert service.rss_kb - warm_kb < GROWTH_KB

                ended = await in_thread(service.stop)
                assert (ended.code, ended.seconds < 5) == (0, True), ended.text
                assert "Traceback" not in ended.text
            nursery.cancel_scope.cancel()
        await in_thread(account.read)

    ordered = account.ordered
    assert not account.missing(ACTIONS)
    assert set(ordered.values()) == {1}, "an action became two orders"
    assert not set(ordered) - {name_of(number) for number in range(1, ACTIONS + 1)}
    both = {number for number in account.refused if name_of(number) in ordered}
    assert not both, "an agent was told of a refusal although there is an order"
    assert len(ordered) > 100
    reasons = Counter(account.refused.values())
    assert set(reasons) <= {"margin_cap", "rate_limited", "stale", "not_ready"}, reasons
