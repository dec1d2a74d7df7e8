"""The durable record of every input, of unconfirmed messages, and of snapshots of the state."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, final

from oms_trio.journal.database import (
    NAMES_SCHEMA,
    check,
    connect,
    open_database,
    schema_version,
    translated,
)
from oms_trio.journal.errors import JournalCorrupt, JournalOfAnotherAccount
from oms_trio.journal.model import Account, Entry, Message, Record, StateSnapshot

T = TypeVar("T")

_KEPT_SNAPSHOTS: Final = 3
_CHUNK: Final = 256  # rows of the tail in memory at once; a record has some kilobytes at most

_ROWS: Final = 32
"""Rows of one INSERT. SQLite's module releases the interpreter for every row of ``executemany`` and
then waits for it; an action has six rows."""

_CHECKPOINT_TRANSACTIONS: Final = 150
_CHECKPOINT_ENTRIES: Final = 1000
"""At about this many the log has 1000 pages, at which SQLite by default copies them itself."""


@final
class Journal:
    """One journal file. Calls block; any thread may make them, one at a time.

    Two methods have connections of their own, so that they need not wait for other calls:
    ``knows_action`` (always from the same thread) and ``stamp``.

    Every row has a checksum, because SQLite detects damage to the structure of pages but not to the
    values in them. The names of actions have none: the records from which they are derived do.

    Raises (all methods):
        JournalFull: the disk is full; nothing was changed and the call can be repeated.
        JournalCorrupt: the file is damaged.
        JournalIOError: reading or writing failed; only a new process may try again.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._reader: sqlite3.Connection | None = None
        self._old = schema_version(connection) < NAMES_SCHEMA  # which only happens read-only
        self._account = None if self._old else self._find_account()
        # After compaction only a snapshot may be left to show the last sequence.
        self._last_seq = max(
            self._number("max(seq)", "records"), self._number("max(seq)", "snapshots")
        )
        self._last_position = self._number("max(position)", "outbox")
        self._durable: bool | None = None  # mode of the last transaction
        self._transactions = self._entries = 0  # since the last checkpoint

    @classmethod
    def open(cls, path: Path, *, create: bool = True, read_only: bool = False) -> Self:
        """Open the journal at ``path``; create it when it does not exist and ``create`` is set.

        The folder must exist. ``read_only`` reads the journal of a service that may be running.

        Raises:
            JournalMissing: it does not exist and is not to be created.
            NotAJournal: the file is something else; it was not changed.
            JournalTooNew: a newer release wrote it.
        """
        connection = open_database(path, create=create, read_only=read_only)
        try:
            with translated(path):
                return cls(path, connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the file. Appended entries are durable without this."""
        if self._reader is not None:
            self._reader.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def last_seq(self) -> int:
        """The sequence of the last record, 0 before the first."""
        return self._last_seq

    @property
    def last_at_ns(self) -> int:
        """The time of the last record that is kept, 0 without one."""
        rows = self._rows("SELECT at_ns FROM records ORDER BY seq DESC LIMIT 1")
        return rows[0][0] if rows else 0

    @property
    def last_position(self) -> int:
        """The outbox position of the last message that this process appended or found at its start."""
        return self._last_position

    @property
    def first_seq(self) -> int:
        """The sequence of the oldest record that is kept; past the last one without any."""
        with translated(self._path):
            return self._number("min(seq)", "records") or self._last_seq + 1

    def append(self, entries: Sequence[Entry]) -> None:
        """Make entries durable, in one transaction with one fsync.

        Raises:
            ValueError: the sequence has a gap, or a message is already in the outbox.
        """
        if not entries:
            return
        expected = range(self._last_seq + 1, self._last_seq + 1 + len(entries))
        if [entry.seq for entry in entries] != list(expected):
            raise ValueError(f"entries must continue at {expected.start} without a gap")
        messages = [message for entry in entries for message in entry.outbox]
        positions = range(self._last_position + 1, self._last_position + 1 + len(messages))
        names = [(entry.seq, entry.action_name) for entry in entries if entry.action_name]
        with self._transaction(durable=True) as connection:
            _insert(connection, _RECORDS, list(map(_record_row, entries)))
            _insert(connection, _OUTBOX, list(map(_message_row, positions, messages)))
            _insert(connection, _ACTION_NAMES, names)
        self._last_seq += len(entries)
        self._last_position += len(messages)
        self._transactions += 1
        self._entries += len(entries)

    def knows_action(self, name: str) -> bool:
        """Whether the journal has a committed record of an action with this name.

        It takes 10 to 25 us, even among a million names, and does not wait for a commit that is
        running in another thread.
        """
        with translated(self._path):
            if self._reader is None:
                self._reader = connect(self._path, "ro")
            query = "SELECT 1 FROM action_names WHERE name = ? LIMIT 1"
            return self._reader.execute(query, (name,)).fetchone() is not None

    @property
    def account(self) -> Account | None:
        """The account whose trading this journal records; None before the first ``stamp``."""
        return self._account

    def stamp(self, account: Account) -> None:
        """Bind the journal to an account: the first call decides which.

        It may be called while another thread is in another call, and is durable on return.

        Raises:
            JournalOfAnotherAccount: the journal belongs to another account.
        """
        if self._account is None:
            with translated(self._path), contextlib.closing(connect(self._path, "rw")) as own:
                own.execute("PRAGMA synchronous = FULL")
                own.execute("PRAGMA wal_autocheckpoint = 0")
                fields = (account.uid, account.host, int(account.demo))
                own.execute(
                    "INSERT INTO account (uid, host, demo, checksum) VALUES (?, ?, ?, ?)",
                    (*fields, _checksum(b"", *fields)),
                )
            self._account = account
        elif not self._account.is_same(account):
            raise JournalOfAnotherAccount(self._path, self._account, account)

    def _find_account(self) -> Account | None:
        rows = self._rows("SELECT uid, host, demo, checksum FROM account")
        return self._decoded(_account, rows[0], "account") if rows else None

    @property
    def checkpoint_due(self) -> bool:
        """Whether the log is long enough to be copied into the file."""
        return (
            self._transactions >= _CHECKPOINT_TRANSACTIONS or self._entries >= _CHECKPOINT_ENTRIES
        )

    def checkpoint(self) -> None:
        """Copy the log into the file, which takes milliseconds; SQLite's own checkpoint is much later.

        SQLite would do it within a commit, and whatever waits for that commit would wait for it.
        """
        self._transactions = self._entries = 0
        with translated(self._path):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def confirm(self, message_ids: Sequence[str]) -> None:
        """Remove messages that the broker has confirmed from the outbox.

        It costs no fsync: if a power cut undoes it, a message is sent twice, which is harmless
        because of its ``message_id``.
        """
        with self._transaction(durable=False) as connection:
            connection.executemany(
                "DELETE FROM outbox WHERE message_id = ?", ((name,) for name in message_ids)
            )

    def outbox(self, after: int = 0, limit: int = 500) -> list[tuple[int, Message]]:
        """Return unconfirmed messages after position ``after``, in order, with their positions.

        Positions grow within one process; a new process may count from 1 again.
        """
        cause = "''" if self._old else "cause"
        return [
            self._decoded(_message, row, "outbox")
            for row in self._rows(
                f"SELECT position, message_id, routing_key, checksum, body, {cause} FROM outbox"  # noqa: S608 - our own two
                " WHERE position > ? ORDER BY position LIMIT ?",
                after,
                limit,
            )
        ]

    def outbox_size(self) -> int:
        """Return the number of unconfirmed messages."""
        with translated(self._path):
            return self._number("count(*)", "outbox")

    def save_snapshot(self, seq: int, blob: bytes, digest: str) -> None:
        """Save the state after ``seq``, and keep the two newest of the older snapshots.

        Raises:
            ValueError: ``seq`` is not durable yet.
        """
        if seq > self._last_seq:
            raise ValueError(
                f"cannot save a snapshot of {seq}: the journal ends at {self._last_seq}"
            )
        with self._transaction(durable=False) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO snapshots (seq, digest, checksum, blob) VALUES (?, ?, ?, ?)",
                (seq, digest, _checksum(blob, seq, digest), blob),
            )
            connection.execute(
                "DELETE FROM snapshots WHERE seq NOT IN"
                " (SELECT seq FROM snapshots ORDER BY seq DESC LIMIT ?)",
                (_KEPT_SNAPSHOTS,),
            )

    def latest_snapshot(self, up_to_seq: int | None = None) -> StateSnapshot | None:
        """Return the newest snapshot, or the newest that is not past ``up_to_seq``."""
        rows = self._rows(
            "SELECT seq, digest, checksum, blob FROM snapshots WHERE seq <= ?"
            " ORDER BY seq DESC LIMIT 1",
            self._last_seq if up_to_seq is None else up_to_seq,
        )
        return self._decoded(_snapshot, rows[0], "snapshots") if rows else None

    def tail(self, after_seq: int) -> Iterator[tuple[int, Record]]:
        """Yield the records after ``after_seq``, in order, with a bounded number in memory.

        Raises:
            ValueError: the first of them has been removed by compaction.
        """
        first = self.first_seq
        if after_seq + 1 < first:
            raise ValueError(
                f"record {after_seq + 1} has been removed: the journal begins at {first}"
            )
        return self._tail(after_seq)

    def _tail(self, seq: int) -> Iterator[tuple[int, Record]]:
        # No cursor stays open in between: it would prevent the log from being emptied.
        while rows := self._rows(
            "SELECT seq, at_ns, mono_ns, kind, context, checksum, raw, outputs FROM records"
            " WHERE seq > ? ORDER BY seq LIMIT ?",
            seq,
            _CHUNK,
        ):
            for row in rows:
                found, record = self._decoded(_record, row, "records")
                if found != seq + 1:
                    raise JournalCorrupt(self._path, f"record {seq + 1} is missing")
                yield found, record
                seq = found

    def compact(self, keep_from_ns: int, limit: int = 10_000) -> int:
        """Remove records before ``keep_from_ns`` that every kept snapshot covers, and their names.

        At most ``limit`` are removed at once, so that other calls get their turn: repeat until 0.

        Returns:
            The number of removed records.
        """
        with self._transaction(durable=False) as connection:
            first = self._number("min(seq)", "records")
            covered = self._number("min(seq)", "snapshots")
            row = connection.execute(
                "SELECT seq FROM records WHERE seq < ? AND at_ns >= ? ORDER BY seq LIMIT 1",
                (first + limit, keep_from_ns),
            ).fetchone()
            end = min(covered + 1, first + limit if row is None else row[0])
            connection.execute("DELETE FROM action_names WHERE seq < ?", (end,))
            return connection.execute("DELETE FROM records WHERE seq < ?", (end,)).rowcount

    def verify(self) -> None:
        """Read everything and compare every checksum; the time grows with the size of the journal."""
        with translated(self._path):
            check(self._path, self._connection, "integrity_check")
        for _ in self.tail(self.first_seq - 1):
            pass
        position = 0
        while page := self.outbox(position):
            position = page[-1][0]
        for (seq,) in self._rows("SELECT seq FROM snapshots"):
            self.latest_snapshot(seq)

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Commit all changes of the block, or none.

        Changes that need not be durable are written without an fsync. SQLite reads the log in order
        up to its first invalid page, and the next durable commit syncs all of it, so nothing durable
        ever follows something lost.
        """
        connection = self._connection
        try:
            with translated(self._path):
                if durable is not self._durable:
                    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                    self._durable = durable
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    # The first error is the one to report; SQLite may have rolled back itself.
                    if connection.in_transaction:
                        with contextlib.suppress(sqlite3.Error):
                            connection.execute("ROLLBACK")
        except sqlite3.IntegrityError as error:
            raise ValueError(f"the journal rejected the change: {error}") from error

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with translated(self._path):
            return self._connection.execute(query, parameters).fetchall()

    def _number(self, what: str, table: str) -> int:
        """Return an aggregate of a table, 0 without rows. Both arguments are constants of this file."""
        row = self._connection.execute(f"SELECT {what} FROM {table}").fetchone()  # noqa: S608
        return row[0] or 0

    def _decoded(
        self, decode: Callable[[tuple[Any, ...]], T | None], row: tuple[Any, ...], table: str
    ) -> T:
        value = decode(row)
        if value is None:
            raise JournalCorrupt(self._path, f"wrong checksum in {table}, row {row[0]!r}")
        return value


_RECORDS: Final = (
    "INSERT INTO records (seq, at_ns, mono_ns, kind, context, checksum, raw, outputs) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
)
_OUTBOX: Final = (
    "INSERT INTO outbox (position, message_id, routing_key, checksum, body, cause) VALUES ",
    "(?, ?, ?, ?, ?, ?)",
)
_ACTION_NAMES: Final = ("INSERT INTO action_names (seq, name) VALUES ", "(?, ?)")


def _insert(
    connection: sqlite3.Connection, into: tuple[str, str], rows: Sequence[tuple[object, ...]]
) -> None:
    head, row = into
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        connection.execute(head + ", ".join([row] * len(part)), list(chain.from_iterable(part)))


def _checksum(content: bytes, *fields: object) -> int:
    return zlib.crc32(content, zlib.crc32(repr(fields).encode()))


def _record_row(entry: Entry) -> tuple[object, ...]:
    record = entry.record
    fields = (entry.seq, record.at_ns, record.mono_ns, record.kind, record.context)
    checksum = _checksum(record.raw, *fields, record.outputs)
    return (*fields, checksum, record.raw, record.outputs)


def _message_row(position: int, message: Message) -> tuple[object, ...]:
    fields = (position, message.message_id, message.routing_key)
    checksum = _message_checksum(message.body, fields, message.cause)
    return (*fields, checksum, message.body, message.cause)


def _message_checksum(body: bytes, fields: tuple[int, str, str], cause: str) -> int:
    # Messages had no cause in schema 1, and keep their checksums.
    return _checksum(body, *fields, cause) if cause else _checksum(body, *fields)


# The patterns also check types: damage can turn a number into text.


def _record(row: tuple[Any, ...]) -> tuple[int, Record] | None:
    match row:
        case (
            int(seq),
            int(at_ns),
            int(mono_ns),
            str(kind),
            str(context),
            found,
            bytes(raw),
            bytes(outputs),
        ) if found == _checksum(raw, seq, at_ns, mono_ns, kind, context, outputs):
            return seq, Record(kind, raw, at_ns, mono_ns, context, outputs)
    return None


def _message(row: tuple[Any, ...]) -> tuple[int, Message] | None:
    match row:
        case (
            int(position),
            str(message_id),
            str(key),
            found,
            bytes(body),
            str(cause),
        ) if found == _message_checksum(body, (position, message_id, key), cause):
            return position, Message(message_id, key, body, cause)
    return None


def _account(row: tuple[Any, ...]) -> Account | None:
    match row:
        case (str(uid), str(host), int(demo), found) if found == _checksum(b"", uid, host, demo):
            return Account(uid, host, bool(demo))
    return None


def _snapshot(row: tuple[Any, ...]) -> StateSnapshot | None:
    match row:
        case (int(seq), str(digest), found, bytes(blob)) if found == _checksum(blob, seq, digest):
            return StateSnapshot(seq, blob, digest)
    return None
