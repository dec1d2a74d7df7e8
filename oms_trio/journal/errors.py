"""What can go wrong with the state folder; each text is one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from oms_trio.journal.model import Account

_ANEW: Final = "restore a backup, or move the file and its -wal away to start with a new journal"


class StateError(Exception):
    """The state folder or its journal cannot be used."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))  # SQLite quotes statements over several lines


class JournalMissing(StateError):  # noqa: N818 - reads as what it tells
    """There is no journal where one is to be read."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: no journal is here; check the path")


class JournalForeign(StateError):  # noqa: N818
    """The file is not a journal of this service. It was not written to."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} {why}: it is no journal, and is left as it is; choose other state"
        )


class JournalCorrupt(StateError):  # noqa: N818
    """The journal is damaged: what it says cannot be trusted."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged ({why}): {_ANEW}")


class JournalTooNew(StateError):  # noqa: N818
    """A newer release wrote the journal."""

    def __init__(self, path: Path, version: int, known: int) -> None:
        super().__init__(
            f"{path} has schema {version}, this release knows {known}: use a newer release"
        )


class JournalFull(StateError):  # noqa: N818
    """There is no room: nothing was written, and the same call can be made again later."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: no room is left on the disk; make room")


class JournalBroken(StateError):  # noqa: N818
    """The operating system refused to read or write: what the disk holds is uncertain.

    After a failed fsync a repeated one may succeed without the data being there, so this is not
    to be retried in the same process.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}; check the disk and the permissions")


class JournalOfAnotherAccount(StateError):  # noqa: N818
    """The journal records another account's trading: a mistake of the configuration."""

    def __init__(self, path: Path, recorded: Account, used: Account) -> None:
        super().__init__(
            f"{path.parent} belongs to account {recorded}, the API key to account {used}: "
            "set the key of that account, or another OMS_STATE_DIR"
        )


class LockHeld(StateError):  # noqa: N818
    """Another service works in this state folder; ``pid`` is None when it did not tell."""

    def __init__(self, folder: Path, pid: int | None, host: str, since: str) -> None:
        holder = f"process {pid} on {host} since {since}" if pid else "another process"
        super().__init__(f"{folder} is in use by {holder}; stop it, or choose another state folder")
        self.pid = pid
        self.host = host
        self.since = since
