"""An agent by a client that we did not write: it publishes and reads with pika alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import pika
import pika.exceptions

from tests.rabbitmq import RabbitNode

EXCHANGE, KEY = "oms", "oms.action"
QUEUE = "oms_action_queue"
DEAD = f"{QUEUE}.dead"
EXPIRED = f"{QUEUE}.expired"
EXECUTIONS = "execution-exchange"
BATCH = 500


@attrs.frozen
class Heard:
    """One message as pika gave it."""

    key: str
    properties: Any
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The JSON in it."""
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


@attrs.define
class PikaAgent:
    """The names of the contract, spoken to by pika. Every call blocks."""

    node: RabbitNode
    queue: str
    """Where it hears of executions: durable, so that it survives the broker's end."""
    connection: Any = None
    channel: Any = None

    def connect(self, seconds: float = 20) -> None:
        """Connect, as often as it takes; publishing is transactional."""
        deadline = time.monotonic() + seconds
        while True:
            self._leave()
            try:
                self.connection = self.node.connect()
                break
            except (pika.exceptions.AMQPError, OSError):
                assert time.monotonic() < deadline, "no broker"
                time.sleep(0.1)
        self.channel = self.connection.channel()
        self.channel.exchange_declare(EXECUTIONS, "topic", durable=True)
        self.channel.queue_declare(self.queue, durable=True)
        self.channel.queue_bind(self.queue, EXECUTIONS, "execution.*")
        self.channel.tx_select()

    def publish(self, actions: Sequence[tuple[str | None, bytes]]) -> None:
        """Publish actions with their message ids until the broker has committed all of them.

        A batch whose commit is lost is published again by the same ids, as a careful producer
        does.
        """
        for start in range(0, len(actions), BATCH):
            while True:
                try:
                    for message_id, body in actions[start : start + BATCH]:
                        properties = pika.BasicProperties(message_id=message_id, delivery_mode=2)
                        self.channel.basic_publish(EXCHANGE, KEY, body, properties)
                    self.channel.tx_commit()
                    break
                except (pika.exceptions.AMQPError, OSError):
                    self.connect()

    def hear(self, queue: str | None = None, *, silence_s: float = 0.3) -> Iterator[Heard]:
        """Take what is in a queue until it has been silent for a while.

        Each message is acknowledged only when the next one is asked for, and what the channel
        holds at its end goes back to the queue.
        """
        while True:
            try:
                channel = self.connection.channel()
                got = channel.consume(queue or self.queue, inactivity_timeout=silence_s)
                for method, properties, body in got:
                    if method is None:
                        channel.close()
                        return
                    yield Heard(method.routing_key, properties, body)
                    channel.basic_ack(method.delivery_tag)
            except (pika.exceptions.AMQPError, OSError):
                self.connect()

    def close(self) -> None:
        """Remove the queue and leave."""
        self.channel.queue_delete(self.queue)
        self._leave()

    def _leave(self) -> None:
        if self.connection is not None:
            with suppress(pika.exceptions.AMQPError, OSError):
                self.connection.close()


@contextmanager
def agent_on(node: RabbitNode, queue: str) -> Iterator[PikaAgent]:
    """An agent with empty queues of the contract's names."""
    agent = PikaAgent(node, queue)
    agent.connect()
    for name in (QUEUE, DEAD, EXPIRED):
        agent.channel.queue_delete(name)
    try:
        yield agent
    finally:
        agent.close()
