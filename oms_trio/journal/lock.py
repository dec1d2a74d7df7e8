"""One service per state folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from oms_trio.journal.database import translated
from oms_trio.journal.errors import LockHeld


@final
class StateLock:
    """The lock on a state folder; the operating system releases it when the process ends.

    The file stays when the lock is released: if it were removed, two services could each lock a file
    of that name.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def acquire(cls, folder: Path) -> Self:
        """Create the folder if necessary (accessible to its owner only), and lock it.

        Raises:
            LockHeld: another service has locked it.
            JournalIOError: the folder cannot be created or used.
        """
        path = folder / "lock"
        with translated(path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _lock(handle, folder)
            except BaseException:
                os.close(handle)
                raise
            return cls(handle)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.release()


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(handle)
        raise LockHeld(
            folder, holder.get("pid"), holder.get("host", "?"), holder.get("since", "?")
        ) from None
    os.ftruncate(handle, 0)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.pwrite(handle, json.dumps(holder).encode(), 0)


def _holder(handle: int) -> dict[str, Any]:
    """Return the content of the lock file; empty when the holder has not written it yet."""
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
