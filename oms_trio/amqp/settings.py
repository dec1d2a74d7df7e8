"""Where RabbitMQ is and what our queues and exchanges are called there."""

from __future__ import annotations

from pathlib import Path

import attrs


def _masked(_secret: str) -> str:
    return "***"


@attrs.frozen
class BrokerSettings:
    """Everything that a connection needs; ``password`` never shows in a repr.

    ``message_ttl_ms`` is the age at which a waiting action moves to the dead letters.
    ``prefetch`` bounds the deliveries that we hold unacknowledged. ``ca_file`` (PEM) replaces
    the system's certificate authorities; certificates are always verified.
    """

    host: str = "localhost"
    port: int = 5672
    user: str = "guest"
    password: str = attrs.field(default="guest", repr=_masked)
    vhost: str = "/"
    tls: bool = False
    ca_file: Path | None = None
    action_exchange: str = "oms"
    action_routing_key: str = "oms.action"
    action_queue: str = "oms_action_queue"
    execution_exchange: str = "execution-exchange"
    dead_letter_exchange: str = "oms.dead-letter"
    dead_letter_queue: str = "oms_action_queue.dead"
    message_ttl_ms: int = 5_000
    prefetch: int = 256

    @property
    def address(self) -> str:
        """Host and port for a person to read."""
        return f"{self.host}:{self.port}"
