"""Publish the replayed messages to an agent again, to an exchange and a queue of their own.

    watcher  --commits-->  journal  --durable-->  publisher  -->  broker

The tasks, the codec and the outbox are the service's, with a temporary journal: while the broker is
unavailable, messages wait on disk, not in memory.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs
import trio

from oms_trio.amqp.codec import encode_publication
from oms_trio.amqp.model import Broker, Outgoing
from oms_trio.amqp.settings import BrokerSettings
from oms_trio.core.effects import PublishClosure, PublishExecution, PublishRejection
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Message, Record
from oms_trio.journal.worker import JournalWorker, RunSync
from oms_trio.ops.latency import TimedBroker
from oms_trio.replay.recordings.recording import PlayedStep
from oms_trio.service.app import BATCHES
from oms_trio.service.channels import Batch, Commit
from oms_trio.service.intake_gate import Gate
from oms_trio.service.runtime import JOURNAL
from oms_trio.tasks.commit import keep_journal
from oms_trio.tasks.publisher import publish

SUFFIX: Final = ".replay"
"""The end of the names of a replay's exchange and queue; no live one should have it."""

EXPIRES_MS: Final = 86_400_000
"""Messages that nobody takes, and a queue that nobody uses, are deleted after a day."""

COMMITS = 64
"""Commits that may wait for the disk; when there are as many, the replay waits."""

_NAME: Final = re.compile(r"[!-~]{1,250}")


def replay_settings(live: BrokerSettings, name: str | None) -> BrokerSettings:
    """Return settings of the same broker with an exchange and a queue that only replays use.

    A live agent must not learn from the same messages twice, so no name of the live service is
    allowed. Exchange and queue are durable because the messages are persistent.

    Raises:
        ValueError: the name is not allowed for a replay; the text says why.
    """
    name = f"{live.execution_exchange}{SUFFIX}" if name is None else name
    used = {
        live.execution_exchange,
        live.action_exchange,
        live.action_queue,
        live.dead_letter_exchange,
        live.dead_letter_queue,
    }
    if name in used or not name.endswith(SUFFIX):
        raise ValueError(
            f"a live agent may be bound to {name or 'an empty name'} and would learn from the same "
            f"messages twice: the name must end in {SUFFIX}, like {live.execution_exchange}{SUFFIX}"
        )
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name} is not a valid name: it must be 1 to 250 printable ASCII characters without blanks"
        )
    return attrs.evolve(
        live,
        execution_exchange=name,
        # The service would consume actions from this queue; a replay declares it and never consumes.
        action_exchange=name,
        action_routing_key="execution.*",
        action_queue=name,
        message_ttl_ms=EXPIRES_MS,
        transient=True,
        exclusive=False,
    )


@attrs.define
class Republisher:
    """Commits the replayed messages to the outbox; as a watcher it only collects them."""

    commits: trio.MemorySendChannel[Commit]
    collected: int = 0
    """Messages of the replay so far."""
    published: int = 0
    """Messages that the broker has confirmed."""
    _entries: list[Entry] = attrs.field(factory=list, init=False)
    _seq: int = attrs.field(default=0, init=False)

    @property
    def waiting(self) -> int:
        """Messages that the broker has not confirmed yet."""
        return self.collected - self.published

    def __call__(self, played: PlayedStep) -> None:
        """See ``Watcher``."""
        sent = [
            encode_publication(effect)
            for effect in played.effects
            if isinstance(effect, PublishExecution | PublishClosure | PublishRejection)
        ]
        if sent:
            self._seq += 1
            self.collected += len(sent)
            kind, at_ns = played.step.journaled_input.kind.value, played.step.at_ns
            outbox = tuple(Message(one.message_id, one.routing_key, one.body) for one in sent)
            self._entries.append(Entry(self._seq, Record(kind, b"", at_ns, 0), outbox))

    async def send(self) -> None:
        """Commit what was collected since the last call; waits while ``COMMITS`` are pending."""
        if self._entries:
            entries, self._entries = tuple(self._entries), []
            await self.commits.send(Commit(entries, ()))

    def confirmed(self, messages: Sequence[Outgoing], _took_ns: int) -> None:
        """See ``TimedBroker``."""
        self.published += len(messages)


@asynccontextmanager
async def republishing(broker: Broker, run_sync: RunSync) -> AsyncIterator[Republisher]:
    """Publish what the block sends; ends when the broker has confirmed all, or by cancellation.

    Raises:
        StateError: the temporary folder is not writable.
    """
    commits, commits_out = trio.open_memory_channel[Commit](COMMITS)
    durable, durable_out = trio.open_memory_channel[Batch](BATCHES)
    republisher = Republisher(commits)
    with (
        TemporaryDirectory(prefix="oms-trio-replay-") as folder,
        Journal.open(Path(folder) / JOURNAL) as journal,
    ):
        disk = JournalWorker(journal, run_sync)
        async with trio.open_nursery() as nursery:
            gate = Gate(broker.consume)
            nursery.start_soon(keep_journal, commits_out, durable, disk, broker, gate)
            timed = TimedBroker(broker, republisher.confirmed)
            nursery.start_soon(publish, durable_out, disk, timed)
            with commits:
                yield republisher
                await republisher.send()
