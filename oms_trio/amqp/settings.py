"""How RabbitMQ is reached, and the exchanges and queues that each connection declares there.

All are durable, and all exchanges are topics. They are declared at every connect. Both connections
declare the dead letters: we publish some ourselves, and the queue sends expired messages there.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import attrs

from oms_trio.amqp.model import BrokerMisconfigured

ACTION_KEY: Final = "oms.action"
"""Routing key of actions."""

DEAD_LETTER_KEY: Final = "oms.dead-letter"
"""Routing key of messages that we dead-letter ourselves. Expired actions keep their own."""

NAME_BYTES: Final = 255
"""AMQP's limit for the length of a name."""


def _masked(_secret: str) -> str:
    return "***"


@attrs.frozen
class BrokerSettings:
    """Everything that a connection needs; ``password`` never shows in a repr.

    ``message_ttl_ms`` is the age at which a waiting action moves to the dead letters. ``prefetch`` bounds
    the unacknowledged deliveries. ``ca_file`` (PEM) replaces the system's certificate authorities;
    certificates are always verified. A ``transient`` queue is removed by RabbitMQ soon after its consumer
    has gone. ``exclusive`` is for the service that turns actions into orders: RabbitMQ admits only one
    such connection per exchange and key, and actions that expired in the queue are delivered to it too.
    """

    host: str = "localhost"
    port: int = 5672
    user: str = "guest"
    password: str = attrs.field(default="guest", repr=_masked)
    vhost: str = "/"
    tls: bool = False
    ca_file: Path | None = None
    action_exchange: str = "oms"
    action_routing_key: str = ACTION_KEY
    action_queue: str = "oms_action_queue"
    execution_exchange: str = "execution-exchange"
    dead_letter_exchange: str = "oms.dead-letter"
    dead_letter_queue: str = "oms_action_queue.dead"
    message_ttl_ms: int = 5_000
    prefetch: int = 256
    transient: bool = False
    exclusive: bool = True

    def for_agent(self, name: str) -> BrokerSettings:
        """Return the agent's settings: it consumes executions and publishes actions.

        The queue is the agent's own, and contains ``name``.
        """
        return attrs.evolve(
            self,
            action_exchange=self.execution_exchange,
            action_routing_key="execution.*",
            action_queue=f"{self.action_queue}.agent.{name}",
            execution_exchange=self.action_exchange,
            message_ttl_ms=60_000,
            transient=True,
            exclusive=False,
        )

    @property
    def expired_queue(self) -> str:
        """The queue through which actions that expired in the action queue return to us."""
        return f"{self.action_queue}.expired"

    @property
    def owner_queue(self) -> str:
        """An empty queue that represents the right to consume actions; one connection can have it.

        It is named after exchange and key, not after the action queue: a queue of another name with
        the same key would receive every action a second time.
        """
        name = f"oms.action-owner.{self.action_exchange}.{self.action_routing_key}"
        if len(name.encode()) <= NAME_BYTES:
            return name
        return f"oms.action-owner.{sha256(name.encode()).hexdigest()}"

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"

    def url(self, **query: str) -> str:
        """Return the URL, which contains the password but not the virtual host.

        A virtual host with a slash is ambiguous in a URL.
        """
        scheme = "amqps" if self.tls else "amqp"
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{user}:{password}@{host}:{self.port}/?{urlencode(query)}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the context that verifies certificates, None without TLS.

        Raises:
            BrokerMisconfigured: the CA file cannot be read.
        """
        if not self.tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            reason = error.strerror or "not a PEM file"
            raise BrokerMisconfigured(
                f"cannot use the CA file {self.ca_file}: {reason}; check RABBITMQ_CA_FILE"
            ) from None


@attrs.frozen
class Queue:
    """A queue and its bindings. ``arguments`` may contain only arguments that RabbitMQ compares."""

    name: str
    exchange: str
    routing_keys: tuple[str, ...]
    arguments: Mapping[str, str | int] = {}


@attrs.frozen
class Topology:
    """The exchanges and queues that a connection declares, exchanges first."""

    exchanges: tuple[str, ...]
    queues: tuple[Queue, ...]


def consumed_topology(settings: BrokerSettings) -> Topology:
    """Return the queues of actions, and the dead letters to which actions expire.

    Actions that were published with their key, or directly to the queue by its name, return from the
    dead letters to us, because the agent must be informed. Messages that we dead-letter have another
    key.
    """
    arguments: dict[str, str | int] = {"x-message-ttl": settings.message_ttl_ms}
    if settings.transient:
        arguments["x-expires"] = settings.message_ttl_ms
    else:
        arguments["x-dead-letter-exchange"] = settings.dead_letter_exchange
    actions = Queue(
        settings.action_queue, settings.action_exchange, (settings.action_routing_key,), arguments
    )
    queues = [_dead_letters(settings), actions]
    if settings.exclusive:
        keys = settings.action_routing_key, settings.action_queue
        queues.append(Queue(settings.expired_queue, settings.dead_letter_exchange, keys))
    return Topology((settings.dead_letter_exchange, settings.action_exchange), tuple(queues))


def published_topology(settings: BrokerSettings) -> Topology:
    """Return the exchanges of executions and dead letters; agents declare their own queues."""
    return Topology(
        (settings.dead_letter_exchange, settings.execution_exchange), (_dead_letters(settings),)
    )


def _dead_letters(settings: BrokerSettings) -> Queue:
    return Queue(settings.dead_letter_queue, settings.dead_letter_exchange, ("#",))
