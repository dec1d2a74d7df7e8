"""One service per state folder."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oms_trio.journal.errors import JournalIOError, LockHeld
from oms_trio.journal.lock import StateLock

HOLDER = """
import sys
from pathlib import Path
from oms_trio.journal.lock import StateLock
StateLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[bytes]:
    holder = subprocess.Popen(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-c", HOLDER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_a_second_service_learns_who_holds_the_lock_until_that_one_has_ended(
    tmp_path: Path,
) -> None:
    """It ends by kill -9, so no clean-up has run."""
    with hold(tmp_path) as holder:
        with pytest.raises(LockHeld) as caught:
            StateLock.acquire(tmp_path)
        assert caught.value.pid == holder.pid
        assert caught.value.host == socket.gethostname()
        age = datetime.now(UTC) - datetime.fromisoformat(caught.value.since)
        assert timedelta(0) <= age < timedelta(minutes=1)
        assert f"is in use by process {holder.pid}" in str(caught.value)
        holder.kill()
        holder.communicate()
    StateLock.acquire(tmp_path).release()


def test_a_held_lock_is_not_given_to_the_same_process_until_it_is_released(tmp_path: Path) -> None:
    with StateLock.acquire(tmp_path):
        with pytest.raises(LockHeld) as caught:
            StateLock.acquire(tmp_path)
        assert caught.value.pid == os.getpid()
    with StateLock.acquire(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\x00\x00", '{"pid": 1'])
def test_a_lock_without_a_readable_holder_is_still_held(tmp_path: Path, text: str) -> None:
    with StateLock.acquire(tmp_path):
        (tmp_path / "lock").write_text(text)
        with pytest.raises(LockHeld, match="another process") as caught:
            StateLock.acquire(tmp_path)
        assert caught.value.pid is None


def test_the_state_folder_is_accessible_to_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    with StateLock.acquire(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "lock").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalIOError, match="Not a directory"):
        StateLock.acquire(tmp_path / "file" / "state")
