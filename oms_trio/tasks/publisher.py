"""Publishes what is durable, in order, and takes out of the outbox what the broker confirms."""

from __future__ import annotations

import math

import attrs
import structlog
import trio

from oms_trio.amqp.model import Broker, BrokerUnavailable, Outgoing
from oms_trio.journal.errors import JournalFull
from oms_trio.journal.model import Message
from oms_trio.journal.worker import FULL_PAUSE_S, JournalWorker
from oms_trio.service.channels import Batch

log = structlog.get_logger()

PAGE = 500
"""Messages published under one wait for confirms."""

UNROUTABLE_WARN_S = 60.0
"""How often it is logged at most that messages find no queue."""

IDLE_S = 0.05
"""Confirmed messages leave the outbox together: after this long without new ones, or a page full.

Each by itself is a transaction and two hops between threads while the next one waits. After a
crash in between they are sent again, by the same ids.
"""


async def publish(
    durable: trio.MemoryReceiveChannel[Batch], disk: JournalWorker, broker: Broker
) -> None:
    """Publish what an earlier process left, then what becomes durable, until the channel ends.

    The channel is only the short way. When it overflows, because the broker is away, batches are
    missing from it; positions show that, and the outbox on disk gives what is missing. So a
    broker that is away for an hour costs no memory.

    Raises:
        StateError: the disk failed or the journal is damaged.
    """
    outbox = _Outbox(disk, broker)
    with durable:
        done = await outbox.send_stored(0)
        while True:
            with trio.move_on_after(IDLE_S if outbox.confirmed else math.inf) as idle:
                try:
                    batch = await durable.receive()
                except trio.EndOfChannel:
                    break
            if idle.cancelled_caught:
                await outbox.remove_confirmed()
                continue
            if batch.first == done + 1:
                await outbox.send(batch.messages)
                done += len(batch.messages)
            # What was appended while the channel was full is in no batch that is still to come.
            if not durable.statistics().current_buffer_used and disk.journal.last_position > done:
                done = await outbox.send_stored(done)
        await outbox.send_stored(done)
        await outbox.remove_confirmed()


@attrs.define
class _Outbox:
    """The messages on disk; ``confirmed`` names those that the broker has and the disk still."""

    disk: JournalWorker
    broker: Broker
    confirmed: list[str] = attrs.Factory(list)
    unroutable: int = 0
    """How many the broker had returned when that was logged last."""
    warned_at: float = -math.inf

    async def send_stored(self, done: int) -> int:
        """Publish all that is stored after a position; returns the last one's."""
        while page := await self.disk.run(self.disk.journal.outbox, done, PAGE):
            await self.send(tuple(message for _, message in page))
            done = page[-1][0]
        return done

    async def send(self, messages: tuple[Message, ...]) -> None:
        """Publish until confirmed. A repeat has the same ``message_id``, so that it can be recognised."""
        outgoing = [
            Outgoing(message.message_id, message.routing_key, message.body, message.cause)
            for message in messages
        ]
        while True:
            try:
                await self.broker.publish(outgoing)
            except BrokerUnavailable as error:
                log.warning("publish_failed", why=str(error), waiting=len(outgoing))
                await self.broker.wait_publishable()
            else:
                break
        self._warn_of_unroutable()
        self.confirmed += [message.message_id for message in messages]
        if len(self.confirmed) >= PAGE:
            await self.remove_confirmed()

    def _warn_of_unroutable(self) -> None:
        """Log when no queue takes our messages: they are gone, and an agent learns nothing."""
        total, now = self.broker.unroutable, trio.current_time()
        if total > self.unroutable and now - self.warned_at >= UNROUTABLE_WARN_S:
            log.warning("executions_unroutable", count=total - self.unroutable, total=total)
            self.unroutable, self.warned_at = total, now

    async def remove_confirmed(self) -> None:
        """Remove what was confirmed; even that needs space on the disk, and waits for it."""
        names, self.confirmed = self.confirmed, []
        while names:
            try:
                await self.disk.run(self.disk.journal.confirm, names)
            except JournalFull as error:
                log.error("journal_full", why=str(error), confirmed=len(names))  # noqa: TRY400 - one line
                await trio.sleep(FULL_PAUSE_S)
            else:
                return
