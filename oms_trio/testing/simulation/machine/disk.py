"""The disk of a run: slow, full, failing, or losing its power.

A killed process loses nothing that it has written. After a power cut, what no fsync has confirmed may
be on the disk in part, sector by sector. The journal writes with an fsync what must last and without
one what need not, so a power cut may take parts of both, but never a commit that has returned.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final, cast

import attrs
import trio

from oms_trio.journal.errors import JournalFull, JournalIOError
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Record
from oms_trio.tasks import retention

JOURNAL: Final = "journal.sqlite"
DISK_S: Final = (0.0002, 0.004)
SECTOR: Final = 512
"""A disk writes a sector as a whole or not at all."""

_WRITES: Final = frozenset({"append", "confirm", "save_snapshot", "compact"})
_LASTING: Final = frozenset({"append", "checkpoint"})
"""Calls after which everything on the disk is confirmed."""


class KilledError(Exception):
    """The process is dead; raised only inside the simulation."""


@attrs.define(eq=False)
class DiskState:
    """The disk that all processes of a run share, and what is wrong with it now."""

    base: Path
    full: bool = False
    broken: bool = False
    """Writes raise; nobody knows whether they reached the disk."""
    stall_s: tuple[float, float] | None = None
    """The range of seconds that every call takes now; None: as usual."""
    archive: dict[int, Record] = attrs.Factory(dict)
    """The records that compaction has removed: the audit reads a journal from its beginning."""
    cut: Callable[[], object] | None = None
    """When set, the power fails during the next commit; the function ends the process."""
    power_cuts: int = 0
    confirmed: bytes | None = None
    """The log as of the last fsync; kept only while a power cut is due."""

    @property
    def folder(self) -> Path:
        """Where the journal is: another folder after every power cut."""
        return self.base / f"power{self.power_cuts}" if self.power_cuts else self.base

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder / JOURNAL

    @property
    def log(self) -> Path:
        """The journal's write-ahead log, which commits are written to."""
        return self.folder / f"{JOURNAL}-wal"

    def archive_records(self, journal: Journal) -> None:
        """Copy the records that the next compaction may remove."""
        since = max([journal.first_seq - 1, *self.archive])
        self.archive |= dict(islice(journal.tail(since), retention.STEP))

    def remember_confirmed(self) -> None:
        """Remember the log as it is certainly on the disk."""
        self.confirmed = self.log.read_bytes() if self.log.exists() else b""

    def cut_power(self, random: Random) -> None:
        """Keep random sectors of what no fsync has confirmed, and continue with the result."""
        written = self.log.read_bytes() if self.log.exists() else b""
        confirmed = written if self.confirmed is None else self.confirmed
        found = mix_sectors(confirmed, written, random)
        content = self.journal.read_bytes()
        before = self.folder
        self.power_cuts += 1
        self.folder.mkdir()
        self.journal.write_bytes(content)
        self.log.write_bytes(found)
        self.cut, self.confirmed = None, None
        if before != self.base:
            shutil.rmtree(before)


def mix_sectors(before: bytes, after: bytes, random: Random) -> bytes:
    """Return a file in which some changed sectors were written, and some of the growth."""
    least = len(after) if random.random() < 0.5 else min(len(before), len(after))
    size = random.randint(least, len(after))
    parts = []
    for start in range(0, size, SECTOR):
        end = min(start + SECTOR, size)
        old, new = before[start:end], after[start:end]
        # A sector that was never written reads as zeros.
        parts.append(new if old == new or random.random() < 0.5 else old.ljust(end - start, b"\0"))
    return b"".join(parts)


@attrs.define(eq=False)
class SimulatedDisk:
    """Runs the journal's calls with a disk's delays and failures, and without a thread.

    A kill comes between two instructions: a call is carried out or not, and its result may be lost.
    Only a power cut leaves a call done in part.
    """

    state: DiskState
    random: Random
    dead: bool = False

    async def __call__(self, function: Callable[[], Any], /) -> Any:  # noqa: ANN401 - as in RunSync
        """Run a call of the journal."""
        await self._pause()
        state = self.state
        method = getattr(getattr(function, "func", function), "__name__", "")
        if state.full and method in _WRITES:
            raise JournalFull(state.journal)
        if state.broken and method in _WRITES:
            if self.random.random() < 0.5:
                function()
            raise JournalIOError(state.journal, "Input/output error")
        if state.cut is not None and state.confirmed is None:
            state.remember_confirmed()
        if method == "compact":
            state.archive_records(cast("partial[int]", function).func.__self__)  # type: ignore[attr-defined]
        result = function()
        if (cut := state.cut) is not None:
            if method == "append":
                state.cut_power(self.random)
                cut()
            elif method in _LASTING:
                state.remember_confirmed()
        await self._pause()
        return result

    async def _pause(self) -> None:
        await trio.sleep(self.random.uniform(*(self.state.stall_s or DISK_S)))
        if self.dead:
            raise KilledError
