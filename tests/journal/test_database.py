"""The file: made whole, refused when foreign or damaged, never changed then, migrated forward."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sqlite3
import stat
import zlib
from pathlib import Path

import pytest

from oms_trio.core.identity import order_name
from oms_trio.core.model import StateId
from oms_trio.journal import database
from oms_trio.journal.errors import (
    JournalBroken,
    JournalCorrupt,
    JournalForeign,
    JournalMissing,
    JournalTooNew,
    StateError,
)
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Message
from tests.journal.helpers import START_NS, entries, message, record, sequences


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def written(path: Path, last: int = 400) -> bytes:
    """Write a journal of several pages, and return its file's bytes."""
    with Journal.open(path) as journal:
        journal.append(entries(1, last))
        journal.save_snapshot(last // 2, b"state" * 100, "digest")
    return path.read_bytes()


def content(folder: Path) -> dict[str, str]:
    """Return a digest of every file but SQLite's shared memory, which holds no data."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.is_file() and not file.name.endswith("-shm") and file.stat().st_size
    }


def refused(path: Path, kind: type[StateError], why: str) -> None:
    """Expect one clear line, and every byte as it was."""
    before = content(path.parent)
    with pytest.raises(kind, match=why) as caught:
        Journal.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content(path.parent) == before


def test_a_new_journal_is_its_owners_alone_and_leaves_nothing_beside_it(path: Path) -> None:
    with Journal.open(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_journal_that_is_only_to_be_read_is_not_made(path: Path) -> None:
    for kwargs in ({"create": False}, {"read_only": True}):
        with pytest.raises(JournalMissing, match="no journal is here"):
            Journal.open(path, **kwargs)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalBroken, match="No such file or directory"):
        Journal.open(tmp_path / "none" / "journal.db")


def test_a_name_with_signs_that_urls_use_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#%20é.db"
    written(path, 1)
    assert path.exists()


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (b"", JournalCorrupt, "is empty"),
        (b"x", JournalForeign, "not an SQLite file"),
        (random.Random(1).randbytes(20_000), JournalForeign, "not an SQLite file"),
        (b"SQLite format 3\0", JournalForeign, "not an SQLite file"),
        (b"SQLite format 3\0" + bytes(5000), JournalForeign, "another program"),
    ],
    ids=["empty", "short", "garbage", "magic alone", "magic and nothing"],
)
def test_a_file_that_is_no_journal_is_refused(
    path: Path, data: bytes, kind: type[StateError], why: str
) -> None:
    path.write_bytes(data)
    refused(path, kind, why)


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE records (seq)")
        other.execute("INSERT INTO records VALUES (1)")
        other.commit()
        refused(path, JournalForeign, "another program")
    other.close()


def test_a_folder_or_a_pipe_is_refused(path: Path) -> None:
    path.mkdir()
    refused(path, JournalForeign, "not a regular file")
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(JournalForeign, match="not a regular file"):
        Journal.open(path)


def test_a_link_to_nowhere_is_refused(path: Path) -> None:
    path.symlink_to(path.parent / "gone")
    with pytest.raises(JournalForeign, match="not a regular file"):
        Journal.open(path)


def test_a_log_without_its_journal_is_refused(path: Path) -> None:
    """SQLite would read the old file's pages into a new one."""
    wal = path.with_name(f"{path.name}-wal")
    wal.write_bytes(b"pages")
    refused(path, JournalCorrupt, "its -wal is here")
    assert wal.read_bytes() == b"pages"


def test_a_journal_whose_end_is_missing_is_refused(path: Path) -> None:
    data = written(path)
    for kept in (100, 4096, 4097, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:kept])
        refused(path, JournalCorrupt, "damaged")


