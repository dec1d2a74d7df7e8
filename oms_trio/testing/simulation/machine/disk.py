"""The disk of a run: slow, full, failing, cut off from its power, and rotting.

A killed process loses nothing that it has written. A power cut does: what no fsync has confirmed
may be on the disk in part, sector by sector. The journal writes with an fsync what must last, and
without one what need not, so both may be cut, but never a commit that has returned.
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
"""What a disk writes whole or not at all."""

_WRITES: Final = frozenset({"append", "confirm", "save_snapshot", "compact"})
_LASTING: Final = frozenset({"append", "checkpoint"})
"""Calls that leave nothing unconfirmed behind when they return."""


class KilledError(Exception):
    """This process is dead; nobody outside the simulation sees this."""


@attrs.define(eq=False)
class Room:
    """The disk that all lives share, and what is wrong with it now."""

    base: Path
    full: bool = False
    broken: bool = False
    """Writes fail, before or after they have reached the disk: nobody can say."""
    stall_s: tuple[float, float] | None = None
    """How long every call takes now, instead of milliseconds."""
    archive: dict[int, Record] = attrs.Factory(dict)
    """What compaction has removed: an audit reads a run from its beginning."""
    cut: Callable[[], object] | None = None
    """The power fails during the next commit; this ends the process."""
    power_cuts: int = 0
    confirmed: bytes | None = None
    """The log as the last fsync left it; noted only while a cut is due."""

    @property
    def folder(self) -> Path:
        """Where the journal is: a new place after every power cut, as it was found there."""
        return self.base / f"power{self.power_cuts}" if self.power_cuts else self.base

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder / JOURNAL

    @property
    def log(self) -> Path:
        """The journal's log, which commits are written to."""
        return self.folder / f"{JOURNAL}-wal"

    def keep(self, journal: Journal) -> None:
        """Copy what the next compaction may remove."""
        since = max([journal.first_seq - 1, *self.archive])
        self.archive |= dict(islice(journal.tail(since), retention.STEP))

    def note_confirmed(self) -> None:
        """Remember what is certainly on the disk."""
        self.confirmed = self.log.read_bytes() if self.log.exists() else b""

    def cut_power(self, random: Random) -> None:
        """Keep of what no fsync has confirmed any sectors, and go on with what is left."""
        written = self.log.read_bytes() if self.log.exists() else b""
        confirmed = written if self.confirmed is None else self.confirmed
        found = mixed(confirmed, written, random)
        whole = self.journal.read_bytes()
        left = self.folder
        self.power_cuts += 1
        self.folder.mkdir()
        self.journal.write_bytes(whole)
        self.log.write_bytes(found)
        self.cut, self.confirmed = None, None
        if left != self.base:
            shutil.rmtree(left)


def mixed(before: bytes, after: bytes, random: Random) -> bytes:
    """Return a file of which any changed sectors have been written, and some of the growth."""
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
class SimDisk:
    """Runs the journal's calls as a disk does, without a thread.

    Death strikes between two instructions: a call is made whole or not at all, and its result
    may be lost. Only a power cut parts a call in two.
    """

    room: Room
    random: Random
    dead: bool = False

    async def __call__(self, function: Callable[[], Any], /) -> Any:  # noqa: ANN401 - as in RunSync
        """Run a call of the journal."""
        await self._pause()
        room = self.room
        method = getattr(getattr(function, "func", function), "__name__", "")
        if room.full and method in _WRITES:
            raise JournalFull(room.journal)
        if room.broken and method in _WRITES:
            if self.random.random() < 0.5:
                function()
            raise JournalIOError(room.journal, "Input/output error")
        if room.cut is not None and room.confirmed is None:
            room.note_confirmed()
        if method == "compact":
            room.keep(cast("partial[int]", function).func.__self__)  # type: ignore[attr-defined]
        result = function()
        if (cut := room.cut) is not None:
            if method == "append":
                room.cut_power(self.random)
                cut()
            elif method in _LASTING:
                room.note_confirmed()
        await self._pause()
        return result

    async def _pause(self) -> None:
        await trio.sleep(self.random.uniform(*(self.room.stall_s or DISK_S)))
        if self.dead:
            raise KilledError
