"""Whatever was reported durable survives kill -9; one fsync per batch; a full disk."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from oms_trio.journal.database import translated
from oms_trio.journal.errors import JournalFull, JournalIOError
from oms_trio.journal.journal import Journal
from tests.journal.helpers import entries, message, sequences

WRITER = """
    import sys
    from pathlib import Path
    from oms_trio.journal.journal import Journal
    from tests.journal.helpers import entries, message

    journal = Journal.open(Path(sys.argv[1]))
    seq = journal.last_seq
    while True:
        size = 1 + seq % 7
        journal.append(entries(seq + 1, seq + size))
        seq += size
        print(seq, flush=True)
        if seq % 5 == 0:
            journal.save_snapshot(seq, b"state", str(seq))
            journal.confirm([message(seq).message_id])
"""
"""Appends without end, and prints each sequence once it is durable."""


@pytest.mark.parametrize("seed", range(6))
def test_kill_9_loses_nothing_that_was_reported_durable(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "journal.db"
    rng = random.Random(seed)
    for _ in range(3):
        with subprocess.Popen(  # noqa: S603 - our own interpreter and script
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(1, 60)):
                reported = int(writer.stdout.readline())
            writer.kill()
            # What it said between our last look and its end counts as reported too.
            reported = max([reported, *map(int, writer.stdout.read().split(b"\n")[:-1])])
        with Journal.open(path, create=False) as journal:
            assert journal.last_seq >= reported
            last = journal.last_seq
            assert sequences(list(journal.tail(0))) == list(range(1, last + 1))
            waiting = [sent for _, sent in journal.outbox(limit=last)]
            confirmable = {message(seq).message_id for seq in range(5, last + 1, 5)}
            left = [sent for sent in waiting if sent.message_id not in confirmable]
            assert left == [
                message(seq)
                for seq in range(1, last + 1)
                if message(seq).message_id not in confirmable
            ]
            journal.verify()


def test_a_batch_is_one_durable_commit(tmp_path: Path) -> None:
    """Five hundred entries in three tables need one commit, which waits for the disk."""
    statements: list[str] = []
    with Journal.open(tmp_path / "journal.db") as journal:
        journal._connection.set_trace_callback(statements.append)
        journal.append(entries(1, 500))
        journal._connection.set_trace_callback(None)
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert statements[:2] == ["PRAGMA synchronous = FULL", "BEGIN IMMEDIATE"]
    assert statements.count("COMMIT") == 1
    assert statements[-1] == "COMMIT"


SYNCS = """
    import sys
    from pathlib import Path
    from oms_trio.journal.journal import Journal
    from tests.journal.helpers import entries, message

    with Journal.open(Path(sys.argv[1])) as journal:
        seq = 0
        for _ in range(int(sys.argv[2])):
            journal.append(entries(seq + 1, seq + 50))
            journal.confirm([message(seq + 1).message_id])
            seq += 50
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace counts the fsyncs")
def test_a_burst_costs_one_fsync_and_a_confirmation_none(tmp_path: Path) -> None:
    def syncs(bursts: int) -> int:
        trace = tmp_path / f"trace-{bursts}"
        subprocess.run(  # noqa: S603 - our own interpreter and script
            [
                *("strace", "-f", "-e", "trace=fsync,fdatasync", "-o", trace),
                *(sys.executable, "-c", textwrap.dedent(SYNCS)),
                *(tmp_path / f"{bursts}.db", str(bursts)),
            ],
            check=True,
        )
        return trace.read_text().count("sync(")

    assert syncs(7) - syncs(2) == 5


def test_a_full_disk_changes_nothing_and_the_same_batch_can_be_repeated(
    tmp_path: Path,
) -> None:
    with Journal.open(tmp_path / "journal.db") as journal:
        journal.append(entries(1, 10))
        journal._connection.execute("PRAGMA max_page_count = 20")
        batch = entries(11, 200, size=2000)
        for _ in range(3):
            with pytest.raises(JournalFull, match="free some space"):
                journal.append(batch)
            assert journal.last_seq == 10
            assert sequences(list(journal.tail(0))) == list(range(1, 11))
            assert journal.outbox_size() == 10
        journal._connection.execute("PRAGMA max_page_count = 100000")
        journal.append(batch)
        assert sequences(list(journal.tail(0))) == list(range(1, 201))
        journal.verify()


FULL_DISK = """
    import sys
    from pathlib import Path
    from oms_trio.journal.errors import JournalFull
    from oms_trio.journal.journal import Journal
    from tests.journal.helpers import entries, sequences

    folder = Path(sys.argv[1])
    ballast = folder / "ballast"

    def fill():
        with ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def opened():
        try:
            return Journal.open(folder / "journal.db")
        except JournalFull:
            return None

    fill()
    assert opened() is None
    assert list(folder.iterdir()) == [ballast], "no half-made journal is left"
    ballast.write_bytes(bytes(700_000))
    reserve = folder / "reserve"
    reserve.write_bytes(bytes(3_000_000))  # room to copy the whole log into the file
    with Journal.open(folder / "journal.db") as journal:
        seq = rejected = 0
        while seq < 3000:
            try:
                journal.append(entries(seq + 1, seq + 30, size=300))
            except JournalFull:
                rejected += 1
                assert journal.last_seq == seq
                if rejected == 3:
                    ballast.unlink()
                elif rejected > 3:
                    break
                continue
            seq += 30
        assert rejected > 3 and seq > 100, (rejected, seq)
        assert sequences(list(journal.tail(0))) == list(range(1, seq + 1))
    fill()
    if (journal := opened()) is not None:
        journal.close()
    ballast.unlink()
    reserve.unlink()
    with Journal.open(folder / "journal.db") as journal:
        assert journal.last_seq == seq
        journal.append(entries(seq + 1, seq + 1))
        journal.verify()
    print("held", seq)
"""
"""Fills a disk of five megabytes, frees space, fills it again, and checks the rest; opens it while full."""

MOUNTED = ["unshare", "--mount", "--map-root-user", "sh", "-c"]


def can_mount(folder: Path) -> bool:
    command = [*MOUNTED, 'mount -t tmpfs -o size=64k tmpfs "$0"', str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - constants
    except FileNotFoundError:
        return False


def test_a_really_full_disk_rejects_appends_until_there_is_space(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("a small disk cannot be mounted here")
    script = 'mount -t tmpfs -o size=5m tmpfs "$0" && exec "$1" -c "$2" "$0"'
    done = subprocess.run(  # noqa: S603 - our own interpreter and script
        [*MOUNTED, script, tmp_path, sys.executable, textwrap.dedent(FULL_DISK)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("held "), done.stderr


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EIO, None])
@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR_FSYNC,
    ],
)
def test_a_failed_write_may_be_repeated_only_if_the_disk_or_quota_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: int | None
) -> None:
    """SQLite does not pass on the cause; a failed fsync is never repeated."""
    if reason is not None:

        def fail(**_kwargs: object) -> None:
            raise OSError(reason, os.strerror(reason))

        monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    full = reason in {errno.ENOSPC, errno.EDQUOT} and code != sqlite3.SQLITE_IOERR_FSYNC
    with (
        pytest.raises(JournalFull if full else JournalIOError),
        translated(tmp_path / "journal.db"),
    ):
        raise error
