"""The committing task: many inputs in one transaction, and nothing acknowledged before it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from oms_trio.core.effects import SettleDelivery
from oms_trio.journal.errors import JournalFull, JournalIOError
from oms_trio.journal.model import StateSnapshot
from oms_trio.journal.worker import FULL_PAUSE_S
from oms_trio.service.channels import Batch, Commit
from oms_trio.service.intake_gate import Gate
from oms_trio.tasks.commit import GROUP, LINGER_S, keep_journal
from tests.journal.helpers import entries, sequences
from tests.tasks.ledger import Ledger, open_ledger
from tests.tasks.venue import failure_of


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path) as ledger:
        yield ledger


@attrs.define
class Committing:
    """The task at work, and both ends of its channels."""

    commits: trio.MemorySendChannel[Commit]
    batches: trio.MemoryReceiveChannel[Batch]
    gate: Gate
    seq: int = 0

    def commit(
        self,
        *settle: SettleDelivery,
        count: int = 1,
        snapshot: bool = False,
        messages: bool = True,
    ) -> None:
        """Hand the next inputs over, each of them with a message or without."""
        first, self.seq = self.seq + 1, self.seq + count
        kept = StateSnapshot(self.seq, b"{}", "digest") if snapshot else None
        taken = entries(first, self.seq)
        if not messages:
            taken = [attrs.evolve(entry, outbox=()) for entry in taken]
        self.commits.send_nowait(Commit(tuple(taken), settle, kept))


@asynccontextmanager
async def committing(ledger: Ledger, room: float = math.inf) -> AsyncIterator[Committing]:
    """Run the task until all that was handed over is durable."""
    commits, commits_out = trio.open_memory_channel[Commit](math.inf)
    durable, batches = trio.open_memory_channel[Batch](room)
    gate = Gate(ledger.broker.consume)
    gate.open("state")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_journal, commits_out, durable, ledger.disk, ledger.broker, gate)
        with commits:
            yield Committing(commits, batches, gate)


async def test_a_burst_costs_one_transaction(ledger: Ledger) -> None:
    async with committing(ledger) as task:
        for delivery in range(500):
            task.commit(SettleDelivery(delivery))
    assert [what for what in ledger.done if what.startswith("append")] == ["append 1-500"]
    assert sequences(list(ledger.journal.tail(0))) == list(range(1, 501))


async def test_inputs_that_cause_no_message_gather_for_a_moment(
    ledger: Ledger, autojump_clock: MockClock
) -> None:
    async with committing(ledger) as task:
        task.commit(SettleDelivery(1), messages=False)
        await trio.sleep(LINGER_S / 2)
        task.commit(messages=False)
        await wait_all_tasks_blocked()
        assert ledger.done == []
        await trio.sleep(LINGER_S)
        assert ledger.done == ["append 1-2", "ack 1"]


async def test_a_message_ends_the_gathering_at_once(
    ledger: Ledger, autojump_clock: MockClock
) -> None:
    async with committing(ledger) as task:
        task.commit(messages=False)
        await trio.sleep(LINGER_S / 2)
        task.commit(messages=False)
        task.commit()
        await trio.sleep(LINGER_S / 10)
        assert ledger.done == ["append 1-3"]


async def test_a_steady_trickle_does_not_put_the_commit_off(
    ledger: Ledger, autojump_clock: MockClock
) -> None:
    async with committing(ledger) as task:
        for _ in range(20):
            task.commit(messages=False)
            await trio.sleep(LINGER_S * 0.4)
        assert len(ledger.done) >= 6


async def test_a_publisher_that_was_cancelled_first_is_no_failure(ledger: Ledger) -> None:
    """At a stop with a slow disk: the messages are in the outbox, for the next start."""
    ledger.held_up = trio.Event()
    async with committing(ledger) as task:
        task.commit(count=3)
        await wait_all_tasks_blocked()
        task.batches.close()
        ledger.held_up.set()
    assert ledger.done == ["append 1-3"]
    assert ledger.journal.outbox_size() == 3


async def test_a_transaction_has_a_bound(ledger: Ledger) -> None:
    async with committing(ledger) as task:
        for _ in range(6):
            task.commit(count=1000)
    appended = [done for done in ledger.done if done.startswith("append")]
    assert appended == ["append 1-5000", "append 5001-6000"]
    assert GROUP <= 5000


async def test_the_log_is_copied_between_commits_and_not_by_them(ledger: Ledger) -> None:
    async with committing(ledger) as task:
        task.commit(count=1000)
        await wait_all_tasks_blocked()
        task.commit()
    assert ledger.done == ["append 1-1000", "checkpoint", "append 1001-1001"]
    assert not ledger.journal.checkpoint_due


async def test_a_full_disk_leaves_the_log_as_it_is(ledger: Ledger) -> None:
    ledger.failing, ledger.failures = "checkpoint", [JournalFull(Path("journal"))]
    async with committing(ledger) as task:
        task.commit(count=1000)
        await wait_all_tasks_blocked()
        task.commit()
    assert ledger.done == ["append 1-1000", "append 1001-1001", "checkpoint"]


async def test_inputs_gather_while_a_commit_lasts(ledger: Ledger) -> None:
    ledger.held_up = trio.Event()
    async with committing(ledger) as task:
        task.commit()
        await wait_all_tasks_blocked()
        for _ in range(50):
            task.commit()
        ledger.held_up.set()
    assert ledger.done == ["append 1-1", "append 2-51"]


async def test_no_acknowledgement_before_the_commit(ledger: Ledger) -> None:
    ledger.held_up = trio.Event()
    async with committing(ledger) as task:
        task.commit(SettleDelivery(7), SettleDelivery(8, dead_letter="expired"))
        await wait_all_tasks_blocked()
        assert ledger.done == []
        ledger.held_up.set()
        await wait_all_tasks_blocked()
        assert ledger.done == ["append 1-1", "ack 7", "dead letter 8: expired"]


async def test_no_message_is_handed_on_before_the_commit(ledger: Ledger) -> None:
    ledger.held_up = trio.Event()
    async with committing(ledger) as task:
        task.commit(count=3)
        await wait_all_tasks_blocked()
        assert not task.batches.statistics().current_buffer_used
        ledger.held_up.set()
        batch = await task.batches.receive()
        assert batch.first == 1
        assert [message.message_id for message in batch.messages] == ["m-1-0", "m-2-0", "m-3-0"]


async def test_a_dead_letter_that_finds_no_broker_does_not_hold_up_what_follows(
    ledger: Ledger,
) -> None:
    async with committing(ledger) as task:
        ledger.broker.set_available(False)
        task.commit(SettleDelivery(1, dead_letter="expired"))
        await wait_all_tasks_blocked()
        task.commit(SettleDelivery(2))
        await wait_all_tasks_blocked()
        assert ledger.done == ["append 1-1", "append 2-2", "ack 2"]
        ledger.broker.set_available(True)
    assert ledger.done[-1] == "dead letter 1: expired"


async def test_a_snapshot_is_kept_after_what_it_is_about(ledger: Ledger) -> None:
    async with committing(ledger) as task:
        task.commit(count=2, snapshot=True)
    assert ledger.done == ["append 1-2", "save_snapshot"]
    found = ledger.journal.latest_snapshot()
    assert found is not None
    assert found.seq == 2


async def test_a_full_disk_stops_actions_loses_nothing_and_resumes(
    ledger: Ledger, autojump_clock: MockClock
) -> None:
    ledger.failures = [JournalFull(Path("journal"))] * 3
    async with committing(ledger) as task:
        task.commit(SettleDelivery(1))
        await wait_all_tasks_blocked()
        assert "disk" in task.gate.reasons
        assert "disk is full" in task.gate.reasons["disk"]
        task.commit(SettleDelivery(2))
        await trio.sleep(2.5 * FULL_PAUSE_S)
        assert ledger.done == []
        await trio.sleep(FULL_PAUSE_S)
        assert ledger.done == ["append 1-1", "ack 1", "append 2-2", "ack 2"]
        assert not task.gate.reasons
    batches = [batch.first async for batch in task.batches]
    assert batches == [1, 2]


async def test_a_publisher_that_is_behind_does_not_hold_up_commits(ledger: Ledger) -> None:
    async with committing(ledger, room=1) as task:
        for _ in range(5):
            task.commit()
            await wait_all_tasks_blocked()
        assert len([what for what in ledger.done if what.startswith("append")]) == 5
    assert [batch.first async for batch in task.batches] == [1]


async def test_a_broken_disk_ends_the_task(ledger: Ledger) -> None:
    ledger.failures = [JournalIOError(Path("journal"), "I/O error")]

    async def run() -> None:
        async with committing(ledger) as task:
            task.commit(SettleDelivery(1))
            await trio.sleep_forever()

    assert isinstance(await failure_of(run()), JournalIOError)
    assert ledger.done == [], "what is not durable is not acknowledged"


async def test_a_snapshot_that_finds_no_room_is_left_out(ledger: Ledger) -> None:
    """The records that it would have summed up are durable all the same."""
    ledger.failing, ledger.failures = "save_snapshot", [JournalFull(Path("journal"))]
    async with committing(ledger) as task:
        task.commit(SettleDelivery(1), snapshot=True)
        task.commit(SettleDelivery(2))
    assert ledger.journal.last_seq == 2
    assert ledger.journal.latest_snapshot() is None
