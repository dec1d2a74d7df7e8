"""Errors for an operator when RabbitMQ rejects us: one line, what to change, no secret."""

from __future__ import annotations

import re
import shlex
from typing import Final

from oms_trio.amqp.model import (
    ActionQueueInUse,
    BrokerAccessRejected,
    BrokerError,
    BrokerMisconfigured,
    BrokerUnavailable,
    BrokerUnreachable,
)
from oms_trio.amqp.settings import BrokerSettings, consumed_topology

_INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '(?P<arg>[^']+)' for (?P<kind>queue|exchange) '(?P<name>.+?)' in vhost "
    r"'.*?': received (?P<ours>.+?) but current is (?P<theirs>.+)"
)


def at_first_connect(error: BrokerError, settings: BrokerSettings) -> BrokerError:
    """Translate a failure of the first connect, after which waiting does not help."""
    if not isinstance(error, BrokerUnavailable):
        return error
    return BrokerUnreachable(
        f"no RabbitMQ at {settings.address}: {error}; "
        "check RABBITMQ_HOST, RABBITMQ_PORT and RABBITMQ_TLS"
    )


def login_rejected(settings: BrokerSettings) -> BrokerAccessRejected:
    """Wrong user or password (403 in the handshake)."""
    return BrokerAccessRejected(
        f"RabbitMQ at {settings.address} rejected user {settings.user!r}: "
        "check RABBITMQ_USER and RABBITMQ_PASS"
    )


def vhost_rejected(settings: BrokerSettings) -> BrokerAccessRejected:
    """The virtual host does not exist, or the user has no access to it (530)."""
    return BrokerAccessRejected(
        f"RabbitMQ at {settings.address} gives user {settings.user!r} no access to virtual "
        f"host {settings.vhost!r}: check RABBITMQ_VHOST and the user's permissions"
    )


def permissions_missing(settings: BrokerSettings, text: str) -> BrokerAccessRejected:
    """The user may not declare, read or write something of ours (403 on a channel)."""
    return BrokerAccessRejected(
        f"user {settings.user!r} lacks permissions in RabbitMQ's virtual host {settings.vhost!r}: {text}"
    )


def declared_differently(settings: BrokerSettings, text: str) -> BrokerMisconfigured:
    """A queue or exchange exists with other properties (406); ``text`` is RabbitMQ's message."""
    found = _INEQUIVALENT.search(text)
    if found is None:
        return BrokerMisconfigured(f"{text}. Delete it, or set another name")
    what, name = found["kind"], found["name"]
    ours, theirs = _value(found["ours"]), _value(found["theirs"])
    setting = _setting_of(name, settings)
    line = (
        f"{what} {name!r} on {settings.address} was declared with other properties: its "
        f"{found['arg']} is {theirs}, but must be {ours}"
    )
    if what == "exchange":
        return BrokerMisconfigured(
            f"{line} (it must be a durable topic exchange). Stop its agents, delete it "
            f"(`rabbitmqadmin delete exchange name={name}`, or RabbitMQ's management page) and "
            f"start again, or set another {setting}"
        )
    vhost = "" if settings.vhost == "/" else f" --vhost {shlex.quote(settings.vhost)}"
    advice = (
        f"{line} (it must be {_expected(name, settings)}). Stop its agents, delete it "
        f"(`rabbitmqctl delete_queue{vhost} {shlex.quote(name)}`; its messages are lost) and "
        f"start again, or set another {setting}"
    )
    if found["arg"] == "x-message-ttl" and theirs.isdecimal():
        advice += f", or the OMS_MAX_ACTION_AGE with which it was declared, {int(theirs) / 1000:g}"
    return BrokerMisconfigured(advice)


def locked_by_another(settings: BrokerSettings, text: str) -> BrokerMisconfigured:
    """One of our queues is exclusive to another connection (405)."""
    return BrokerMisconfigured(
        f"RabbitMQ at {settings.address} answered: {text}. End the program that declared this "
        "queue as exclusive, or set another OMS_ACTION_QUEUE"
    )


def action_queue_in_use(settings: BrokerSettings) -> ActionQueueInUse:
    """Another service consumes the actions of our exchange and key (405 on the owner queue)."""
    return ActionQueueInUse(
        f"another service consumes the actions of exchange {settings.action_exchange!r} with key "
        f"{settings.action_routing_key!r} on {settings.address}, and each action would become two orders: "
        "stop that one, or give this one and its agent an OMS_ACTION_EXCHANGE, OMS_ACTION_QUEUE "
        "and OMS_EXECUTION_EXCHANGE of their own"
    )


def _value(text: str) -> str:
    """Extract a value from RabbitMQ's message: ``none``, ``'true'``, ``the value '5' of type 'long'``."""
    return text.removeprefix("the value ").split(" of type ")[0].strip("'")


def _expected(queue: str, settings: BrokerSettings) -> str:
    """Describe how one of our queues must be declared."""
    declared = {one.name: one.arguments for one in consumed_topology(settings).queues}
    arguments = declared.get(queue, {})
    return "durable with " + (
        ", ".join(f"{name}={value}" for name, value in arguments.items()) or "no arguments"
    )


def _setting_of(name: str, settings: BrokerSettings) -> str:
    """Return the setting that determines the name of an exchange or queue."""
    return {
        settings.action_exchange: "OMS_ACTION_EXCHANGE",
        settings.execution_exchange: "OMS_EXECUTION_EXCHANGE",
        settings.dead_letter_exchange: "OMS_DEAD_LETTER_EXCHANGE",
    }.get(name, "OMS_ACTION_QUEUE")
