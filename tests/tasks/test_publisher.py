"""The publisher: in order, until confirmed, and from the disk what the channel had no room for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from oms_trio.amqp.model import Outgoing
from oms_trio.journal.errors import JournalFull
from oms_trio.journal.model import Message
from oms_trio.journal.worker import FULL_PAUSE_S
from oms_trio.service.channels import Batch
from oms_trio.tasks.publisher import IDLE_S, PAGE, UNROUTABLE_WARN_S, publish
from tests.journal.helpers import entries
from tests.tasks.ledger import Ledger, open_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path) as ledger:
        yield ledger


@attrs.define
class Publishing:
    """The task at work: what becomes durable, and what an agent hears."""

    ledger: Ledger
    durable: trio.MemorySendChannel[Batch]
    told: trio.MemoryReceiveChannel[Outgoing]

    def commit(self, count: int = 1, *, handed_on: bool = True) -> None:
        """Make messages durable, and hand them on when there is room."""
        journal = self.ledger.journal
        first = journal.last_position + 1
        new = entries(journal.last_seq + 1, journal.last_seq + count)
        journal.append(new)
        messages = tuple(message for entry in new for message in entry.outbox)
        if handed_on:
            with suppress(trio.WouldBlock):
                self.durable.send_nowait(Batch(first, messages))

    def heard(self) -> list[str]:
        """The ids of all that the agent has heard since it was last asked."""
        ids = []
        while self.told.statistics().current_buffer_used:
            ids.append(self.told.receive_nowait().message_id)
        return ids


def named(first: int, last: int) -> list[str]:
    """The ids of the messages of these inputs."""
    return [f"m-{seq}-0" for seq in range(first, last + 1)]


@asynccontextmanager
async def publishing(ledger: Ledger, room: int = 64) -> AsyncIterator[Publishing]:
    """Run the task until all is published."""
    durable, batches = trio.open_memory_channel[Batch](room)
    told = ledger.broker.subscribe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(publish, batches, ledger.disk, ledger.broker))
        with durable:
            yield Publishing(ledger, durable, told)


async def test_messages_leave_in_order_and_the_outbox_is_empty_then(ledger: Ledger) -> None:
    async with publishing(ledger) as task:
        for _ in range(5):
            task.commit(3)
    assert task.heard() == named(1, 15)
    assert ledger.journal.outbox_size() == 0


async def test_a_message_leaves_with_its_cause(ledger: Ledger) -> None:
    async with publishing(ledger) as task:
        await wait_all_tasks_blocked()
        messages = (Message("a", "k", b"{}", "adl"), Message("b", "k", b"{}"))
        ledger.journal.append([attrs.evolve(entries(1, 1)[0], outbox=messages)])
        task.durable.send_nowait(Batch(1, messages))
    told = [task.told.receive_nowait() for _ in messages]
    assert told == [Outgoing("a", "k", b"{}", "adl"), Outgoing("b", "k", b"{}")]


async def test_messages_that_nobody_hears_are_warned_of_once_a_minute_and_not_kept(
    ledger: Ledger, autojump_clock: MockClock
) -> None:
    with capture_logs() as logged:
        async with publishing(ledger) as task:
            task.told.close()
            for _ in range(10):
                task.commit()
                while ledger.journal.outbox_size():  # noqa: ASYNC110 - the disk's thread has no clock
                    await trio.sleep(0.01)
                await trio.sleep(UNROUTABLE_WARN_S / 5)
    warnings = [line for line in logged if line["event"] == "executions_unroutable"]
    assert [(line["count"], line["total"]) for line in warnings] == [(1, 1), (5, 6)]
    assert ledger.journal.outbox_size() == 0


async def test_what_an_earlier_process_left_comes_first(ledger: Ledger) -> None:
    ledger.journal.append(entries(1, PAGE + 10))
    async with publishing(ledger) as task:
        task.commit(2)
    assert task.heard() == named(1, PAGE + 12)


async def test_what_was_not_confirmed_is_sent_again_by_the_same_id(ledger: Ledger) -> None:
    async with publishing(ledger) as task:
        ledger.broker.lose_confirms(2)
        task.commit(2)
        await wait_all_tasks_blocked()
        task.commit()
    assert task.heard() == named(1, 2) * 3 + named(3, 3)
    assert ledger.journal.outbox_size() == 0


async def test_nothing_leaves_the_outbox_before_its_confirm(ledger: Ledger) -> None:
    async with publishing(ledger) as task:
        ledger.broker.set_available(False)
        task.commit(2)
        await wait_all_tasks_blocked()
        assert ledger.journal.outbox_size() == 2
        assert task.heard() == []
        ledger.broker.set_available(True)
    assert task.heard() == named(1, 2)


async def test_confirmed_messages_leave_the_outbox_together(
    ledger: Ledger, autojump_clock: MockClock
) -> None:
    async with publishing(ledger) as task:
        for _ in range(5):
            task.commit()
            await trio.sleep(IDLE_S / 2)
        assert ledger.done == []
        await trio.sleep(IDLE_S)
        assert ledger.done == ["confirm"]
        assert ledger.journal.outbox_size() == 0


async def test_confirmed_messages_wait_for_room_on_a_full_disk(
    ledger: Ledger, autojump_clock: MockClock
) -> None:
    """Removing rows needs room too; the messages were published, and are not published again."""
    ledger.failing, ledger.failures = "confirm", [JournalFull(Path("journal"))] * 3
    async with publishing(ledger) as task:
        task.commit(2)
        await trio.sleep(4 * FULL_PAUSE_S)
        task.commit()
    assert autojump_clock.current_time() >= 3 * FULL_PAUSE_S
    assert task.heard() == named(1, 3)
    assert ledger.journal.outbox_size() == 0


async def test_what_found_no_room_in_the_channel_is_read_back_from_the_disk(
    ledger: Ledger,
) -> None:
    async with publishing(ledger, room=2) as task:
        ledger.broker.set_available(False)
        await wait_all_tasks_blocked()
        for _ in range(40):
            task.commit(5)
            await wait_all_tasks_blocked()
        ledger.broker.set_available(True)
        await wait_all_tasks_blocked()
        task.commit()
    assert task.heard() == named(1, 201)


async def test_a_gap_before_a_batch_is_filled_from_the_disk_first(ledger: Ledger) -> None:
    async with publishing(ledger) as task:
        await wait_all_tasks_blocked()
        task.commit(3, handed_on=False)
        task.commit(2)
        await wait_all_tasks_blocked()
        assert task.heard() == named(1, 5)


async def test_the_last_messages_leave_even_if_they_were_never_handed_on(ledger: Ledger) -> None:
    async with publishing(ledger) as task:
        await wait_all_tasks_blocked()
        task.commit(3, handed_on=False)
    assert task.heard() == named(1, 3)


async def test_a_process_that_ends_before_the_confirm_leaves_the_message_to_the_next(
    tmp_path: Path,
) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.broker.set_available(False)
        async with trio.open_nursery() as nursery, publishing(ledger) as task:
            task.commit(2)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    with open_ledger(tmp_path) as ledger:
        async with publishing(ledger) as task:
            pass
        assert task.heard() == named(1, 2)
