"""The file: created completely, rejected unchanged when it is damaged or not a journal, migrated."""

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
    JournalCorrupt,
    JournalIOError,
    JournalMissing,
    JournalTooNew,
    NotAJournal,
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


def assert_rejected(path: Path, kind: type[StateError], why: str) -> None:
    """Expect an error of one line, and every byte unchanged."""
    before = content(path.parent)
    with pytest.raises(kind, match=why) as caught:
        Journal.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content(path.parent) == before


def test_a_new_journal_is_accessible_to_its_owner_only_and_leaves_no_other_file(path: Path) -> None:
    with Journal.open(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_opening_a_missing_journal_read_only_does_not_create_it(path: Path) -> None:
    for kwargs in ({"create": False}, {"read_only": True}):
        with pytest.raises(JournalMissing, match="there is no journal here"):
            Journal.open(path, **kwargs)
    assert list(path.parent.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalIOError, match="No such file or directory"):
        Journal.open(tmp_path / "none" / "journal.db")


def test_a_file_name_may_contain_characters_of_urls(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#%20é.db"
    written(path, 1)
    assert path.exists()


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (b"", JournalCorrupt, "is empty"),
        (b"x", NotAJournal, "not an SQLite file"),
        (random.Random(1).randbytes(20_000), NotAJournal, "not an SQLite file"),
        (b"SQLite format 3\0", NotAJournal, "not an SQLite file"),
        (b"SQLite format 3\0" + bytes(5000), NotAJournal, "another program"),
    ],
    ids=["empty", "short", "garbage", "magic alone", "magic and nothing"],
)
def test_a_file_that_is_not_a_journal_is_rejected(
    path: Path, data: bytes, kind: type[StateError], why: str
) -> None:
    path.write_bytes(data)
    assert_rejected(path, kind, why)


def test_a_database_of_another_program_is_rejected(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE records (seq)")
        other.execute("INSERT INTO records VALUES (1)")
        other.commit()
        assert_rejected(path, NotAJournal, "another program")
    other.close()


def test_a_folder_or_a_pipe_is_rejected(path: Path) -> None:
    path.mkdir()
    assert_rejected(path, NotAJournal, "not a regular file")
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(NotAJournal, match="not a regular file"):
        Journal.open(path)


def test_a_dangling_link_is_rejected(path: Path) -> None:
    path.symlink_to(path.parent / "gone")
    with pytest.raises(NotAJournal, match="not a regular file"):
        Journal.open(path)


def test_a_log_without_its_journal_is_rejected(path: Path) -> None:
    """SQLite would apply the old file's pages to a new one."""
    wal = path.with_name(f"{path.name}-wal")
    wal.write_bytes(b"pages")
    assert_rejected(path, JournalCorrupt, "its -wal file exists without it")
    assert wal.read_bytes() == b"pages"


def test_a_truncated_journal_is_rejected(path: Path) -> None:
    data = written(path)
    for kept in (100, 4096, 4097, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:kept])
        assert_rejected(path, JournalCorrupt, "damaged")


def test_a_damaged_journal_and_its_log_are_not_changed(path: Path) -> None:
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
    assert_rejected(path, JournalCorrupt, "damaged")


def test_tables_that_do_not_match_the_schema_are_rejected(path: Path) -> None:
    written(path, 3)
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TABLE outbox")
    raw.close()
    assert_rejected(path, JournalCorrupt, "tables do not match")


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_byte_is_detected_or_harmless_but_never_read_as_a_value(
    path: Path, seed: int
) -> None:
    """Wherever it is, there is a clear error, or every value is as it was written."""
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


def test_a_truncated_log_still_holds_its_first_commits(path: Path) -> None:
    """After a power cut the end of the log may be anything; what precedes it must be readable."""
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
    """Simulate a next release that adds a column and fills it."""
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
    with pytest.raises(JournalIOError, match="no such table: missing"):
        Journal.open(path)
    monkeypatch.setattr(database, "MIGRATIONS", steps)
    with Journal.open(path) as journal:
        assert sequences(list(journal.tail(0))) == [1, 2, 3, 4, 5]


ID = "5f2c"
BODY = bytes.fromhex("2a0000000000047dc125020000801e85eb51b81e1500e03b6600")
ORDER_NAME = order_name(StateId(42), b"id" + ID.encode() + BODY)


@pytest.fixture
def first_schema(path: Path) -> Path:
    """A journal as the first release wrote it: two actions, one of them with an id, and a message."""
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
        message = (1, "m-1", "execution.update")
        checksum = zlib.crc32(b"{}", zlib.crc32(repr(message).encode()))
        raw.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", (*message, checksum, b"{}"))
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


def test_a_journal_of_the_first_schema_is_readable_without_migration(first_schema: Path) -> None:
    before = first_schema.read_bytes()
    with Journal.open(first_schema, read_only=True) as journal:
        assert [record.raw for _, record in journal.tail(0)] == [BODY, BODY]
        assert journal.outbox() == [(1, Message("m-1", "execution.update", b"{}", ""))]
        assert journal.account is None
        journal.verify()
    assert first_schema.read_bytes() == before


def test_a_damaged_action_does_not_prevent_the_migration(first_schema: Path) -> None:
    """Reading its record reports the damage; a record that is never read again does no harm."""
    with contextlib.closing(sqlite3.connect(first_schema)) as raw, raw:
        raw.execute("UPDATE records SET context = '[' WHERE seq = 1")
    with Journal.open(first_schema) as journal:
        assert journal.knows_action(ORDER_NAME)
        with pytest.raises(JournalCorrupt, match="wrong checksum in records, row 1"):
            list(journal.tail(0))


def test_a_newer_schema_is_rejected(path: Path) -> None:
    written(path, 1)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    assert_rejected(path, JournalTooNew, "schema 99, but this release supports 2")


def test_a_partly_created_journal_never_appears(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When creating it fails half-way, there is no file, and the next start creates one."""
    monkeypatch.setattr(database, "MIGRATIONS", (("CREATE TABLE a (b)", "no statement"),))
    with pytest.raises(JournalIOError):
        Journal.open(path)
    assert list(path.parent.iterdir()) == []
    monkeypatch.undo()
    with Journal.open(path) as journal:
        assert journal.last_seq == 0


def test_two_processes_that_create_the_same_journal_do_not_overwrite_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def late(source: Path, target: Path) -> None:
        path.write_bytes(b"somebody was faster")
        real(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(JournalIOError, match="File exists"):
        Journal.open(path)
    assert path.read_bytes() == b"somebody was faster"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_value_of_an_undeclared_type_is_reported_as_damage(path: Path) -> None:
    written(path, 2)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE records SET context = CAST(x'ff' AS TEXT)")
    raw.close()
    with Journal.open(path) as journal:
        assert journal.last_seq == 2
        with pytest.raises(JournalCorrupt):
            list(journal.tail(0))
    assert record(1).context == "ctx-1"
