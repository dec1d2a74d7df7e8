"""A process that was stopped must not take deliveries that have waited meanwhile for new."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from oms_trio.amqp import rabbit
from oms_trio.amqp.call_queue import CallQueue
from oms_trio.amqp.model import HELD_S, Delivery, Outgoing
from oms_trio.amqp.rabbit import ConnectionRole, PendingConfirm, RabbitBroker
from tests.amqp.agents import PikaAgent, fresh_settings, until
from tests.rabbitmq import RabbitNode


@attrs.define
class RecordingAsyncioSide:
    """The asyncio thread's side, which records the calls."""

    returned: list[int] = attrs.Factory(list)
    acked: list[int] = attrs.Factory(list)

    def set_wanted(self, wanted: bool) -> None:  # noqa: FBT001 - as in the protocol
        pass

    def settle(self, tags: Sequence[int], *, requeue: bool) -> None:
        (self.returned if requeue else self.acked).extend(tags)

    def publish(self, messages: Sequence[Outgoing], confirm: PendingConfirm) -> None:
        raise NotImplementedError

    def dead_letter(self, tag: int, reason: str, confirm: PendingConfirm) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        pass


@attrs.define
class Rig:
    """The broker's Trio side, with a clock that the test sets."""

    now: float = 1000.0
    loop: RecordingAsyncioSide = attrs.Factory(RecordingAsyncioSide)
    broker: RabbitBroker = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        def at_once(call: Callable[[], object]) -> None:
            call()

        self.broker = RabbitBroker(self.loop, CallQueue(at_once))
        for role in ConnectionRole:
            self.broker.connection_up(role)

    def arrive(self, tag: int, *, expired: bool = False) -> None:
        self.broker.add_delivery(
            Delivery(tag, b"", None, redelivered=False, expired=expired), self.now
        )

    async def received(self) -> list[int]:
        """What is received now, if anything is."""
        got: list[int] = []
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def receive() -> None:
                    got.extend(delivery.tag for delivery in await self.broker.receive())

                nursery.start_soon(receive)
                await wait_all_tasks_blocked()
                scope.cancel()
        return got


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig()
    monkeypatch.setattr(rabbit, "uptime", lambda: made.now)
    made.broker.consume(True)
    return made


async def test_recent_deliveries_are_received(rig: Rig) -> None:
    rig.arrive(1)
    rig.now += HELD_S
    rig.arrive(2)
    assert await rig.received() == [1, 2]
    assert rig.loop.returned == []


async def test_old_deliveries_return_to_the_queue_and_recent_ones_are_received(
    rig: Rig,
) -> None:
    rig.arrive(1)
    rig.arrive(2)
    rig.now += 1.01 * HELD_S
    rig.arrive(3)
    assert await rig.received() == [3]
    assert rig.loop.returned == [1, 2]


async def test_receiving_goes_on_waiting_when_all_deliveries_are_old(rig: Rig) -> None:
    rig.arrive(1)
    rig.now += 14
    assert await rig.received() == []
    assert rig.loop.returned == [1]
    rig.arrive(2)
    assert await rig.received() == [2]


async def test_expired_actions_may_wait(rig: Rig) -> None:
    """They are not traded, so it does not matter how long ago they expired."""
    rig.arrive(1, expired=True)
    rig.now += 14
    assert await rig.received() == [1]


@attrs.frozen
class Paused:
    """A process that consumes, and an agent that publishes while it is stopped."""

    agent: PikaAgent
    process: subprocess.Popen[bytes]
    output: Path

    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    async def heard(self, line: str) -> None:
        await until(lambda: line in self.lines())


@pytest.fixture
async def paused(rabbitmq_node: RabbitNode, tmp_path: Path) -> AsyncIterator[Paused]:
    settings = fresh_settings(rabbitmq_node.port, message_ttl_ms=1_500)
    agent = PikaAgent(settings, rabbitmq_node)
    await agent.open()
    output = tmp_path / "heard"
    arguments = attrs.asdict(settings)
    command = [sys.executable, "-m", "tests.amqp.listener", json.dumps(arguments)]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)  # noqa: ASYNC220, S603 - our own program
    try:
        found = Paused(agent, process, output)
        await found.heard("listening")
        yield found
    finally:
        process.kill()
        process.wait()
        await agent.close()


@pytest.mark.rabbitmq
async def test_actions_that_arrive_during_a_pause_expire_and_later_ones_do_not(
    paused: Paused,
) -> None:
    await paused.agent.act(b"before")
    await paused.heard("live before")
    paused.process.send_signal(signal.SIGSTOP)
    await paused.agent.act(b"one", b"two")
    await trio.sleep(3)
    paused.process.send_signal(signal.SIGCONT)
    await paused.agent.act(b"after")
    await paused.heard("live after")
    await paused.heard("expired two")
    assert sorted(line for line in paused.lines() if line.split()[0] in {"live", "expired"}) == [
        "expired one",
        "expired two",
        "live after",
        "live before",
    ]


@pytest.mark.rabbitmq
async def test_actions_that_arrive_during_a_pause_shorter_than_their_time_to_live_do_not_expire(
    paused: Paused,
) -> None:
    paused.process.send_signal(signal.SIGSTOP)
    await trio.sleep(1.2 * HELD_S)
    await paused.agent.act(b"young")
    paused.process.send_signal(signal.SIGCONT)
    await paused.heard("live young")
    assert "expired young" not in paused.lines()
