"""Errors of the state folder; each message is one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from oms_trio.journal.model import Account

_RESTORE: Final = "restore a backup, or move the file and its -wal away to start a new journal"


class StateError(Exception):
    """The state folder or its journal cannot be used."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))  # SQLite quotes statements of several lines


class JournalMissing(StateError):  # noqa: N818 - it names a state
    """There is no journal at the path to be read."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: there is no journal here; check the path")


class NotAJournal(StateError):  # noqa: N818
    """The file is not a journal of this service. It was not changed."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} {why}: it is not a journal, and was not changed; choose another state folder"
        )


class JournalCorrupt(StateError):  # noqa: N818
    """The journal is damaged: its content cannot be trusted."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged ({why}): {_RESTORE}")


class JournalTooNew(StateError):  # noqa: N818
    """A newer release wrote the journal."""

    def __init__(self, path: Path, version: int, known: int) -> None:
        super().__init__(
            f"{path} has schema {version}, but this release supports {known}: use a newer release"
        )


class JournalFull(StateError):  # noqa: N818
    """The disk is full: nothing was written, and the call can be repeated later."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: the disk is full; free some space")


class JournalIOError(StateError):
    """Reading or writing failed: the content of the disk is uncertain.

    After a failed fsync a repeated one may succeed although the data is not on the disk, so the same
    process must not retry.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}; check the disk and the permissions")


class JournalOfAnotherAccount(StateError):  # noqa: N818
    """The journal belongs to another account: the configuration is wrong."""

    def __init__(self, path: Path, recorded: Account, used: Account) -> None:
        super().__init__(
            f"{path.parent} belongs to account {recorded}, the API key to account {used}: "
            "set the key of that account, or another OMS_STATE_DIR"
        )


class LockHeld(StateError):  # noqa: N818
    """Another service uses this state folder; ``pid`` is None when it is not known."""

    def __init__(self, folder: Path, pid: int | None, host: str, since: str) -> None:
        holder = f"process {pid} on {host} since {since}" if pid else "another process"
        super().__init__(f"{folder} is in use by {holder}; stop it, or choose another state folder")
        self.pid = pid
        self.host = host
        self.since = since
