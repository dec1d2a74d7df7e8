"""Makes inputs durable, many at once, and then does what had to wait for that."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain

import structlog
import trio

from oms_trio.amqp.model import Broker
from oms_trio.journal.errors import JournalFull
from oms_trio.journal.model import Entry
from oms_trio.journal.worker import FULL_PAUSE_S, JournalWorker
from oms_trio.service.channels import Batch, Commit
from oms_trio.service.intake_gate import Gate

log = structlog.get_logger()

GROUP = 4096
"""Entries of one transaction at most; a record is about a kilobyte."""

LINGER_S = 0.005
"""How long inputs gather before a commit that would set off nothing but acknowledgements.

An action brings four or five more inputs within milliseconds. Committed one by one they keep
the disk and its thread busy when the fill comes whose message waits for its own commit.
"""


async def keep_journal(
    commits: trio.MemoryReceiveChannel[Commit],
    durable: trio.MemorySendChannel[Batch],
    disk: JournalWorker,
    broker: Broker,
    gate: Gate,
) -> None:
    """Commit until the channel is closed and empty, then close ``durable``, the publisher's channel.

    While one commit's fsync lasts the next ones gather, and before one that nobody waits for a
    little longer: a burst costs one fsync, not one each. While the disk is full ``gate`` is closed.

    Raises:
        StateError: the disk failed or the journal is damaged.
    """
    with commits, durable:
        async with trio.open_nursery() as nursery:
            async for first in commits:
                group = await _gathered(first, commits)
                await _commit(group, durable, disk, broker, gate, nursery)


async def _gathered(first: Commit, commits: trio.MemoryReceiveChannel[Commit]) -> list[Commit]:
    """Take what is there, and as long as nobody waits for the commit what comes a little later."""
    group, entries = [first], len(first.entries)
    urgent = _urgent(first)
    deadline = trio.current_time() + LINGER_S
    while entries < GROUP:
        try:
            group.append(commits.receive_nowait())
        except trio.WouldBlock:
            if urgent:
                break
            with trio.move_on_at(deadline), suppress(trio.EndOfChannel):
                group.append(await commits.receive())
                entries += len(group[-1].entries)
                urgent = _urgent(group[-1])
                continue
            break
        except trio.EndOfChannel:
            break
        entries += len(group[-1].entries)
        urgent = urgent or _urgent(group[-1])
    return group


def _urgent(commit: Commit) -> bool:
    """Whether a message, an operator or the end of the process waits for this commit."""
    return (
        commit.snapshot is not None
        or bool(commit.on_durable)
        or any(entry.outbox for entry in commit.entries)
    )


async def _commit(
    group: list[Commit],
    durable: trio.MemorySendChannel[Batch],
    disk: JournalWorker,
    broker: Broker,
    gate: Gate,
    nursery: trio.Nursery,
) -> None:
    entries = [entry for commit in group for entry in commit.entries]
    position = disk.journal.last_position + 1
    await _append(entries, disk, gate)
    for commit in group:
        for callback in commit.on_durable:
            callback()
    messages = tuple(chain.from_iterable(entry.outbox for entry in entries))
    if messages:
        # A publisher that is behind reads from the disk what it was not given; one that was
        # cancelled while the disk was slow leaves that to the next start.
        with suppress(trio.WouldBlock, trio.BrokenResourceError):
            durable.send_nowait(Batch(position, messages))
        # The publisher's turn: the broker's thread must not take the interpreter away for
        # acknowledgements, which nobody waits for, before it has the messages.
        await trio.lowlevel.checkpoint()
    settle = [done for commit in group for done in commit.settle]
    if tags := [done.delivery for done in settle if done.dead_letter is None]:
        broker.ack(tags)
    for done in settle:
        if done.dead_letter is not None:
            nursery.start_soon(broker.dead_letter, done.delivery, done.dead_letter)
    await _save_snapshots(group, disk)


async def _save_snapshots(group: list[Commit], disk: JournalWorker) -> None:
    """Save snapshots and keep the journal's log short, now that nobody waits for the commit."""
    for commit in group:
        if commit.snapshot is not None:
            snapshot = commit.snapshot
            save = disk.journal.save_snapshot
            try:
                await disk.run(save, snapshot.seq, snapshot.blob, snapshot.digest)
            except JournalFull as error:
                # It only shortens the next start: the records say the same.
                log.warning("snapshot_skipped", why=str(error))
    if disk.journal.checkpoint_due:
        with suppress(JournalFull):  # then the log just goes on
            await disk.run(disk.journal.checkpoint)


async def _append(entries: list[Entry], disk: JournalWorker, gate: Gate) -> None:
    """Append; on a full disk stop taking actions, and wait for space as long as it takes."""
    while True:
        try:
            await disk.run(disk.journal.append, entries)
        except JournalFull as error:
            gate.close("disk", str(error))
            log.error("journal_full", why=str(error), waiting=len(entries))  # noqa: TRY400 - one line
            await trio.sleep(FULL_PAUSE_S)
        else:
            gate.open("disk")
            return
