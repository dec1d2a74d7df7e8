"""The journal's file: created completely or not at all, checked before it is opened, and migrated.

A journal of an older schema can be read as it is; it is migrated when it is opened for writing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from oms_trio.core.identity import order_name
from oms_trio.core.model import StateId
from oms_trio.journal.errors import (
    JournalCorrupt,
    JournalFull,
    JournalIOError,
    JournalMissing,
    JournalTooNew,
    NotAJournal,
    StateError,
)

APPLICATION_ID: Final = int.from_bytes(b"omst")
"""Marks a journal in SQLite's file header, at offset 68."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # at_ns and the like come before raw: SQLite reads a row up to the column that it needs.
        """CREATE TABLE records (
            seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, mono_ns INTEGER NOT NULL,
            kind TEXT NOT NULL, context TEXT NOT NULL, checksum INTEGER NOT NULL,
            raw BLOB NOT NULL, outputs BLOB NOT NULL)""",
        """CREATE TABLE outbox (
            position INTEGER PRIMARY KEY, message_id TEXT NOT NULL UNIQUE,
            routing_key TEXT NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL)""",
        """CREATE TABLE snapshots (
            seq INTEGER PRIMARY KEY, digest TEXT NOT NULL, checksum INTEGER NOT NULL,
            blob BLOB NOT NULL)""",
    ),
    (
        "ALTER TABLE outbox ADD COLUMN cause TEXT NOT NULL DEFAULT ''",
        # Keyed by the record's sequence, so that compaction removes both; a name may repeat.
        "CREATE TABLE action_names (seq INTEGER PRIMARY KEY, name TEXT NOT NULL)",
        """INSERT INTO action_names SELECT seq, recorded_name(raw, context) FROM records
            WHERE kind = 'action' AND recorded_name(raw, context) IS NOT NULL""",
        "CREATE INDEX action_names_by_name ON action_names (name)",
        """CREATE TABLE account (
            uid TEXT NOT NULL, host TEXT NOT NULL, demo INTEGER NOT NULL,
            checksum INTEGER NOT NULL)""",
    ),
)
"""Step n migrates schema n (``user_version``) to n + 1. Steps are added, never changed."""

NAMES_SCHEMA: Final = 2
"""The schema that added the names of actions, the causes of messages and the account."""

_MAGIC: Final = b"SQLite format 3\0"
_HEADER_SIZE: Final = 100
# A quick check reads the whole file. Up to this size it takes a fraction of a second; the check of a
# larger file would delay the start without bound, and damage shows when a page is read.
_QUICK_CHECK_LIMIT: Final = 64 * 2**20
_PROBE_SIZE: Final = 65536
_LOG_PAGES: Final = 8000

_FULL_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_MAYBE_FULL: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_CANTOPEN,
    }
)
"""Failed writes whose cause SQLite does not report. A failed fsync is never among them."""


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and the operating system into those of ``errors``.

    ``sqlite3.IntegrityError`` passes: the caller broke a rule, and the file is sound.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.Error as error:
        raise _ours(path, error) from error
    except UnicodeDecodeError as error:
        raise JournalCorrupt(path, "invalid UTF-8 in a text column") from error
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise JournalFull(path) from error
        raise JournalIOError(path, error.strerror or repr(error)) from error


def _ours(path: Path, error: sqlite3.Error) -> StateError:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    # Errors without a code come from the Python module, which could not read a value.
    if code is None or code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return JournalCorrupt(path, str(error))
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return JournalCorrupt(path, "it is truncated")
    if code == sqlite3.SQLITE_FULL or (code in _MAYBE_FULL and _is_full(path.parent)):
        return JournalFull(path)
    return JournalIOError(path, str(error))


