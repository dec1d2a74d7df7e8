"""The publishing connection: messages out, confirms in. Runs in the asyncio thread."""

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
from oms_trio.amqp.call_queue import CallQueue
from oms_trio.amqp.model import BrokerError, BrokerUnavailable, Outgoing
from oms_trio.amqp.rabbit import ConnectionRole, PendingConfirm, RabbitBroker
from oms_trio.amqp.settings import DEAD_LETTER_KEY, BrokerSettings, published_topology

log = structlog.get_logger()

REASON_HEADER: Final = "x-oms-reason"
"""Header of a dead letter with the reason why it became one."""

CAUSE_HEADER: Final = "x-oms-cause"
"""Header of an execution or closure with its cause."""

_LOST: Final = "the connection was lost before the confirm"
_LATE: Final = "not confirmed in time (is the broker short of memory or disk?)"


@attrs.define(eq=False)
class ConfirmedPublisher:
    """Publishes messages and waits for their confirms; every method runs in the asyncio thread."""

    _settings: BrokerSettings
    _to_trio: CallQueue
    _broker: RabbitBroker = attrs.field(init=False)
    _current: _PublishChannel | None = attrs.field(default=None, init=False)
    collecting: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    """Tasks that wait for confirms."""

    def attach(self, broker: RabbitBroker) -> None:
        """Set the receiver of confirms."""
        self._broker = broker

    async def run(self, connection: aiormq.Connection) -> BrokerError:
        """Keep a channel with confirms until it is lost or a confirm fails; return the reason.

        Raises:
            BrokerError: the connection could not be set up.
        """
        settings = self._settings
        async with wire.answering(settings):
            channel = await wire.open_channel(connection)
            await wire.declare(channel, published_topology(settings))
        self._current = current = _PublishChannel(channel)
        log.info(
            "broker_connected", connection=ConnectionRole.PUBLISH.value, broker=settings.address
        )
        self._to_trio.call_soon(partial(self._broker.connection_up, ConnectionRole.PUBLISH))
        try:
            await asyncio.wait(
                {current.over, channel.closing, connection.closing},
                return_when=asyncio.FIRST_COMPLETED,
            )
            if current.over.done():
                return BrokerUnavailable(current.over.result())
            return wire.reason(settings, channel.closing, connection.closing)
        finally:
            self._current = None
            current.end(_LOST)

    def publish(self, messages: Sequence[Outgoing], confirm: PendingConfirm) -> None:
        """Publish; finish ``confirm`` when all are confirmed or one has failed."""
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
        self._start(publications, confirm)

    def dead_letter(
        self,
        message: aiormq.abc.DeliveredMessage,
        reason: str,
        confirm: PendingConfirm,
        then: Callable[[], None],
    ) -> None:
        """Publish a delivery to the dead letters; ``then`` is called when that is confirmed."""
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
            # A malformed action must not get lost: it stays unsettled until a queue has it.
            needs_queue=True,
        )
        self._start([publication], confirm, then)

    def _start(
        self,
        publications: Sequence[_Publication],
        confirm: PendingConfirm,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        if self._current is None:
            self._finish(confirm, "there is no connection to the broker")
            return
        channel = self._current.channel
        # Started here, they are sent before the task that collects their confirms starts.
        confirms = [asyncio.create_task(publication.send(channel)) for publication in publications]
        task = asyncio.create_task(self._collect(self._current, confirms, confirm, then))
        self.collecting.add(task)
        task.add_done_callback(self.collecting.discard)

    async def _collect(
        self,
        current: _PublishChannel,
        confirms: Sequence[asyncio.Task[bool]],
        confirm: PendingConfirm,
        then: Callable[[], None],
    ) -> None:
        """Collect the confirms of published messages, and finish ``confirm``. Raises nothing.

        Any failure ends the connection: its back-off delays the caller's next try, a late confirm
        cannot be taken for that of another message, and messages that a blocked broker does not read
        do not accumulate in our buffers.
        """
        # A single message, the usual case, needs no task that waits for all.
        last: asyncio.Task[Any] = (
            confirms[0] if len(confirms) == 1 else asyncio.create_task(_finished(confirms))
        )
        ends: list[asyncio.Future[Any]] = [last, current.over]
        # aiormq does not report the loss of the connection to a publish that waits for space in the
        # write queue, which would wait until its deadline.
        await asyncio.wait(ends, timeout=wire.ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        late = _LOST if current.over.done() else _LATE
        unconfirmed = [why for confirm in confirms if (why := _unconfirmed(confirm, late))]
        if returned := sum(_returned(confirm) for confirm in confirms):
            self._to_trio.call_soon(partial(self._broker.add_unroutable, returned))
        for task in (last, *confirms):
            task.cancel()
        if not unconfirmed:
            then()
            self._finish(confirm)
            return
        current.end(unconfirmed[0])
        if self._current is current:
            self._current = None
            # Before the confirm is finished: its caller then waits for the next connection.
            self._to_trio.call_soon(partial(self._broker.connection_lost, ConnectionRole.PUBLISH))
        self._finish(confirm, unconfirmed[0])

    def _finish(self, confirm: PendingConfirm, failure: str | None = None) -> None:
        self._to_trio.call_soon(partial(self._broker.finished, confirm, failure))


@attrs.frozen(eq=False)
class _PublishChannel:
    """A channel with confirms; ``over`` is set by the first task that learns of its end."""

    channel: aiormq.Channel
    over: asyncio.Future[str] = attrs.Factory(lambda: asyncio.get_running_loop().create_future())

    def end(self, why: str) -> None:
        """Wake everything that waits for this channel, with the reason of its end."""
        if not self.over.done():
            self.over.set_result(why)


@attrs.frozen
class _Publication:
    """One message to publish. The broker returns it when no queue takes it."""

    body: bytes
    exchange: str
    routing_key: str
    properties: aiormq.spec.Basic.Properties
    needs_queue: bool = False

    async def send(self, channel: aiormq.Channel) -> bool:
        """Publish and wait for the confirm; returns whether a queue took the message.

        Raises:
            aiormq.PublishError: no queue took it, and ``needs_queue`` is set.
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
    """Whether the broker returned the message."""
    ended_well = confirm.done() and not confirm.cancelled() and confirm.exception() is None
    return ended_well and not confirm.result()


def _unconfirmed(confirm: asyncio.Task[bool], late: str) -> str | None:
    """Return why a message counts as unpublished; None when the broker has confirmed it."""
    if not confirm.done():
        return late
    if confirm.cancelled():
        return _LOST
    match confirm.exception():
        case None:
            return None
        case aiormq.DeliveryError():
            return "the broker rejected a message or had no queue for it"
        case _:
            return _LOST