def test_a_damaged_journal_with_a_log_keeps_both_as_they_are(path: Path) -> None:
    """Closing a file that SQLite has opened for writing would copy the log into it."""
    with Journal.open(path) as journal:
        journal.append(entries(1, 50))
        wal = path.with_name(f"{path.name}-wal")
        file, log = bytearray(path.read_bytes()), wal.read_bytes()
    file[100:200] = bytes(100)
    path.write_bytes(file)
    wal.write_bytes(log[: len(log) // 2])  # so that the damaged page is read from the file
    with contextlib.suppress(FileNotFoundError):
        path.with_name(f"{path.name}-shm").unlink()
    refused(path, JournalCorrupt, "damaged")


def test_other_tables_than_the_schemas_are_refused(path: Path) -> None:
    written(path, 3)
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TABLE outbox")
    raw.close()
    refused(path, JournalCorrupt, "tables are not those")


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_byte_is_noticed_or_harmless_but_never_read_as_truth(
    path: Path, seed: int
) -> None:
    """Wherever it is: either a clear error, or every value is as it was written."""
    rng = random.Random(seed)
    data = written(path, 60)
    noticed = held = 0
    for _ in range(40):
        damaged = bytearray(data)
        # Half of them in the first page, where the schema and the roots are.
        place = rng.randrange(4096 if rng.random() < 0.5 else len(data))
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            with Journal.open(path, create=False) as journal:
                journal.verify()
                assert sequences(list(journal.tail(0))) == list(range(1, 61))
                messages = [sent for _, sent in journal.outbox()]
                assert messages == [message(seq) for seq in range(1, 61)]
                snapshot = journal.latest_snapshot()
                assert snapshot is not None
                assert snapshot.blob == b"state" * 100
            held += 1
        except StateError as error:
            noticed += "\n" not in str(error)
        for name in ("-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)
    assert noticed > 0
    assert noticed + held == 40


def test_a_torn_log_gives_back_a_beginning_of_what_was_written(path: Path) -> None:
    """After a power cut the log's end may be anything; what comes before must still hold."""
    journal = Journal.open(path)
    for seq in range(1, 31):
        journal.append(entries(seq, seq))
    wal = path.with_name(f"{path.name}-wal")
    file, log = path.read_bytes(), wal.read_bytes()
    journal.close()
    rng = random.Random(2)
    for _ in range(30):
        cut = rng.randrange(len(log))
        path.write_bytes(file)
        wal.write_bytes(log[:cut] + rng.randbytes(rng.randrange(5000)))
        with Journal.open(path, create=False) as journal:
            kept = journal.last_seq
            assert sequences(list(journal.tail(0))) == list(range(1, kept + 1))
            assert [sent for _, sent in journal.outbox()] == [
                message(seq) for seq in range(1, kept + 1)
            ]
            journal.append(entries(kept + 1, kept + 1))


@pytest.fixture
def next_schema(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Let the next release add a column and fill it."""
    step = (
        "ALTER TABLE records ADD COLUMN source TEXT NOT NULL DEFAULT ''",
        "UPDATE records SET source = kind",
    )
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, step))
    return step


def test_an_older_schema_is_migrated_and_keeps_everything(
    path: Path, request: pytest.FixtureRequest
) -> None:
    written(path, 5)
    request.getfixturevalue("next_schema")
    with Journal.open(path, read_only=True) as journal:
        assert sequences(list(journal.tail(0))) == [1, 2, 3, 4, 5]
    with Journal.open(path) as journal:
        assert sequences(list(journal.tail(0))) == [1, 2, 3, 4, 5]
        journal.append(entries(6, 6))
        journal.verify()
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (3,)
        assert raw.execute("SELECT source FROM records WHERE seq = 5").fetchone() == ("orders",)
    raw.close()


def test_a_new_journal_has_the_schema_of_all_steps(
    path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("next_schema")
    written(path, 1)
    with Journal.open(path) as journal:
        assert journal.last_seq == 1


def test_a_migration_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(path, 5)
    steps = database.MIGRATIONS
    broken = ("ALTER TABLE records ADD COLUMN source TEXT", "UPDATE missing SET x = 1")
    monkeypatch.setattr(database, "MIGRATIONS", (*steps, broken))
    with pytest.raises(JournalBroken, match="no such table: missing"):
        Journal.open(path)
    monkeypatch.setattr(database, "MIGRATIONS", steps)
    with Journal.open(path) as journal:
        assert sequences(list(journal.tail(0))) == [1, 2, 3, 4, 5]


ID = "5f2c"
BODY = bytes.fromhex("2a0000000000047dc125020000801e85eb51b81e1500e03b6600")
ORDER_NAME = order_name(StateId(42), b"id" + ID.encode() + BODY)


@pytest.fixture
def first_schema(path: Path) -> Path:
    """A journal as the first release wrote it: two actions, of which one has an id, a message."""
    contexts = [
        f'{{"message_id":{text},"redelivered":false,"received_ns":1,"delivery":1}}'
        for text in ("null", f'"{ID}"')
    ]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute(f"PRAGMA application_id = {database.APPLICATION_ID}")
        database.migrate(raw, 1)
        for seq, context in enumerate(contexts, 1):
            fields = (seq, START_NS, 0, "action", context)
            checksum = zlib.crc32(BODY, zlib.crc32(repr((*fields, b"")).encode()))
            row = (*fields, checksum, BODY, b"")
            raw.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        told = (1, "m-1", "execution.update")
        checksum = zlib.crc32(b"{}", zlib.crc32(repr(told).encode()))
        raw.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", (*told, checksum, b"{}"))
        raw.execute("PRAGMA journal_mode = WAL")
    return path


def test_a_journal_of_the_first_schema_is_migrated_in_place(first_schema: Path) -> None:
    with Journal.open(first_schema) as journal:
        assert journal.knows_action(ORDER_NAME)
        assert not journal.knows_action(order_name(StateId(42), b"id" + BODY))
        assert journal.account is None
        assert journal.outbox() == [(1, Message("m-1", "execution.update", b"{}", ""))]
        assert [record.raw for _, record in journal.tail(0)] == [BODY, BODY]
        journal.append([Entry(3, record(3), (Message("m-2", "k", b"", "adl"),), "another")])
        journal.verify()
    with Journal.open(first_schema) as journal:
        assert journal.knows_action("another")
        assert [sent.cause for _, sent in journal.outbox()] == ["", "adl"]


def test_a_journal_of_the_first_schema_can_be_read_and_stays_as_it_is(first_schema: Path) -> None:
    before = first_schema.read_bytes()
    with Journal.open(first_schema, read_only=True) as journal:
        assert [record.raw for _, record in journal.tail(0)] == [BODY, BODY]
        assert journal.outbox() == [(1, Message("m-1", "execution.update", b"{}", ""))]
        assert journal.account is None
        journal.verify()
    assert first_schema.read_bytes() == before


def test_an_action_that_is_damaged_does_not_stop_the_migration(first_schema: Path) -> None:
    """Whoever reads its record is told; those that are never read again stop nobody."""
    with contextlib.closing(sqlite3.connect(first_schema)) as raw, raw:
        raw.execute("UPDATE records SET context = '[' WHERE seq = 1")
    with Journal.open(first_schema) as journal:
        assert journal.knows_action(ORDER_NAME)
        with pytest.raises(JournalCorrupt, match="checksum of records 1"):
            list(journal.tail(0))


def test_a_newer_schema_is_refused(path: Path) -> None:
    written(path, 1)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    refused(path, JournalTooNew, "schema 99, this release knows 2")


def test_a_half_made_journal_is_never_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making it fails in the middle: there is no file, and the next start makes one."""
    monkeypatch.setattr(database, "MIGRATIONS", (("CREATE TABLE a (b)", "no statement"),))
    with pytest.raises(JournalBroken):
        Journal.open(path)
    assert list(path.parent.iterdir()) == []
    monkeypatch.undo()
    with Journal.open(path) as journal:
        assert journal.last_seq == 0


def test_two_that_make_the_same_journal_do_not_overwrite_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def late(source: Path, target: Path) -> None:
        path.write_bytes(b"somebody was faster")
        real(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(JournalBroken, match="File exists"):
        Journal.open(path)
    assert path.read_bytes() == b"somebody was faster"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_records_of_another_type_than_declared_are_damage(path: Path) -> None:
    written(path, 2)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE records SET context = CAST(x'ff' AS TEXT)")
    raw.close()
    with Journal.open(path) as journal:
        assert journal.last_seq == 2
        with pytest.raises(JournalCorrupt):
            list(journal.tail(0))
    assert record(1).context == "ctx-1"
