"""A service that was stopped for longer than an action may live trades nothing of what waited."""

from __future__ import annotations

import signal
import time
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import serve
from tests.rabbitmq import RabbitNode
from tests.service.producer import DEAD, QUEUE, Heard, PikaAgent, agent_on
from tests.service.programs import broker_at, environment, exchange_at, running

pytestmark = pytest.mark.rabbitmq

PAUSE_S = 14.0
"""Longer than an action may live (5 s), shorter than a broker waits for heartbeats (20 s)."""

SETTLED_S = 9.0
"""Longer than an action of an earlier process can still become an order after a start."""


def action(state_id: int) -> bytes:
    return encode_action(state_id, OrderType.LIMIT, -1e-9, 0.66, Decimal(67_000))


def rejections(agent: PikaAgent, count: int) -> list[Heard]:
    """Wait for so many messages to the agent: the exchange is asked about each action first."""
    heard: list[Heard] = []
    deadline = time.monotonic() + 30
    while len(heard) < count and time.monotonic() < deadline:
        heard += agent.hear()
    return heard


async def test_actions_of_the_time_in_which_the_service_was_stopped_are_stale_and_no_orders(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    exchange = SimulatedExchange(mode=MatchingMode.MANUAL)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange))
        env = environment(tmp_path, **exchange_at(port), **broker_at(rabbitmq_node.port))
        with (
            agent_on(rabbitmq_node, f"heard-{tmp_path.name}") as agent,
            running("run", env=env, output=tmp_path / "log") as service,
        ):
            await trio.to_thread.run_sync(service.wait_for, r"\bready\b")
            # An order of some time after the start: when a snapshot shows it, what an earlier process
            # may have sent would be shown as well, and expired actions can be decided.
            await trio.sleep(SETTLED_S)
            await trio.to_thread.run_sync(agent.publish, [(None, action(9))])
            with trio.fail_after(10):
                while not exchange.ground_truth.orders():  # noqa: ASYNC110 - a log has no event
                    await trio.sleep(0.01)
            service.process.send_signal(signal.SIGSTOP)
            # The first is on its way into the process when that is stopped, the second is not.
            await trio.to_thread.run_sync(agent.publish, [(None, action(1)), ("two", action(2))])
            await trio.sleep(PAUSE_S / 2)
            await trio.to_thread.run_sync(agent.publish, [(None, action(3))])
            await trio.sleep(PAUSE_S / 2)
            service.process.send_signal(signal.SIGCONT)
            heard = await trio.to_thread.run_sync(rejections, agent, 3)
            assert [(one.content["state_id"], one.content["reason"]) for one in heard] == [
                (1, "stale"),
                (2, "stale"),
                (3, "stale"),
            ]
            assert len(exchange.ground_truth.orders()) == 1
            dead = await trio.to_thread.run_sync(lambda: list(agent.hear(DEAD)))
            # A queue that another test has left at the same key gets copies, which expire as well.
            ours = [one for one in dead if one.properties.headers["x-first-death-queue"] == QUEUE]
            assert [one.body for one in ours] == [action(1), action(2), action(3)]
            # And it trades again, when it is whole.
            await trio.to_thread.run_sync(service.wait_for, r"process_paused")
            with trio.fail_after(30):
                while len(exchange.ground_truth.orders()) == 1:
                    await trio.to_thread.run_sync(agent.publish, [(None, action(4))])
                    await trio.sleep(0.5)
            ended = await trio.to_thread.run_sync(service.stop)
            assert ended.code == 0, ended.text
        nursery.cancel_scope.cancel()
