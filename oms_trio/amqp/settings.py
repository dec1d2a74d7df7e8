"""Where RabbitMQ is and what our queues and exchanges are called there."""

from __future__ import annotations

import ssl
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import attrs

from oms_trio.amqp.model import BrokerMisconfigured

ACTION_KEY: Final = "oms.action"
"""Routing key of actions."""

DEAD_LETTER_KEY: Final = "oms.dead-letter"
"""Routing key of what we move to the dead letters ourselves. Expired actions keep their own."""

NAME_BYTES: Final = 255
"""AMQP's limit for a name."""


def _masked(_secret: str) -> str:
    return "***"


@attrs.frozen
class BrokerSettings:
    """Everything that a connection needs; ``password`` never shows in a repr.

    ``message_ttl_ms`` is the age at which a waiting action moves to the dead letters.
    ``prefetch`` bounds the deliveries that we hold unacknowledged. ``ca_file`` (PEM) replaces
    the system's certificate authorities; certificates are always verified. ``transient`` makes
    the queue one that RabbitMQ removes soon after its consumer is gone. ``exclusive`` is for who
    turns actions into orders: no other such connection is let in at the same exchange and key,
    and actions that expired in the queue are delivered as well.
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

    def of_agent(self, name: str) -> BrokerSettings:
        """Return the other end of the same wire: executions come in, actions go out.

        The queue is the agent's own, called after ``name``.
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
        """The queue by which actions that expired in the action queue come back to us."""
        return f"{self.action_queue}.expired"

    @property
    def owner_queue(self) -> str:
        """The queue that stands for the right to take actions: RabbitMQ lets one connection have it.

        It holds no message. It is named after exchange and key, not after the action queue: a
        queue of another name at the same key gets every action a second time.
        """
        name = f"oms.action-owner.{self.action_exchange}.{self.action_routing_key}"
        if len(name.encode()) <= NAME_BYTES:
            return name
        return f"oms.action-owner.{sha256(name.encode()).hexdigest()}"

    @property
    def address(self) -> str:
        """Host and port for a person to read."""
        return f"{self.host}:{self.port}"

    def url(self, **query: str) -> str:
        """Return the address with the password in it; the virtual host is not part of it.

        A virtual host with a slash has more than one reading in a URL.
        """
        scheme = "amqps" if self.tls else "amqp"
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{user}:{password}@{host}:{self.port}/?{urlencode(query)}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return how certificates are verified, None without TLS.

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
