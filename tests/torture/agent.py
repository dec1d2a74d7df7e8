"""The agent's side of the broker: a producer and collectors in threads, with pika."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import attrs
import pika
import pika.exceptions

from tests.torture.plan import PlannedAction

LOST = (pika.exceptions.AMQPError, OSError)
AGAIN_S = 0.2

Connect = Callable[[], Any]
"""Opens a connection to the broker."""


@attrs.frozen
class BrokerNames:
    """The names of a run's exchanges and queues: runs share a broker."""

    mark: str

    @property
    def actions(self) -> str:
        """The exchange of the actions; its name is the prefix of every other name."""
        return f"oms-{self.mark}"

    @property
    def executions(self) -> str:
        """The exchange of the executions and rejections."""
        return f"{self.actions}.executions"

    @property
    def queue(self) -> str:
        """The queue of the actions."""
        return f"{self.actions}.queue"

    @property
    def dead(self) -> str:
        """The queue of the dead letters."""
        return f"{self.queue}.dead"

    @property
    def received(self) -> str:
        """The agent's own queue."""
        return f"{self.actions}.received"

    def environment(self) -> dict[str, str]:
        """Return the settings of the service."""
        return {
            "OMS_ACTION_EXCHANGE": self.actions,
            "OMS_ACTION_QUEUE": self.queue,
            "OMS_EXECUTION_EXCHANGE": self.executions,
            "OMS_DEAD_LETTER_EXCHANGE": f"{self.actions}.dead-letter",
        }


@attrs.frozen
class PublishedAction:
    """One message that was published; ``certain`` unless the broker's confirm is missing."""

    action: PlannedAction
    certain: bool


@attrs.frozen
class ReceivedMessage:
    """One message as it was received."""

    routing_key: str
    message_id: str | None
    body: bytes
    reason: str


@attrs.define
class Worker:
    """A thread that keeps a connection until ``stop``."""

    connect: Connect
    names: BrokerNames
    _stop: threading.Event = attrs.Factory(threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=20)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection = self.connect()
            except LOST:
                time.sleep(AGAIN_S)
                continue
            with suppress(*LOST):
                self.work(connection.channel())
            with suppress(*LOST):
                connection.close()
            self._stop.wait(AGAIN_S)

    def work(self, channel: Any) -> None:
        """Work until stopped; the exceptions of a lost connection may escape."""
        raise NotImplementedError


@attrs.define
class Producer(Worker):
    """Publishes the plan's actions, and again without a confirm if they have a ``message_id``."""

    actions: Iterator[PlannedAction] = attrs.field(kw_only=True)
    sent: list[PublishedAction] = attrs.Factory(list)
    _current: PlannedAction | None = None
    _left: int = 0

    def work(self, channel: Any) -> None:
        """Publish with confirms."""
        channel.confirm_delivery()
        while not self._stop.is_set():
            if self._current is None:
                self._current = next(self.actions)
                self._left = self._current.copies
                time.sleep(self._current.gap_s)
            action = self._current
            while self._left:
                try:
                    self._publish(channel, action)
                except LOST:
                    if action.message_id is None:
                        self._done(action, certain=False)
                    raise
                self._left -= 1
            self._done(action, certain=True)

    def _publish(self, channel: Any, action: PlannedAction) -> None:
        properties = pika.BasicProperties(message_id=action.message_id, delivery_mode=2)
        channel.basic_publish(
            self.names.actions, "oms.action", action.body, properties, mandatory=True
        )

    def _done(self, action: PlannedAction, *, certain: bool) -> None:
        self.sent.append(PublishedAction(action, certain))
        self._current = None


@attrs.define
class Collector(Worker):
    """Consumes a durable queue, and acknowledges each message after it is kept."""

    queue: str = attrs.field(kw_only=True)
    messages: list[ReceivedMessage] = attrs.Factory(list)

    def work(self, channel: Any) -> None:
        """Consume."""
        channel.basic_qos(prefetch_count=100)
        for method, properties, body in channel.consume(self.queue, inactivity_timeout=0.2):
            if self._stop.is_set():
                return
            if method is None:
                continue
            reason = _reason(properties.headers or {})
            self.messages.append(
                ReceivedMessage(method.routing_key, properties.message_id, body, reason)
            )
            channel.basic_ack(method.delivery_tag)


def _reason(headers: dict[str, Any]) -> str:
    """Return why a message is a dead letter: the service's reason, or the broker's."""
    if "x-oms-reason" in headers:
        return str(headers["x-oms-reason"])
    deaths = headers.get("x-death") or [{}]
    return str(deaths[0].get("reason", ""))


def prepare(connect: Connect, names: BrokerNames) -> None:
    """Declare the agent's queue before anything is published to it."""
    connection = connect()
    channel = connection.channel()
    channel.exchange_declare(names.executions, "topic", durable=True)
    channel.queue_declare(names.received, durable=True)
    channel.queue_bind(names.received, names.executions, "execution.*")
    connection.close()


def waiting(connect: Connect, names: BrokerNames) -> int:
    """Count the actions that wait in the queue."""
    connection = connect()
    declared = connection.channel().queue_declare(names.queue, passive=True)
    connection.close()
    return int(declared.method.message_count)
