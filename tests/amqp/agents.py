"""The other end of the broker: an agent that publishes actions and receives their messages."""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import attrs
import pika
import pika.exceptions
import trio

from oms_trio.amqp.memory import DeadLetter, MemoryBroker
from oms_trio.amqp.model import Broker, Delivery, Outgoing
from oms_trio.amqp.settings import BrokerSettings
from tests.amqp.proxy import Proxy
from tests.rabbitmq import RabbitNode

PATIENCE_S = 20.0
"""How long a test waits for something that must happen."""

_numbers = itertools.count(1)


class Agent(Protocol):
    """What the common tests need besides the broker."""

    async def act(self, *bodies: bytes, message_id: str | None = None) -> None:
        """Publish actions."""

    async def depth(self) -> int:
        """Count the actions that wait in the queue."""

    async def executions(self, count: int) -> list[Outgoing]:
        """Wait for the next ``count`` messages to the agent."""

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        """Wait for the next ``count`` dead letters."""

    async def leave(self) -> None:
        """Listen to executions no more."""

    async def begin_outage(self) -> None:
        """Cut the broker off, and return when it has noticed."""

    async def end_outage(self) -> None:
        """Let the broker be reached again, and return when it is."""


def fresh_settings(port: int, **changes: Any) -> BrokerSettings:
    """Return settings with names that no other test uses."""
    mark = f"{os.getpid()}-{next(_numbers)}"
    return attrs.evolve(
        BrokerSettings(
            host="127.0.0.1",
            port=port,
            action_exchange=f"oms-{mark}",
            action_queue=f"actions-{mark}",
            execution_exchange=f"executions-{mark}",
            dead_letter_exchange=f"dead-letter-{mark}",
            dead_letter_queue=f"dead-{mark}",
            message_ttl_ms=60_000,
        ),
        **changes,
    )


async def take(broker: Broker, count: int) -> list[Delivery]:
    """Receive until there are ``count`` deliveries."""
    deliveries: list[Delivery] = []
    with trio.fail_after(PATIENCE_S):
        while len(deliveries) < count:
            deliveries.extend(await broker.receive())
    assert len(deliveries) == count
    return deliveries


async def until(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    """Wait for a state of the other program, by polling."""
    with trio.fail_after(PATIENCE_S):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await trio.sleep(0.01)


@attrs.define(eq=False)
class MemoryAgent:
    """The agent's side of the broker in memory."""

    broker: MemoryBroker
    _executions: trio.MemoryReceiveChannel[Outgoing] = attrs.field(init=False)
    _seen_dead: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._executions = self.broker.subscribe()

    async def act(self, *bodies: bytes, message_id: str | None = None) -> None:
        for body in bodies:
            self.broker.publish_action(body, message_id)

    async def depth(self) -> int:
        return self.broker.depth

    async def executions(self, count: int) -> list[Outgoing]:
        with trio.fail_after(PATIENCE_S):
            return [await self._executions.receive() for _ in range(count)]

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        await until(lambda: len(self.broker.dead_letters) >= self._seen_dead + count)
        news = self.broker.dead_letters[self._seen_dead :]
        self._seen_dead += len(news)
        return news

    async def leave(self) -> None:
        self._executions.close()

    async def begin_outage(self) -> None:
        self.broker.set_available(False)

    async def end_outage(self) -> None:
        self.broker.set_available(True)


@attrs.define(eq=False)
class PikaAgent:
    """An agent at the real broker, with a client other than ours."""

    settings: BrokerSettings
    node: RabbitNode
    broker: Broker | None = None
    proxy: Proxy | None = None
    connection: Any = None
    channel: Any = None

    async def open(self) -> None:
        """Connect and bind a queue to what the service publishes."""
        await trio.to_thread.run_sync(self._open)

    async def close(self) -> None:
        await trio.to_thread.run_sync(self.connection.close)

    async def act(self, *bodies: bytes, message_id: str | None = None) -> None:
        await trio.to_thread.run_sync(self._act, bodies, message_id)

    async def depth(self) -> int:
        return await trio.to_thread.run_sync(self._depth)

    async def executions(self, count: int) -> list[Outgoing]:
        return [
            Outgoing(
                properties.message_id,
                method.routing_key,
                body,
                (properties.headers or {}).get("x-oms-cause", ""),
            )
            for method, properties, body in await self.raw_executions(count)
        ]

    async def raw_executions(self, count: int) -> list[Any]:
        return await self._get(f"heard-{self.settings.execution_exchange}", count)

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        return [
            DeadLetter(body, properties.message_id, _reason(properties.headers))
            for _, properties, body in await self.raw_dead_letters(count)
        ]

    async def raw_dead_letters(self, count: int) -> list[Any]:
        return await self._get(self.settings.dead_letter_queue, count)

    async def leave(self) -> None:
        heard = f"heard-{self.settings.execution_exchange}"
        await trio.to_thread.run_sync(self.channel.queue_delete, heard)

    async def begin_outage(self) -> None:
        assert self.proxy is not None
        self.proxy.refusing = True
        self.proxy.cut()
        await self.until_connected(connected=False)

    async def end_outage(self) -> None:
        assert self.proxy is not None
        self.proxy.refusing = False
        await self.until_connected(connected=True)

    async def until_connected(self, *, connected: bool) -> None:
        broker = self.broker
        assert broker is not None
        await until(lambda: broker.connected is connected)

    def _open(self) -> None:
        if self.connection is not None:
            with suppress(pika.exceptions.AMQPError):
                self.connection.close()
        self.connection = self.node.connect()
        self.channel = self.connection.channel()
        exchange = self.settings.execution_exchange
        self.channel.exchange_declare(exchange, "topic", durable=True)
        self.channel.queue_declare(f"heard-{exchange}", durable=True)
        self.channel.queue_bind(f"heard-{exchange}", exchange, "#")

    def _act(self, bodies: tuple[bytes, ...], message_id: str | None) -> None:
        for body in bodies:
            self.channel.basic_publish(
                self.settings.action_exchange,
                self.settings.action_routing_key,
                body,
                pika.BasicProperties(message_id=message_id, delivery_mode=2),
            )
        # A call with an answer: all of the above has been read when it comes.
        self._depth()

    def _depth(self) -> int:
        declared = self.channel.queue_declare(self.settings.action_queue, passive=True)
        return int(declared.method.message_count)

    async def _get(self, queue: str, count: int) -> list[Any]:
        found: list[Any] = []
        with trio.fail_after(PATIENCE_S):
            while len(found) < count:
                got = await trio.to_thread.run_sync(self.channel.basic_get, queue, True)
                if got[0] is None:
                    await trio.sleep(0.01)
                else:
                    found.append(got)
        return found


def _reason(headers: dict[str, Any]) -> str:
    if "x-oms-reason" in headers:
        return str(headers["x-oms-reason"])
    return str(headers["x-death"][0]["reason"])
