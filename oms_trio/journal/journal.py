"""The durable record of every input, of what is still to be published, and of snapshots."""

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
_CHUNK: Final = 256  # rows of the tail in memory at once: records are some kilobytes at most

_ROWS: Final = 32
"""Rows of one INSERT. SQLite's module lets go of the interpreter for every row of ``executemany``
and then waits to get it back; an action has six rows."""

_CHECKPOINT_TRANSACTIONS: Final = 150
_CHECKPOINT_ENTRIES: Final = 1000
"""After about so much the log has the thousand pages at which SQLite itself would copy them."""


@final
class Journal:
    """One journal file. Calls block; any thread may make them, one at a time.

    Two have connections of their own, so that they need not wait for their turn: ``knows_action``
    (for one thread, always the same) and ``stamp``.

    Every row carries a checksum, because SQLite notices damage to its pages' structure but not
    to the values in them. The names of actions do not: what they are made from does.

    Raises (all methods):
        JournalFull: no room; nothing was changed and the call can be repeated.
        JournalCorrupt: the file is damaged.
        JournalBroken: the disk failed; only a new process may try again.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._reader: sqlite3.Connection | None = None
        self._old = schema_version(connection) < NAMES_SCHEMA  # and open for reading only
        self._account = None if self._old else self._find_account()
        # After compaction a snapshot can be all that tells how far the journal had come.
        self._last_seq = max(
            self._number("max(seq)", "records"), self._number("max(seq)", "snapshots")
        )
        self._last_position = self._number("max(position)", "outbox")
        self._durable: bool | None = None  # how the last transaction was
        self._transactions = self._entries = 0  # since the last checkpoint

    @classmethod
    def open(cls, path: Path, *, create: bool = True, read_only: bool = False) -> Self:
        """Open the journal at ``path``; make it when it is not there and ``create`` is set.

        The folder must exist. ``read_only`` reads the journal of a service that may be running.

        Raises:
            JournalMissing: there is none, and none is to be made.
            JournalForeign: the file is something else; it was not touched.
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
        """Close the file. What was appended is durable without it."""
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
        """The sequence of the last record, 0 when there was none yet."""
        return self._last_seq

    @property
    def last_at_ns(self) -> int:
        """The time of the last record still held, 0 when there is none."""
        rows = self._rows("SELECT at_ns FROM records ORDER BY seq DESC LIMIT 1")
        return rows[0][0] if rows else 0

    @property
    def last_position(self) -> int:
        """The outbox position of the last message appended by this process or found at its start."""
        return self._last_position

    @property
    def first_seq(self) -> int:
        """The sequence of the oldest record still held; past the last one when none is."""
        with translated(self._path):
            return self._number("min(seq)", "records") or self._last_seq + 1

    def append(self, entries: Sequence[Entry]) -> None:
        """Make entries durable: one transaction and one fsync, however many they are.

        Raises:
            ValueError: the sequence does not continue, or a message is in the outbox already.
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
        """Whether an action of this name is on record, as far as the journal goes back.

        Everything that is committed counts. It takes 10 to 25 us, also among a million names, and
        does not wait for a commit that is under way in another thread.
        """
        with translated(self._path):
            if self._reader is None:
                self._reader = connect(self._path, "ro")
            query = "SELECT 1 FROM action_names WHERE name = ? LIMIT 1"
            return self._reader.execute(query, (name,)).fetchone() is not None

    @property
    def account(self) -> Account | None:
        """Whose trading this journal records; None when nobody has stamped it yet."""
        return self._account

    def stamp(self, account: Account) -> None:
        """Bind the journal to an account: the first one, and from then on no other.

        It may be called while another thread is in another call, and is durable on return.

        Raises:
            JournalOfAnotherAccount: it is bound to another one.
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
        """Whether there is enough in the log to copy it into the file."""
        return (
            self._transactions >= _CHECKPOINT_TRANSACTIONS or self._entries >= _CHECKPOINT_ENTRIES
        )

    def checkpoint(self) -> None:
        """Copy the log into the file, milliseconds of work; SQLite's own comes much later.

        SQLite would do it inside a commit, and what that commit makes durable would wait for it.
        """
        self._transactions = self._entries = 0
        with translated(self._path):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def confirm(self, message_ids: Sequence[str]) -> None:
        """Take messages that the broker has confirmed out of the outbox.

        It costs no fsync: a confirmation that a power cut takes back is a message sent twice,
        which its ``message_id`` allows for.
        """
        with self._transaction(durable=False) as connection:
            connection.executemany(
                "DELETE FROM outbox WHERE message_id = ?", ((name,) for name in message_ids)
            )

    def outbox(self, after: int = 0, limit: int = 500) -> list[tuple[int, Message]]:
        """Return unconfirmed messages in order, with their positions, past position ``after``.

        Positions grow within one process; a new one may count from 1 again.
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
        """Return how many messages are not confirmed."""
        with translated(self._path):
            return self._number("count(*)", "outbox")

    def save_snapshot(self, seq: int, blob: bytes, digest: str) -> None:
        """Keep the state after ``seq``, and of the older snapshots the last two.

        Raises:
            ValueError: ``seq`` is not durable yet; such a snapshot would have no past.
        """
        if seq > self._last_seq:
            raise ValueError(f"the journal ends at {self._last_seq}, before {seq}")
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
        """Give the records past ``after_seq``, in order, a bounded number of them in memory.

        Raises:
            ValueError: the first of them was compacted away.
        """
        first = self.first_seq
        if after_seq + 1 < first:
            raise ValueError(f"the journal begins at {first}: {after_seq + 1} is gone")
        return self._tail(after_seq)

    def _tail(self, seq: int) -> Iterator[tuple[int, Record]]:
        # No cursor stays open in between: it would keep the log from being emptied.
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
        """Remove records from before ``keep_from_ns`` that every kept snapshot covers.

        The names of their actions go with them.

        At most ``limit`` go at once, so that other work gets its turn: call again until 0.

        Returns:
            How many were removed.
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
        """Read everything once and compare every checksum; takes as long as the journal is big."""
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
        """Do all or nothing.

        What need not be durable itself is written without an fsync. The log is read back in
        order up to its first unsound page, and the next durable commit syncs all of it, so
        nothing durable ever comes after something lost.
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
                    # The first error is the one to tell of; SQLite may have rolled back itself.
                    if connection.in_transaction:
                        with contextlib.suppress(sqlite3.Error):
                            connection.execute("ROLLBACK")
        except sqlite3.IntegrityError as error:
            raise ValueError(f"refused by the journal: {error}") from error

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with translated(self._path):
            return self._connection.execute(query, parameters).fetchall()

    def _number(self, what: str, table: str) -> int:
        """Return an aggregate of a table, 0 when it has no rows. Both are our own constants."""
        row = self._connection.execute(f"SELECT {what} FROM {table}").fetchone()  # noqa: S608
        return row[0] or 0

    def _decoded(
        self, decode: Callable[[tuple[Any, ...]], T | None], row: tuple[Any, ...], table: str
    ) -> T:
        value = decode(row)
        if value is None:
            raise JournalCorrupt(self._path, f"checksum of {table} {row[0]!r}")
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


# The patterns check types too: in a damaged row a number can have become text.


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
