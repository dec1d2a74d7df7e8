"""The exchanges and queues that each link needs; declared anew at every connect.

All are durable, all exchanges are topics. Both links declare the dead letters: ours leave by
publishing, expired ones from the queue, and neither may find them missing.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from oms_trio.amqp.settings import BrokerSettings


@attrs.frozen
class Queue:
    """A queue and its bindings. ``arguments`` may only hold what RabbitMQ compares."""

    name: str
    exchange: str
    routing_keys: tuple[str, ...]
    arguments: Mapping[str, str | int] = {}


@attrs.frozen
class Topology:
    """What a link declares, exchanges first."""

    exchanges: tuple[str, ...]
    queues: tuple[Queue, ...]


def incoming(settings: BrokerSettings) -> Topology:
    """Return what actions come by; they expire to the dead letters.

    From there those that came by the actions' key, or straight to the queue by its name, come back
    to us: somebody has to tell the agent. Our own dead letters have another key.
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


def outgoing(settings: BrokerSettings) -> Topology:
    """Return what executions and dead letters leave by; agents bring their own queues."""
    return Topology(
        (settings.dead_letter_exchange, settings.execution_exchange), (_dead_letters(settings),)
    )


def _dead_letters(settings: BrokerSettings) -> Queue:
    return Queue(settings.dead_letter_queue, settings.dead_letter_exchange, ("#",))
