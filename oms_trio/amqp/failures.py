"""What we tell an operator whom RabbitMQ turned away: one line, what to change, no secret."""

from __future__ import annotations

from oms_trio.amqp.model import (
    BrokerError,
    BrokerMisconfigured,
    BrokerRefused,
    BrokerUnavailable,
    BrokerUnreachable,
)
from oms_trio.amqp.settings import BrokerSettings


def at_first_connect(error: BrokerError, settings: BrokerSettings) -> BrokerError:
    """Say what a failure means before any link stood: then waiting does not help."""
    if not isinstance(error, BrokerUnavailable):
        return error
    return BrokerUnreachable(
        f"no RabbitMQ at {settings.address}: {error}; "
        "check RABBITMQ_HOST, RABBITMQ_PORT and RABBITMQ_TLS"
    )


def login_refused(settings: BrokerSettings) -> BrokerRefused:
    """Wrong user or password (403 in the handshake)."""
    return BrokerRefused(
        f"RabbitMQ at {settings.address} refused user {settings.user!r}: "
        "check RABBITMQ_USER and RABBITMQ_PASS"
    )


def vhost_refused(settings: BrokerSettings) -> BrokerRefused:
    """The virtual host does not exist, or the user may not enter it (530)."""
    return BrokerRefused(
        f"RabbitMQ at {settings.address} does not let user {settings.user!r} into virtual "
        f"host {settings.vhost!r}: check RABBITMQ_VHOST and the user's rights"
    )


def rights_missing(settings: BrokerSettings, told: str) -> BrokerRefused:
    """The user may not declare, read or write something of ours (403 on a channel)."""
    return BrokerRefused(
        f"user {settings.user!r} lacks rights on RabbitMQ's virtual host {settings.vhost!r}: {told}"
    )


def exists_otherwise(told: str) -> BrokerMisconfigured:
    """A queue or exchange exists with other properties (406); RabbitMQ says which and how."""
    return BrokerMisconfigured(
        f"{told}. Delete what exists, or set other names (OMS_ACTION_QUEUE ...) "
        "or the OMS_MAX_ACTION_AGE that it was made with"
    )
