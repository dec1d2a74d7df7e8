"""Records, outbox and snapshots are read back as they were written; retention removes old ones."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.journal.errors import JournalCorrupt, JournalIOError
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Message, Record, StateSnapshot
from tests.journal.helpers import SECOND_NS, START_NS, entries, message, record, sequences


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.open(path) as journal:
        yield journal


def test_a_new_journal_is_empty(journal: Journal) -> None:
    assert (journal.last_seq, journal.first_seq, journal.outbox_size()) == (0, 1, 0)
    assert list(journal.tail(0)) == []
    assert journal.outbox() == []
    assert journal.latest_snapshot() is None


def test_appended_entries_are_there_after_reopening(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append(entries(1, 3))
        journal.append(entries(4, 4))
    with Journal.open(path, create=False) as journal:
        assert journal.last_seq == 4
        assert sequences(list(journal.tail(0))) == [1, 2, 3, 4]
        assert sequences(list(journal.tail(2))) == [3, 4]
        assert [entry for _, entry in journal.outbox()] == [message(seq) for seq in range(1, 5)]
        journal.append(entries(5, 5))


@given(
    st.builds(
        Record,
        kind=st.text(st.characters(codec="utf-8"), min_size=1),
        raw=st.binary(),
        at_ns=st.integers(0, 2**63 - 1),
        mono_ns=st.integers(0, 2**63 - 1),
        context=st.text(st.characters(codec="utf-8")),
    )
)
def test_every_record_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, written: Record
) -> None:
    with Journal.open(tmp_path_factory.mktemp("j") / "journal.db") as journal:
        journal.append([Entry(1, written)])
        assert list(journal.tail(0)) == [(1, written)]


def test_appending_nothing_makes_no_transaction(journal: Journal) -> None:
    statements: list[str] = []
    journal._connection.set_trace_callback(statements.append)
    journal.append([])
    assert statements == []


@pytest.mark.parametrize("sequence", [[2], [0], [1, 3], [1, 1], [2, 1]])
def test_a_gap_in_the_sequence_is_rejected(journal: Journal, sequence: list[int]) -> None:
    with pytest.raises(ValueError, match="must continue at 1 without a gap"):
        journal.append([Entry(seq, record(seq)) for seq in sequence])
    assert journal.last_seq == 0


def test_a_batch_with_a_repeated_message_is_rejected_as_a_whole(journal: Journal) -> None:
    journal.append(entries(1, 1))
    with pytest.raises(ValueError, match=r"outbox\.message_id"):
        journal.append([*entries(2, 2), Entry(3, record(3), (message(1),))])
    assert journal.last_seq == 1
    assert sequences(list(journal.tail(0))) == [1]
    journal.append(entries(2, 3))
    assert [name for name, _ in journal.outbox()] == [1, 2, 3]


def test_messages_of_one_entry_keep_their_order(journal: Journal) -> None:
    messages = tuple(message(1, part) for part in (3, 1, 2))
    journal.append([Entry(1, record(1), messages)])
    assert tuple(sent for _, sent in journal.outbox()) == messages


def test_confirmed_messages_leave_the_outbox_and_the_rest_keeps_its_order(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append(entries(1, 5))
        journal.confirm(["m-2-0", "m-4-0", "m-99-0"])
        journal.confirm([])
        assert journal.outbox_size() == 3
    with Journal.open(path) as journal:
        assert [sent.message_id for _, sent in journal.outbox()] == ["m-1-0", "m-3-0", "m-5-0"]


def test_the_outbox_is_read_in_pages(journal: Journal) -> None:
    journal.append(entries(1, 7))
    first = journal.outbox(limit=3)
    second = journal.outbox(first[-1][0], limit=3)
    third = journal.outbox(second[-1][0], limit=3)
    read = [sent for _, sent in first + second + third]
    assert read == [message(seq) for seq in range(1, 8)]


def test_positions_grow_although_the_outbox_was_emptied(journal: Journal) -> None:
    """Otherwise a publisher that remembers its position would skip new messages."""
    journal.append(entries(1, 3))
    last = journal.outbox()[-1][0]
    journal.confirm([sent.message_id for _, sent in journal.outbox()])
    journal.append(entries(4, 4))
    assert [sent for _, sent in journal.outbox(last)] == [message(4)]


def test_the_last_three_snapshots_are_kept(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append(entries(1, 5))
        for seq in range(1, 6):
            journal.save_snapshot(seq, bytes([seq]) * 1000, f"digest-{seq}")
    with Journal.open(path) as journal:
        assert journal.latest_snapshot() == StateSnapshot(5, b"\x05" * 1000, "digest-5")
        assert journal.latest_snapshot(4) == StateSnapshot(4, b"\x04" * 1000, "digest-4")
        assert journal.latest_snapshot(3) == StateSnapshot(3, b"\x03" * 1000, "digest-3")
        assert journal.latest_snapshot(2) is None


def test_a_snapshot_of_inputs_that_are_not_durable_is_rejected(journal: Journal) -> None:
    journal.append(entries(1, 1))
    with pytest.raises(ValueError, match="snapshot of 2: the journal ends at 1"):
        journal.save_snapshot(2, b"", "")


def test_compaction_removes_old_records_that_every_kept_snapshot_covers(
    journal: Journal,
) -> None:
    journal.append(entries(1, 20))
    assert journal.compact(START_NS * 2) == 0, "no snapshot covers anything"
    journal.save_snapshot(8, b"a", "")
    journal.save_snapshot(15, b"b", "")
    assert journal.compact(START_NS + 5 * SECOND_NS) == 4
    assert journal.first_seq == 5
    assert journal.compact(START_NS * 2) == 4
    assert sequences(list(journal.tail(8))) == list(range(9, 21))
    assert journal.compact(START_NS * 2) == 0


def test_compaction_is_done_in_steps(journal: Journal) -> None:
    journal.append(entries(1, 10))
    journal.save_snapshot(9, b"a", "")
    assert [journal.compact(START_NS * 2, limit=4) for _ in range(4)] == [4, 4, 1, 0]


def test_reading_removed_records_is_an_error(journal: Journal) -> None:
    journal.append(entries(1, 10))
    journal.save_snapshot(9, b"a", "")
    journal.compact(START_NS * 2)
    with pytest.raises(ValueError, match="record 1 has been removed: the journal begins at 10"):
        journal.tail(0)


def test_the_sequence_continues_after_all_records_were_removed(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append(entries(1, 10))
        journal.save_snapshot(10, b"a", "")
        assert journal.compact(START_NS * 2) == 10
    with Journal.open(path) as journal:
        assert (journal.last_seq, journal.first_seq) == (10, 11)
        assert list(journal.tail(10)) == []
        journal.append(entries(11, 11))
        assert sequences(list(journal.tail(10))) == [11]


def test_a_missing_record_is_detected(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append(entries(1, 5))
    with sqlite3.connect(path) as raw:
        raw.execute("DELETE FROM records WHERE seq = 3")
    raw.close()
    with Journal.open(path) as journal, pytest.raises(JournalCorrupt, match="record 3 is missing"):
        list(journal.tail(0))


def test_the_tail_can_be_read_while_more_is_appended(journal: Journal) -> None:
    journal.append(entries(1, 300))
    reading = journal.tail(0)
    assert next(reading)[0] == 1
    journal.append(entries(301, 301))
    assert sequences(list(reading)) == list(range(2, 302))


def test_another_process_can_read_a_journal_in_use(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append(entries(1, 3))
        with Journal.open(path, read_only=True) as reader:
            assert sequences(list(reader.tail(0))) == [1, 2, 3]
            with pytest.raises(JournalIOError, match="readonly"):
                reader.append(entries(4, 4))
        journal.append(entries(4, 4))
        assert journal.last_seq == 4


READER = """
import resource, sys
from pathlib import Path
from oms_trio.journal.journal import Journal
with Journal.open(Path(sys.argv[1]), read_only=True) as journal:
    next(journal.tail(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = sum(1 for _ in journal.tail(0))
    print(read, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_long_tail_is_read_in_bounded_memory(path: Path, journal: Journal) -> None:
    """100,000 records are 40 MB and more as objects; reading them takes a tenth of it."""
    raw = bytes(200)
    for first in range(1, 100_001, 10_000):
        journal.append(
            [Entry(seq, Record("tick", raw, seq, seq)) for seq in range(first, first + 10_000)]
        )
    done = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-c", READER, path], capture_output=True, text=True, check=True
    )
    read, kibibytes = map(int, done.stdout.split())
    assert read == 100_000
    assert kibibytes < 4096


async def test_worker_threads_may_take_turns(journal: Journal) -> None:
    await trio.to_thread.run_sync(journal.append, entries(1, 2))
    async with trio.open_nursery() as nursery:
        done = trio.Event()
        # It keeps the thread of the first call busy, so that the second one gets another.
        nursery.start_soon(trio.to_thread.run_sync, trio.from_thread.run, done.wait)
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(journal.append, entries(3, 4))
        done.set()
    assert journal.last_seq == 4


def test_a_sound_journal_passes_verification(journal: Journal) -> None:
    journal.append(entries(1, 600))
    journal.save_snapshot(5, b"a", "")
    journal.verify()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE records SET raw = x'00' WHERE seq = 2",
        "UPDATE records SET kind = 'x' WHERE seq = 2",
        "UPDATE records SET raw = 'text' WHERE seq = 2",
        "UPDATE records SET at_ns = at_ns + 1 WHERE seq = 2",
        "UPDATE outbox SET body = x'00'",
        "UPDATE outbox SET position = position + 10",
        "UPDATE snapshots SET blob = x'00'",
        "UPDATE snapshots SET digest = 'other'",
    ],
)
def test_a_changed_value_is_detected(path: Path, damage: str) -> None:
    """SQLite's own checks find nothing, since the structure of the pages is intact."""
    with Journal.open(path) as journal:
        journal.append(entries(1, 3))
        journal.save_snapshot(2, b"state", "digest")
    with sqlite3.connect(path) as raw:
        assert raw.execute(damage).rowcount > 0
    raw.close()
    with Journal.open(path) as journal, pytest.raises(JournalCorrupt, match="wrong checksum in"):
        journal.verify()


def test_the_checksum_of_a_message_is_checked_when_it_is_read(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append([Entry(1, record(1), (Message("a", "b", b"c"),))])
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE outbox SET routing_key = 'elsewhere'")
    raw.close()
    with (
        Journal.open(path) as journal,
        pytest.raises(JournalCorrupt, match="wrong checksum in outbox"),
    ):
        journal.outbox()


def test_a_checkpoint_copies_the_log_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        size = path.stat().st_size
        journal.append(entries(1, 10))
        before = journal.checkpoint_due
        journal.append(entries(11, 1000))
        assert (before, journal.checkpoint_due) == (False, True)
        assert path.stat().st_size == size
        journal.checkpoint()
        assert path.stat().st_size > size
    with Journal.open(path) as journal:
        assert not journal.checkpoint_due
        journal.append(entries(1001, 1001))
        assert sequences(list(journal.tail(0))) == list(range(1, 1002))
