"""The broker as the rest of the service sees it: a Trio-shaped surface and its values.

Two brokers stand behind it, RabbitMQ (``broker``) and one in memory (``memory``); both face the
same tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import attrs


class BrokerError(Exception):
    """What a broker can do to us. Each text is one line and holds no secret."""


class BrokerUnavailable(BrokerError):  # noqa: N818  # it names a state
    """The link is lost, or the broker did not confirm in time: send again later."""


class BrokerUnreachable(BrokerError):  # noqa: N818  # it names a state
    """No AMQP answer at the first connect: host, port, TLS or virtual host."""


class BrokerAccessRejected(BrokerError):  # noqa: N818  # it names a state
    """The broker does not let this user in."""


class BrokerMisconfigured(BrokerError):  # noqa: N818  # it names a state
    """A queue or exchange of ours exists already with other properties."""


class ActionQueueInUse(BrokerMisconfigured):
    """Another service takes the actions of our exchange and key."""


HELD_S: Final = 1.0
"""How long a delivery may wait in this process before it is received: longer, and it goes back.

An action's age counts from when the broker had it. A process that was stopped meanwhile cannot
know for how long, but the queue does.
"""

EXPIRED_PREFETCH: Final = 16
"""Expired actions held unacknowledged at most. They are only told of, and live ones come first."""


@attrs.frozen
class Delivery:
    """One action as it came from the queue.

    ``tag`` is unique in this process for ever (it is not AMQP's delivery tag, which starts anew
    with every channel). ``expired`` says that it did not come from the action queue but from the
    dead letters, because it had waited there for longer than an action lives. ``redelivered`` says
    that it may have been delivered before; of an expired one nobody knows, so it always may. ``flaw`` says why
    the message cannot be used, whatever its body; empty: it can.
    """

    tag: int
    body: bytes
    message_id: str | None
    redelivered: bool
    expired: bool = False
    flaw: str = ""


@attrs.frozen
class Outgoing:
    """One message for the agent: JSON in ``body``, the same ``message_id`` whenever it is sent.

    ``cause`` is the value of the header ``x-oms-cause``; empty: no header.
    """

    message_id: str
    routing_key: str
    body: bytes
    cause: str = ""


class Broker(Protocol):
    """Actions in, executions out. All methods are called from one Trio thread.

    Delivery is at least once both ways: what was not acknowledged when the link was lost comes
    again with a new tag and ``redelivered`` set, and what was not confirmed has to be
    published again.
    """

    @property
    def connected(self) -> bool:
        """Whether actions can come and executions can leave."""

    @property
    def unroutable(self) -> int:
        """How many published messages no queue has taken; they are not kept."""

    async def receive(self) -> tuple[Delivery, ...]:
        """Wait for actions and take all that are there, in the queue's order.

        For one task only. Deliveries of a link that is lost meanwhile are not returned: the
        broker brings them again. Nor are those that have waited in this process for ``HELD_S``,
        because it was stopped or busy: they go back to the queue, where their time to live
        decides. Before ``consume(True)`` nothing comes but expired actions; those come at any
        time, behind the others.

        Raises:
            trio.ClosedResourceError: the broker was closed.
        """

    def consume(self, wanted: bool) -> None:  # noqa: FBT001  # the one thing it says
        """Start or stop taking actions; at first none are taken.

        After ``consume(False)`` no live delivery is returned; those fetched ahead go back to the
        queue, those returned before stay ours to settle.
        """

    def ack(self, tags: Sequence[int]) -> None:
        """Settle deliveries for good; never waits. Tags of a lost link are forgotten."""

    async def dead_letter(self, tag: int, reason: str) -> None:
        """Move a delivery to the dead letters with its ``message_id`` and the reason, then ack it.

        Waits, if need be for a new link, until the broker has confirmed it, or until the
        delivery is not ours any more because the link that brought it is lost and it comes again.
        Do not let other deliveries wait for it.

        Raises:
            trio.ClosedResourceError: the broker was closed.
        """

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish persistently, in this order; return when the broker has confirmed all.

        A message that no queue takes is confirmed too, and counted in ``unroutable``.

        Raises:
            BrokerUnavailable: the link is lost, or a confirm was negative or late. Any of the
                messages may have been published: send all that are not known to be confirmed
                again, in order, after ``wait_publishable``.
            trio.ClosedResourceError: the broker was closed.
        """

    async def wait_publishable(self) -> None:
        """Wait until there is a link to publish on.

        Raises:
            trio.ClosedResourceError: the broker was closed.
        """
