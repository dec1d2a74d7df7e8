"""The journal's file: made whole or not at all, checked before it is touched, migrated forward.

A journal of an older schema can be read as it is; only what opens it for writing migrates it.
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
    JournalBroken,
    JournalCorrupt,
    JournalForeign,
    JournalFull,
    JournalMissing,
    JournalTooNew,
    StateError,
)

APPLICATION_ID: Final = int.from_bytes(b"omst")
"""Marks our files in SQLite's header, at offset 68."""

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
        # By the record's sequence, so that retention removes both alike; a name may come again.
        "CREATE TABLE action_names (seq INTEGER PRIMARY KEY, name TEXT NOT NULL)",
        """INSERT INTO action_names SELECT seq, recorded_name(raw, context) FROM records
            WHERE kind = 'action' AND recorded_name(raw, context) IS NOT NULL""",
        "CREATE INDEX action_names_by_name ON action_names (name)",
        """CREATE TABLE account (
            uid TEXT NOT NULL, host TEXT NOT NULL, demo INTEGER NOT NULL,
            checksum INTEGER NOT NULL)""",
    ),
)
"""Step n leads from schema n (``user_version``) to n + 1. Steps are added, never changed."""

NAMES_SCHEMA: Final = 2
"""The schema with the names of actions, the causes of messages and the account."""

_MAGIC: Final = b"SQLite format 3\0"
_HEADER_SIZE: Final = 100
# A quick check reads the whole file. Up to this size that takes a fraction of a second; beyond,
# start-up would no longer be bounded, and damage shows when a page is read.
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
"""Failed writes whose cause SQLite does not tell. A failed fsync is never among them."""


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system raise into our errors.

    ``sqlite3.IntegrityError`` passes: the caller broke a rule, not the file.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.Error as error:
        raise _ours(path, error) from error
    except UnicodeDecodeError as error:
        raise JournalCorrupt(path, "text that is none") from error
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise JournalFull(path) from error
        raise JournalBroken(path, error.strerror or repr(error)) from error


def _ours(path: Path, error: sqlite3.Error) -> StateError:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    # Without a code it is the Python module that could not make sense of a value.
    if code is None or code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return JournalCorrupt(path, str(error))
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return JournalCorrupt(path, "it ends too early")
    if code == sqlite3.SQLITE_FULL or (code in _MAYBE_FULL and _is_full(path.parent)):
        return JournalFull(path)
    return JournalBroken(path, str(error))


def _is_full(folder: Path) -> bool:
    """Find out by writing: free space alone does not tell of quotas."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_SIZE))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno in _FULL_DISK
    return False


def open_database(path: Path, *, create: bool, read_only: bool) -> sqlite3.Connection:
    """Open a journal's file, or make it.

    An existing file is first read only: SQLite may repair or complete what it opens for
    writing, and a file that is not ours, or damaged, is not to be changed.

    Raises:
        StateError: in all its kinds.
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
    """Open one more connection to a file that was checked; ``mode`` is ``ro`` or ``rw``."""
    # Worker threads take turns; the caller lets only one at a time in.
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    # Looks at the cells of each page read from the disk: damage is an error, not a wrong answer.
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _create(path: Path) -> None:
    """Make an empty journal beside ``path`` and give it its name when it is whole."""
    if os.path.lexists(f"{path}-wal"):
        # SQLite would take these pages of another file into the new one.
        raise JournalCorrupt(path, "its -wal is here, the file is not")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    new = Path(name)
    try:
        with contextlib.closing(connect(new, "rw")) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        os.link(new, path)  # unlike a rename it never replaces a file
    finally:
        new.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else a power cut could leave the journal without its name
    finally:
        os.close(folder)


def migrate(connection: sqlite3.Connection, to: int | None = None) -> None:
    """Bring the schema to version ``to``, by default the current; all steps in one transaction."""
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
    """Return the order name of an action that the first release recorded, if it had an id.

    Its state id are the first four bytes. A record that is damaged has none: reading it says so.
    """
    try:
        message_id = json.loads(context)["message_id"]
        identity = None if message_id is None else b"id" + message_id.encode() + raw
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    state_id = StateId(int.from_bytes(raw[:4], "little"))
    return None if identity is None else order_name(state_id, identity)


def _check_header(path: Path) -> None:
    """Look at the first bytes: a file that is not ours must not even be opened by SQLite."""
    if not path.is_file():  # a pipe would wait for ever
        raise JournalForeign(path, "is not a regular file")
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
    if not header:
        raise JournalCorrupt(path, "it is empty")
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC):
        raise JournalForeign(path, "is not an SQLite file")
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise JournalForeign(path, "belongs to another program")
    # SQLite reads a last page that is cut short as zeros. While there is a log the file may well
    # be short: a crash can come in the middle of copying pages from one to the other.
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
        raise JournalCorrupt(path, "its tables are not those of its schema")
    size = _number(connection, "page_count") * _number(connection, "page_size")
    if size <= _QUICK_CHECK_LIMIT:
        check(path, connection, "quick_check")


def check(path: Path, connection: sqlite3.Connection, pragma: str) -> None:
    """Let SQLite look for damage (``quick_check``, or ``integrity_check`` with the indexes).

    Raises:
        JournalCorrupt: with the first finding.
    """
    (finding,) = connection.execute(f"PRAGMA {pragma}(1)").fetchone()
    if finding != "ok":
        raise JournalCorrupt(path, " ".join(str(finding).split()))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    migrate(connection)
    # What the log holds goes into the file with an fsync: after a crash it may be in memory only.
    # No room for that is no reason not to start; the log keeps it, and writing will tell.
    with contextlib.suppress(JournalFull), translated(path):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute(f"PRAGMA journal_size_limit = {_QUICK_CHECK_LIMIT}")
    # Far behind ``Journal.checkpoint``: for those who write without asking for one.
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the schema of the file, which may be older than this release's."""
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
