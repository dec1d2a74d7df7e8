"""The publishing link: messages out, and their confirms in. Asyncio's side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import aiormq
import aiormq.abc
import attrs
import structlog

from oms_trio.amqp import connection as wire
from oms_trio.amqp.call_queue import Mailbox
from oms_trio.amqp.model import BrokerError, BrokerUnavailable, Outgoing
from oms_trio.amqp.rabbit import Link, RabbitBroker, Request
from oms_trio.amqp.settings import DEAD_LETTER_KEY, BrokerSettings
from oms_trio.amqp.topology import outgoing

log = structlog.get_logger()

REASON_HEADER: Final = "x-oms-reason"
"""Header of a dead letter that says why it became one."""

CAUSE_HEADER: Final = "x-oms-cause"
"""Header of an execution or closure that says who or what brought it about."""

_LOST: Final = "the link was lost before the confirm"
_LATE: Final = "not confirmed in time (is the broker short of memory or disk?)"


@attrs.define(eq=False)
class Publishing:
    """What is published and has to be confirmed; every method runs in the portal's thread."""

    _settings: BrokerSettings
    _to_trio: Mailbox
    _broker: RabbitBroker = attrs.field(init=False)
    _publisher: _Publisher | None = attrs.field(default=None, init=False)
    collecting: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    """Tasks that wait for confirms."""

    def attach(self, broker: RabbitBroker) -> None:
        """Say who hears of confirms."""
        self._broker = broker

    async def run(self, connection: aiormq.Connection) -> BrokerError:
        """Hold a channel with confirms until it is lost or a confirm fails; say what it was.

        Raises:
            BrokerError: the link could not be set up.
        """
        settings = self._settings
        async with wire.answering(settings):
            channel = await wire.open_channel(connection)
            await wire.declare(channel, outgoing(settings))
        self._publisher = publisher = _Publisher(channel)
        log.info("broker_connected", link=Link.PUBLISH.value, broker=settings.address)
        self._to_trio.post(partial(self._broker.session_up, Link.PUBLISH))
        try:
            await asyncio.wait(
                {publisher.over, channel.closing, connection.closing},
                return_when=asyncio.FIRST_COMPLETED,
            )
            if publisher.over.done():
                return BrokerUnavailable(publisher.over.result())
            return wire.reason(settings, channel.closing, connection.closing)
        finally:
            self._publisher = None
            publisher.end(_LOST)

    def publish(self, messages: Sequence[Outgoing], request: Request) -> None:
        """Publish; finish the request when all is confirmed or one has failed."""
        exchange = self._settings.execution_exchange
        publications = [
            _Publication(
                message.body,
                exchange,
                message.routing_key,
                aiormq.spec.Basic.Properties(
                    content_type="application/json",
                    headers={CAUSE_HEADER: message.cause} if message.cause else None,
                    delivery_mode=2,
                    message_id=message.message_id,
                ),
            )
            for message in messages
        ]
        self._start(publications, request)

    def dead_letter(
        self,
        message: aiormq.abc.DeliveredMessage,
        reason: str,
        request: Request,
        then: Callable[[], None],
    ) -> None:
        """Publish a delivery to the dead letters; when that is confirmed ``then`` is called."""
        was = message.header.properties
        publication = _Publication(
            message.body,
            self._settings.dead_letter_exchange,
            DEAD_LETTER_KEY,
            aiormq.spec.Basic.Properties(
                content_type=was.content_type,
                headers={REASON_HEADER: reason},
                delivery_mode=2,
                message_id=was.message_id,
                timestamp=was.timestamp,
            ),
            # Nobody may have to look for a malformed action: it stays ours until a queue has it.
            needs_queue=True,
        )
        self._start([publication], request, then)

    def _start(
        self,
        publications: Sequence[_Publication],
        request: Request,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        if self._publisher is None:
            self._finish(request, "there is no link to the broker")
            return
        channel = self._publisher.channel
        # Begun here, they are on their way before the task that collects their confirms begins.
        confirms = [asyncio.create_task(publication.send(channel)) for publication in publications]
        task = asyncio.create_task(self._collect(self._publisher, confirms, request, then))
        self.collecting.add(task)
        task.add_done_callback(self.collecting.discard)

    async def _collect(
        self,
        publisher: _Publisher,
        confirms: Sequence[asyncio.Task[bool]],
        request: Request,
        then: Callable[[], None],
    ) -> None:
        """Collect the confirms of what is being published, finish the request. Raises nothing.

        Any failure ends the link: its back-off paces the caller's next try, a confirm that comes
        too late cannot be taken for another's, and what a blocked broker has not read yet
        does not pile up in our buffers.
        """
        # One message, the rule, needs no task that waits for all.
        last: asyncio.Task[Any] = (
            confirms[0] if len(confirms) == 1 else asyncio.create_task(_finished(confirms))
        )
        ends: list[asyncio.Future[Any]] = [last, publisher.over]
        # Of a publish that waits for room in its write queue, aiormq forgets to say that the
        # link is lost: it would wait for its deadline.
        await asyncio.wait(ends, timeout=wire.ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        late = _LOST if publisher.over.done() else _LATE
        unconfirmed = [why for confirm in confirms if (why := _unconfirmed(confirm, late))]
        if returned := sum(_returned(confirm) for confirm in confirms):
            self._to_trio.post(partial(self._broker.returned, returned))
        for task in (last, *confirms):
            task.cancel()
        if not unconfirmed:
            then()
            self._finish(request)
            return
        publisher.end(unconfirmed[0])
        if self._publisher is publisher:
            self._publisher = None
            # Before the request ends: its caller then waits for the next link.
            self._to_trio.post(partial(self._broker.link_lost, Link.PUBLISH))
        self._finish(request, unconfirmed[0])

    def _finish(self, request: Request, failure: str | None = None) -> None:
        self._to_trio.post(partial(self._broker.finished, request, failure))


@attrs.frozen(eq=False)
class _Publisher:
    """A channel with confirms, and the end of its link: set by whoever sees it first."""

    channel: aiormq.Channel
    over: asyncio.Future[str] = attrs.Factory(lambda: asyncio.get_running_loop().create_future())

    def end(self, why: str) -> None:
        """Tell all that wait on this link that it is over."""
        if not self.over.done():
            self.over.set_result(why)


@attrs.frozen
class _Publication:
    """One message on its way to an exchange. The broker returns it when no queue takes it."""

    body: bytes
    exchange: str
    routing_key: str
    properties: aiormq.spec.Basic.Properties
    needs_queue: bool = False

    async def send(self, channel: aiormq.Channel) -> bool:
        """Publish and wait for the confirm; returns whether a queue has taken it.

        Raises:
            aiormq.PublishError: none has, and it needs one.
        """
        try:
            await channel.basic_publish(
                self.body,
                exchange=self.exchange,
                routing_key=self.routing_key,
                properties=self.properties,
                mandatory=True,
                wait=False,
            )
        except aiormq.PublishError:
            if self.needs_queue:
                raise
            return False
        return True


async def _finished(tasks: Sequence[asyncio.Task[bool]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


def _returned(confirm: asyncio.Task[bool]) -> bool:
    """Whether the broker has sent a message back."""
    ended_well = confirm.done() and not confirm.cancelled() and confirm.exception() is None
    return ended_well and not confirm.result()


def _unconfirmed(confirm: asyncio.Task[bool], late: str) -> str | None:
    """Say why a message counts as not published; None when the broker has confirmed it."""
    if not confirm.done():
        return late
    if confirm.cancelled():
        return _LOST
    match confirm.exception():
        case None:
            return None
        case aiormq.DeliveryError():
            return "the broker refused a message or had no queue for it"
        case _:
            return _LOST