def _is_full(folder: Path) -> bool:
    """Find out by writing: the free space does not account for quotas."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_SIZE))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno in _FULL_DISK
    return False


def open_database(path: Path, *, create: bool, read_only: bool) -> sqlite3.Connection:
    """Open a journal's file, or create it.

    An existing file is first opened read-only: SQLite may change a file that it opens for writing, and
    a file that is not ours, or is damaged, must not be changed.

    Raises:
        StateError: any of its subclasses but those of the account and the lock.
    """
    with translated(path):
        if not os.path.lexists(path):
            if read_only or not create:
                raise JournalMissing(path)
            _create(path)
        _check_header(path)
        with contextlib.closing(connect(path, "ro")) as reading:
            _check_content(path, reading)
        connection = connect(path, "ro" if read_only else "rw")
        try:
            if not read_only:
                _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open another connection to a checked file; ``mode`` is ``ro`` or ``rw``."""
    # Worker threads take turns; the caller admits only one at a time.
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    # Checks the cells of each page that is read: damage is then an error, not a wrong value.
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _create(path: Path) -> None:
    """Create an empty journal under another name, and link it to ``path`` when it is complete."""
    if os.path.lexists(f"{path}-wal"):
        # SQLite would apply these pages of another file to the new one.
        raise JournalCorrupt(path, "its -wal file exists without it")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    new = Path(name)
    try:
        with contextlib.closing(connect(new, "rw")) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        os.link(new, path)  # unlike a rename, it never replaces a file
    finally:
        new.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # otherwise a power cut could leave the journal without its name
    finally:
        os.close(folder)


def migrate(connection: sqlite3.Connection, to: int | None = None) -> None:
    """Migrate the schema to version ``to`` (default: the latest), in a single transaction."""
    version, wanted = schema_version(connection), len(MIGRATIONS) if to is None else to
    if version == wanted:
        return
    connection.create_function("recorded_name", 2, _recorded_name, deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in MIGRATIONS[version:wanted]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {wanted}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _recorded_name(raw: bytes, context: str) -> str | None:
    """Return the order name of an action that the first release recorded, if it had a message id.

    The first four bytes are its state id. A damaged record gets no name, and fails when it is read.
    """
    try:
        message_id = json.loads(context)["message_id"]
        identity = None if message_id is None else b"id" + message_id.encode() + raw
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    state_id = StateId(int.from_bytes(raw[:4], "little"))
    return None if identity is None else order_name(state_id, identity)


def _check_header(path: Path) -> None:
    """Check the first bytes: SQLite must not even open a file that is not ours."""
    if not path.is_file():  # opening a pipe would block
        raise NotAJournal(path, "is not a regular file")
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
    if not header:
        raise JournalCorrupt(path, "it is empty")
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC):
        raise NotAJournal(path, "is not an SQLite file")
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise NotAJournal(path, "belongs to another program")
    # SQLite reads a truncated last page as zeros. While a log exists the file may be too short: a crash
    # can interrupt the copying of pages from the log to the file.
    size = path.stat().st_size
    expected = int.from_bytes(header[16:18]) * int.from_bytes(header[28:32])
    if size < expected and not _log_size(path):
        raise JournalCorrupt(path, f"{expected - size} bytes are missing at its end")


def _log_size(path: Path) -> int:
    try:
        return Path(f"{path}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _check_content(path: Path, connection: sqlite3.Connection) -> None:
    version, known = schema_version(connection), len(MIGRATIONS)
    if version > known:
        raise JournalTooNew(path, version, known)
    if version < 1:
        raise JournalCorrupt(path, "it has no schema")
    if _schema(connection) != _expected_schema(version):
        raise JournalCorrupt(path, "its tables do not match its schema")
    size = _number(connection, "page_count") * _number(connection, "page_size")
    if size <= _QUICK_CHECK_LIMIT:
        check(path, connection, "quick_check")


def check(path: Path, connection: sqlite3.Connection, pragma: str) -> None:
    """Let SQLite search for damage (``quick_check``, or ``integrity_check`` with the indexes).

    Raises:
        JournalCorrupt: with the first finding.
    """
    (finding,) = connection.execute(f"PRAGMA {pragma}(1)").fetchone()
    if finding != "ok":
        raise JournalCorrupt(path, " ".join(str(finding).split()))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    migrate(connection)
    # Copy the log into the file with an fsync: after a crash its pages may be in memory only. A full
    # disk need not prevent the start: the log keeps its pages, and the next write reports the disk.
    with contextlib.suppress(JournalFull), translated(path):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute(f"PRAGMA journal_size_limit = {_QUICK_CHECK_LIMIT}")
    # Much later than ``Journal.checkpoint``: for processes that never call it.
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the schema version of the file, which may be older than the latest."""
    return _number(connection, "user_version")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    value: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return value


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()


def _expected_schema(version: int) -> list[tuple[str, str, str | None]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, version)
        return _schema(connection)
