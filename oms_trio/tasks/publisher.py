"""Publishes what is durable, in order, and takes out of the outbox what the broker confirms."""

from __future__ import annotations

import structlog
import trio

from oms_trio.amqp.model import Broker, BrokerUnavailable, Outgoing
from oms_trio.channels import Batch
from oms_trio.journal.disk import FULL_PAUSE_S, Disk
from oms_trio.journal.errors import JournalFull
from oms_trio.journal.model import Message

log = structlog.get_logger()

PAGE = 500
"""Messages published under one wait for confirms."""


async def publish(durable: trio.MemoryReceiveChannel[Batch], disk: Disk, broker: Broker) -> None:
    """Publish what an earlier process left, then what becomes durable, until the channel ends.

    The channel is only the short way. When it overflows, because the broker is away, batches are
    missing from it; positions show that, and the outbox on disk gives what is missing. So a
    broker that is away for an hour costs no memory.

    Raises:
        StateError: the disk failed or the journal is damaged.
    """
    with durable:
        done = await _from_disk(0, disk, broker)
        async for batch in durable:
            if batch.first == done + 1:
                await _send(batch.messages, disk, broker)
                done += len(batch.messages)
            # What was appended while the channel was full is in no batch that is still to come.
            if not durable.statistics().current_buffer_used and disk.journal.last_position > done:
                done = await _from_disk(done, disk, broker)
        await _from_disk(done, disk, broker)


async def _from_disk(done: int, disk: Disk, broker: Broker) -> int:
    """Publish all that the outbox holds behind a position; returns the last one's."""
    while page := await disk.call(disk.journal.outbox, done, PAGE):
        await _send(tuple(message for _, message in page), disk, broker)
        done = page[-1][0]
    return done


async def _send(messages: tuple[Message, ...], disk: Disk, broker: Broker) -> None:
    """Publish until confirmed. A repeat has the same ``message_id``, so that it can be told."""
    outgoing = [
        Outgoing(message.message_id, message.routing_key, message.body) for message in messages
    ]
    while True:
        try:
            await broker.publish(outgoing)
        except BrokerUnavailable as error:
            log.warning("publish_failed", why=str(error), waiting=len(outgoing))
            await broker.wait_publishable()
        else:
            break
    await _take_out(messages, disk)


async def _take_out(messages: tuple[Message, ...], disk: Disk) -> None:
    """Take what was confirmed out of the outbox; even that needs room, and waits for it."""
    names = [message.message_id for message in messages]
    while True:
        try:
            await disk.call(disk.journal.confirm, names)
        except JournalFull as error:
            log.error("journal_full", why=str(error), confirmed=len(names))  # noqa: TRY400 - one line
            await trio.sleep(FULL_PAUSE_S)
        else:
            return
