"""Bit rot: a damaged journal is rejected, or gives the same state as an undamaged one."""

from __future__ import annotations

from pathlib import Path
from random import Random
from shutil import copyfile
from tempfile import TemporaryDirectory

from oms_trio.journal.errors import StateError
from oms_trio.journal.journal import Journal
from oms_trio.service.recovery import recover
from oms_trio.service.state_codec import digest
from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.machine.disk import JOURNAL
from oms_trio.testing.simulation.run_settings import CONTEXT
from oms_trio.testing.simulation.world import SimulatedWorld


def check_bit_rot(world: SimulatedWorld, random: Random) -> None:
    """Damage a copy of the journal as it is on the disk now, and recover from it.

    Only a copy: after real damage an operator restores a backup, which is not part of a run.
    """
    disk = world.disk
    if not disk.journal.exists():
        return
    with TemporaryDirectory(prefix="rot-", dir=disk.base) as place:
        sound, damaged = Path(place) / "sound", Path(place) / "rotten"
        for folder in (sound, damaged):
            folder.mkdir()
            for path in (disk.journal, disk.log):
                if path.exists():
                    copyfile(path, folder / path.name)
        _damage(damaged / JOURNAL, random)
        digest = _digest(world, sound)
        try:
            found = _digest(world, damaged)
        except StateError:
            return
    if found != digest:
        what = "another state was recovered from a damaged journal, without an error"
        world.monitor.found.append(Violation("7", what))


def _damage(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(random.choice((1, 1, 8, 512))):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _digest(world: SimulatedWorld, folder: Path) -> str:
    with Journal.open(folder / JOURNAL, create=False) as journal:
        return digest(recover(journal, world.rules, CONTEXT).state)
