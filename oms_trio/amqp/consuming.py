"""The consuming connection: actions in, acknowledgements out. Runs in the asyncio thread."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

import aiormq
import aiormq.abc
import attrs
import structlog

from oms_trio.amqp import connection as wire
from oms_trio.amqp.call_queue import CallQueue
from oms_trio.amqp.frames import DEATH_QUEUE, DEATH_REASON, FLAW
from oms_trio.amqp.model import (
    EXPIRED_PREFETCH,
    HELD_S,
    BrokerError,
    BrokerUnavailable,
    Delivery,
)
from oms_trio.amqp.rabbit import ConnectionRole, RabbitBroker, uptime
from oms_trio.amqp.settings import BrokerSettings, consumed_topology

log = structlog.get_logger()

BEAT_S: Final = 0.25
"""How often this thread records that it is running."""

_FRAMES: Final = 4
"""Frames per delivery in the buffer at most; the body of an action is one."""

_tags: Final = itertools.count(1)


@attrs.frozen
class _Settlement:
    message: aiormq.abc.DeliveredMessage
    requeue: bool


@attrs.define(eq=False)
class ActionConsumer:
    """Consumes actions and settles them; every method runs in the asyncio thread.

    A pause of the process (SIGSTOP, a suspended machine) shows as a gap between two beats. Deliveries
    that the broker sent meanwhile are in the socket's buffer and look new. They are returned to the
    queue: the consumer is cancelled, so that the broker's answer marks the last of them, and then
    consumes again.
    """

    _settings: BrokerSettings
    _to_trio: CallQueue
    _broker: RabbitBroker = attrs.field(init=False)
    _wanted: bool = attrs.field(default=False, init=False)
    _paused: bool = attrs.field(default=False, init=False)
    """Whether there was a pause, after which the consumer was not cancelled yet."""
    _beat: float = attrs.field(factory=uptime, init=False)
    _stopped: bool = attrs.field(default=False, init=False)
    _work: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _channel: aiormq.Channel | None = attrs.field(default=None, init=False)
    _expired_channel: aiormq.Channel | None = attrs.field(default=None, init=False)
    # Both hold at most what the two channels prefetch.
    _unsettled: dict[int, aiormq.abc.DeliveredMessage] = attrs.field(factory=dict, init=False)
    _settlements: deque[_Settlement] = attrs.field(factory=deque, init=False)

    def attach(self, broker: RabbitBroker) -> None:
        """Set the receiver of the deliveries."""
        self._broker = broker

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._channel is not None

    def stop(self) -> None:
        """Make ``run`` return after all settlements requested so far have been sent."""
        self._stopped = True
        self._work.set()

    def set_wanted(self, wanted: bool) -> None:  # noqa: FBT001  # as in the protocol
        """Start or stop consuming actions."""
        self._wanted = wanted
        self._work.set()

    def settle(self, tags: Sequence[int], *, requeue: bool) -> None:
        """Acknowledge deliveries or return them; those of a lost connection are ignored."""
        for tag in tags:
            message = self._unsettled.pop(tag, None)
            if message is not None:
                self._settlements.append(_Settlement(message, requeue))
        self._work.set()

    def unsettled(self, tag: int) -> aiormq.abc.DeliveredMessage | None:
        """Return a delivery that is not settled yet; None when its connection was lost."""
        return self._unsettled.get(tag)

    async def run(self, connection: aiormq.Connection) -> BrokerError:
        """Pass on deliveries and settlements until the connection is lost; return the reason.

        Raises:
            BrokerError: the connection could not be set up.
        """
        settings = self._settings
        cancelled = asyncio.Event()
        async with wire.answering(settings):
            # With a buffer for every frame that may come, the socket's reader never stops between
            # two frames of one batch.
            channel = await wire.open_channel(connection, _FRAMES * settings.prefetch)
            if settings.exclusive:
                await channel.queue_declare(settings.owner_queue, exclusive=True, auto_delete=True)
            await channel.basic_qos(prefetch_count=settings.prefetch)
            await wire.declare(channel, consumed_topology(settings))
            channels = [channel]
            if settings.exclusive:
                channels.append(await self._consume_expired(connection))
        for one in channels:
            one.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
        self._channel = channel
        self._paused, self._beat = False, uptime()
        self._work.set()
        log.info(
            "broker_connected", connection=ConnectionRole.CONSUME.value, broker=settings.address
        )
        self._to_trio.call_soon(partial(self._broker.connection_up, ConnectionRole.CONSUME))
        worker = asyncio.create_task(self._work_on(channel))
        helpers = [
            worker,
            asyncio.create_task(cancelled.wait()),
            asyncio.create_task(self._beats()),
        ]
        closings = [one.closing for one in channels]
        try:
            await asyncio.wait(
                {*helpers, *closings, connection.closing}, return_when=asyncio.FIRST_COMPLETED
            )
            if cancelled.is_set():
                return BrokerUnavailable(
                    "the broker cancelled the consumer; was its queue deleted?"
                )
            return wire.reason(settings, worker, *closings, connection.closing)
        finally:
            self._channel = self._expired_channel = None
            self._unsettled.clear()
            self._settlements.clear()
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers, timeout=wire.CLOSE_S)
            if worker.done() and not worker.cancelled():
                worker.exception()  # retrieved, or asyncio would log it; the reason is known already

    async def _consume_expired(self, connection: aiormq.Connection) -> aiormq.Channel:
        """Consume expired actions on a separate channel, so that they do not use up the prefetch."""
        channel = await wire.open_channel(connection, _FRAMES * EXPIRED_PREFETCH)
        self._expired_channel = channel  # before the first delivery, which may come at once
        await channel.basic_qos(prefetch_count=EXPIRED_PREFETCH)
        await channel.basic_consume(self._settings.expired_queue, self._expired)
        return channel

    async def _work_on(self, channel: aiormq.Channel) -> None:
        """Consume while that is wanted, and send settlements; returns after ``stop``.

        The consumer is cancelled before messages are returned, or they would be delivered again at once.
        """
        consumer_tag: str | None = None
        while True:
            await self._work.wait()
            self._work.clear()
            async with wire.answering(self._settings):
                if consumer_tag is not None and (self._paused or not self._wanted):
                    # Deliveries that were sent before the answer have arrived by then.
                    await channel.basic_cancel(consumer_tag)
                    consumer_tag = None
                self._paused = False
                await self._send_settlements()
                if self._wanted and consumer_tag is None:
                    answer = await channel.basic_consume(self._settings.action_queue, self._action)
                    consumer_tag = answer.consumer_tag
            if self._stopped:
                return

    async def _send_settlements(self) -> None:
        while self._settlements:
            settlement = self._settlements.popleft()
            message = settlement.message
            assert message.delivery_tag is not None, "messages of consumers have one"
            # The last one waits for the socket, so that nothing is unsent when this stops.
            last = not self._settlements
            if settlement.requeue:
                await message.channel.basic_nack(message.delivery_tag, requeue=True, wait=last)
            else:
                await message.channel.basic_ack(message.delivery_tag, wait=last)

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self._beat_now()

    def _beat_now(self) -> None:
        now = uptime()
        gap, self._beat = now - self._beat, now
        if gap > HELD_S:
            log.warning("process_paused", seconds=round(gap, 3))
            self._paused = True
            self._work.set()

    async def _action(self, message: aiormq.abc.DeliveredMessage) -> None:
        if message.channel is not self._channel:
            return
        self._beat_now()
        if self._paused:
            self._settlements.append(_Settlement(message, requeue=True))
            self._work.set()
        else:
            self._deliver(message, expired=False)

    async def _expired(self, message: aiormq.abc.DeliveredMessage) -> None:
        if message.channel is not self._expired_channel:
            return
        headers = message.header.properties.headers or {}
        origin = headers.get(DEATH_REASON), headers.get(DEATH_QUEUE)
        if origin == ("expired", self._settings.action_queue):
            self._deliver(message, expired=True)
        else:
            # Of another queue, or rejected by somebody: it is in the dead letters, and done.
            self._settlements.append(_Settlement(message, requeue=False))
            self._work.set()

    def _deliver(self, message: aiormq.abc.DeliveredMessage, *, expired: bool) -> None:
        tag = next(_tags)
        self._unsettled[tag] = message
        properties = message.header.properties
        delivery = Delivery(
            tag=tag,
            body=message.body,
            message_id=properties.message_id,
            # RabbitMQ loses the flag when a message moves to another queue.
            redelivered=expired or bool(message.redelivered),
            expired=expired,
            flaw=str((properties.headers or {}).get(FLAW, "")),
        )
        self._to_trio.call_soon(partial(self._broker.add_delivery, delivery, uptime()))
