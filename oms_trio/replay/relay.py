"""A replay's messages to an agent, published as they were then, to a place of their own.

    watcher  --commits-->  journal  --durable-->  publisher  -->  broker

The tasks, the codec and the outbox are the service's, on a journal that is thrown away: a broker
that goes away meanwhile costs no memory and no message.
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
from oms_trio.ops.timed import TimedBroker
from oms_trio.replay.recordings.model import Moment
from oms_trio.service.app import BATCHES
from oms_trio.service.channels import Batch, Commit
from oms_trio.service.intake_gate import Gate
from oms_trio.service.runtime import JOURNAL
from oms_trio.tasks.commit import keep_journal
from oms_trio.tasks.publisher import publish

SUFFIX: Final = ".replay"
"""What exchange and queue of a replay end in: no live one is called so, unless on purpose."""

KEPT_MS: Final = 86_400_000
"""What nobody takes, and a queue that nobody asks, is gone after a day: it is for who looks now."""

COMMITS = 64
"""Commits that wait for the disk; behind it the replay waits."""

_NAME: Final = re.compile(r"[!-~]{1,250}")


def replay_settings(live: BrokerSettings, name: str | None) -> BrokerSettings:
    """Return settings of the same broker with an exchange and a queue that only replays use.

    An agent that learns must not be told again what it was told, so nothing of the live service's
    names is taken. Exchange and queue are durable, since the messages are persistent, as then.

    Raises:
        ValueError: the name is not one for a replay; the text says why.
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
            f"{name} may be one that a live agent listens to, and would teach it twice: a replay's "
            f"must end in {SUFFIX}, as {live.execution_exchange}{SUFFIX} does"
        )
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name} is not 1 to 250 printable ASCII")
    return attrs.evolve(
        live,
        execution_exchange=name,
        # The queue that the service would take actions from: declared, and never taken from.
        action_exchange=name,
        action_routing_key="execution.*",
        action_queue=name,
        message_ttl_ms=KEPT_MS,
        transient=True,
        exclusive=False,
    )


@attrs.define
class Relay:
    """Hands on what the replayed state tells the agent; as a watcher it only takes notes."""

    commits: trio.MemorySendChannel[Commit]
    told: int = 0
    """Messages that the replay has told so far."""
    published: int = 0
    """Those that the broker has confirmed."""
    _noted: list[Entry] = attrs.field(factory=list, init=False)
    _seq: int = attrs.field(default=0, init=False)

    @property
    def waiting(self) -> int:
        """Messages that the broker has not confirmed."""
        return self.told - self.published

    def __call__(self, moment: Moment) -> None:
        """See ``Watcher``."""
        sent = [
            encode_publication(effect)
            for effect in moment.effects
            if isinstance(effect, PublishExecution | PublishClosure | PublishRejection)
        ]
        if sent:
            self._seq += 1
            self.told += len(sent)
            kind, at_ns = moment.step.arrival.kind.value, moment.step.at_ns
            outbox = tuple(Message(one.message_id, one.routing_key, one.body) for one in sent)
            self._noted.append(Entry(self._seq, Record(kind, b"", at_ns, 0), outbox))

    async def send(self) -> None:
        """Let go what was told since; waits when the disk is far behind."""
        if self._noted:
            entries, self._noted = tuple(self._noted), []
            await self.commits.send(Commit(entries, ()))

    def confirmed(self, messages: Sequence[Outgoing], _took_ns: int) -> None:
        """See ``TimedBroker``."""
        self.published += len(messages)


@asynccontextmanager
async def relaying(broker: Broker, run_sync: RunSync) -> AsyncIterator[Relay]:
    """Publish what the block hands on; ends when the broker has confirmed all, or by cancellation.

    Raises:
        StateError: the temporary folder cannot be written.
    """
    commits, commits_out = trio.open_memory_channel[Commit](COMMITS)
    durable, durable_out = trio.open_memory_channel[Batch](BATCHES)
    relay = Relay(commits)
    with (
        TemporaryDirectory(prefix="oms-trio-replay-") as folder,
        Journal.open(Path(folder) / JOURNAL) as journal,
    ):
        disk = JournalWorker(journal, run_sync)
        async with trio.open_nursery() as nursery:
            gate = Gate(broker.consume)
            nursery.start_soon(keep_journal, commits_out, durable, disk, broker, gate)
            timed = TimedBroker(broker, relay.confirmed)
            nursery.start_soon(publish, durable_out, disk, timed)
            with commits:
                yield relay
                await relay.send()
