"""What we tell an operator whom RabbitMQ turned away: one line, what to change, no secret."""

from __future__ import annotations

import re
import shlex
from typing import Final

from oms_trio.amqp import topology
from oms_trio.amqp.model import (
    ActionQueueInUse,
    BrokerAccessRejected,
    BrokerError,
    BrokerMisconfigured,
    BrokerUnavailable,
    BrokerUnreachable,
)
from oms_trio.amqp.settings import BrokerSettings

_INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '(?P<arg>[^']+)' for (?P<kind>queue|exchange) '(?P<name>.+?)' in vhost "
    r"'.*?': received (?P<ours>.+?) but current is (?P<theirs>.+)"
)


def at_first_connect(error: BrokerError, settings: BrokerSettings) -> BrokerError:
    """Say what a failure means before any link stood: then waiting does not help."""
    if not isinstance(error, BrokerUnavailable):
        return error
    return BrokerUnreachable(
        f"no RabbitMQ at {settings.address}: {error}; "
        "check RABBITMQ_HOST, RABBITMQ_PORT and RABBITMQ_TLS"
    )


def login_refused(settings: BrokerSettings) -> BrokerAccessRejected:
    """Wrong user or password (403 in the handshake)."""
    return BrokerAccessRejected(
        f"RabbitMQ at {settings.address} refused user {settings.user!r}: "
        "check RABBITMQ_USER and RABBITMQ_PASS"
    )


def vhost_refused(settings: BrokerSettings) -> BrokerAccessRejected:
    """The virtual host does not exist, or the user may not enter it (530)."""
    return BrokerAccessRejected(
        f"RabbitMQ at {settings.address} does not let user {settings.user!r} into virtual "
        f"host {settings.vhost!r}: check RABBITMQ_VHOST and the user's rights"
    )


def rights_missing(settings: BrokerSettings, told: str) -> BrokerAccessRejected:
    """The user may not declare, read or write something of ours (403 on a channel)."""
    return BrokerAccessRejected(
        f"user {settings.user!r} lacks rights on RabbitMQ's virtual host {settings.vhost!r}: {told}"
    )


def exists_otherwise(settings: BrokerSettings, told: str) -> BrokerMisconfigured:
    """A queue or exchange exists with other properties (406); RabbitMQ says which and how."""
    found = _INEQUIVALENT.search(told)
    if found is None:
        return BrokerMisconfigured(f"{told}. Delete what exists, or set other names")
    what, name = found["kind"], found["name"]
    ours, theirs = _value(found["ours"]), _value(found["theirs"])
    setting = _setting_of(name, settings)
    line = (
        f"{what} {name!r} on {settings.address} was declared by somebody else: its "
        f"{found['arg']} is {theirs}, and must be {ours}"
    )
    if what == "exchange":
        return BrokerMisconfigured(
            f"{line} (it must be a durable topic exchange). Stop its agents, delete it "
            f"(`rabbitmqadmin delete exchange name={name}`, or RabbitMQ's management page) and "
            f"start again, or set another {setting}"
        )
    vhost = "" if settings.vhost == "/" else f" --vhost {shlex.quote(settings.vhost)}"
    advice = (
        f"{line} (it must be {_wanted(name, settings)}). Stop its agents, delete it "
        f"(`rabbitmqctl delete_queue{vhost} {shlex.quote(name)}`; what waits in it is lost) and "
        f"start again, or set another {setting}"
    )
    if found["arg"] == "x-message-ttl" and theirs.isdecimal():
        advice += f", or the OMS_MAX_ACTION_AGE that it was made for, {int(theirs) / 1000:g}"
    return BrokerMisconfigured(advice)


def exclusive_to_another(settings: BrokerSettings, told: str) -> BrokerMisconfigured:
    """A queue of ours is exclusive to somebody else's connection (405)."""
    return BrokerMisconfigured(
        f"RabbitMQ at {settings.address} says: {told}. Whoever declared that queue as exclusive has "
        "to disconnect, or set another OMS_ACTION_QUEUE"
    )


def actions_taken(settings: BrokerSettings) -> ActionQueueInUse:
    """Another service takes the actions of our exchange and key (405 on our owner queue)."""
    return ActionQueueInUse(
        f"another service takes the actions of exchange {settings.action_exchange!r} with key "
        f"{settings.action_routing_key!r} on {settings.address}, and each would become two orders: "
        "stop that one, or give this one and its agent an OMS_ACTION_EXCHANGE, OMS_ACTION_QUEUE "
        "and OMS_EXECUTION_EXCHANGE of their own"
    )


def _value(told: str) -> str:
    """Take a value out of RabbitMQ's words: ``none``, ``'true'``, ``the value '5' of type 'long'``."""
    return told.removeprefix("the value ").split(" of type ")[0].strip("'")


def _wanted(queue: str, settings: BrokerSettings) -> str:
    """Say how a queue of ours must be declared."""
    declared = {one.name: one.arguments for one in topology.incoming(settings).queues}
    arguments = declared.get(queue, {})
    return "durable with " + (
        ", ".join(f"{name}={value}" for name, value in arguments.items()) or "no arguments"
    )


def _setting_of(name: str, settings: BrokerSettings) -> str:
    """Return the setting that names an exchange or, by itself or with something added, a queue."""
    return {
        settings.action_exchange: "OMS_ACTION_EXCHANGE",
        settings.execution_exchange: "OMS_EXECUTION_EXCHANGE",
        settings.dead_letter_exchange: "OMS_DEAD_LETTER_EXCHANGE",
    }.get(name, "OMS_ACTION_QUEUE")
