"""The interface of a broker for Trio tasks, its values and its errors.

There are two implementations, RabbitMQ (``rabbit``) and one in memory (``memory``), with a common test
suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import attrs


class BrokerError(Exception):
    """Base of all broker errors. Every message is one line without secrets."""


class BrokerUnavailable(BrokerError):  # noqa: N818  # it names a state
    """The connection is lost, or a confirm is missing: publish again later."""


class BrokerUnreachable(BrokerError):  # noqa: N818  # it names a state
    """No AMQP answer at the first connect: host, port, TLS or virtual host."""


class BrokerAccessRejected(BrokerError):  # noqa: N818  # it names a state
    """The broker rejects this user."""


class BrokerMisconfigured(BrokerError):  # noqa: N818  # it names a state
    """One of our queues or exchanges exists with other properties."""


class ActionQueueInUse(BrokerMisconfigured):
    """Another service consumes the actions of our exchange and key."""


class BrokerUnroutable(BrokerError):  # noqa: N818  # it names a state
    """No queue takes what was published: the broker has dropped it."""


HELD_S: Final = 1.0
"""Seconds that a delivery may wait in this process to be received; then it returns to the queue.

An action's age counts from its arrival at the broker. A process that was stopped in between cannot know
how long that was, but the queue does.
"""

EXPIRED_PREFETCH: Final = 16
"""Unacknowledged expired actions at most. They are only rejected, so live actions take precedence."""


@attrs.frozen
class Delivery:
    """One action as it came from the queue.

    ``tag`` is unique in this process (AMQP's delivery tag is not: it starts again with every channel).
    ``expired`` marks an action that waited in the action queue beyond its time to live, and came through
    the dead letters. ``redelivered`` marks one that may have been delivered before, which is always
    possible for an expired one. ``flaw`` is the reason why the message is unusable, whatever its body;
    empty: there is none.
    """

    tag: int
    body: bytes
    message_id: str | None
    redelivered: bool
    expired: bool = False
    flaw: str = ""


@attrs.frozen
class Outgoing:
    """One message for the agent: JSON in ``body``, and the same ``message_id`` each time it is sent.

    ``cause`` is the value of the header ``x-oms-cause``; empty: no header.
    """

    message_id: str
    routing_key: str
    body: bytes
    cause: str = ""


class Broker(Protocol):
    """Delivers actions and publishes executions. All methods are called from one Trio thread.

    Delivery is at least once in both directions: a delivery that was not acknowledged when the connection
    was lost is repeated with a new tag and ``redelivered`` set, and a message that was not confirmed has
    to be published again.
    """

    @property
    def connected(self) -> bool:
        """Whether actions can be delivered and executions published."""

    @property
    def unroutable(self) -> int:
        """The number of published messages that no queue took, and that are therefore lost."""

    async def receive(self) -> tuple[Delivery, ...]:
        """Wait for actions and return all that have arrived, in the queue's order.

        For one task only. Deliveries of a lost connection are not returned: the broker repeats them.
        Deliveries that have waited in this process for ``HELD_S``, because it was stopped or busy, go
        back to the queue, where their time to live decides. Before ``consume(True)`` only expired
        actions are returned; they may come at any time, after the others.

        Raises:
            trio.ClosedResourceError: the broker was closed.
        """

    def consume(self, wanted: bool) -> None:  # noqa: FBT001  # its only argument
        """Start or stop consuming actions; it is stopped at first.

        After ``consume(False)`` only expired deliveries are returned; prefetched ones go back to the
        queue, and those returned before still have to be settled.
        """

    def ack(self, tags: Sequence[int]) -> None:
        """Acknowledge deliveries, without waiting. Tags of a lost connection are ignored."""

    async def dead_letter(self, tag: int, reason: str) -> None:
        """Move a delivery to the dead letters with its ``message_id`` and the reason, then ack it.

        Waits, if necessary for a new connection, until the broker has confirmed it, or until the
        connection of the delivery is lost, after which it is delivered again. Other deliveries should
        not wait for this.

        Raises:
            trio.ClosedResourceError: the broker was closed.
        """

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish persistently, in this order; return when the broker has confirmed all.

        A message that no queue takes is confirmed too, and counted in ``unroutable``.

        Raises:
            BrokerUnavailable: the connection is lost, or a confirm was negative or late. Any of the
                messages may have been published: publish all unconfirmed ones again, in order, after
                ``wait_publishable``.
            trio.ClosedResourceError: the broker was closed.
        """

    async def wait_publishable(self) -> None:
        """Wait until there is a connection to publish on.

        Raises:
            trio.ClosedResourceError: the broker was closed.
        """
