"""Bit rot: a damaged journal is refused, or what is damaged says nothing."""

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
from oms_trio.testing.simulation.setting import CONTEXT
from oms_trio.testing.simulation.world import World


def check_rot(world: World, random: Random) -> None:
    """Damage a copy of the journal as it lies on the disk now, and start from it.

    Only a copy: whoever has a damaged journal restores a backup, which is no part of a run.
    """
    room = world.room
    if not room.journal.exists():
        return
    with TemporaryDirectory(prefix="rot-", dir=room.base) as place:
        sound, rotten = Path(place) / "sound", Path(place) / "rotten"
        for folder in (sound, rotten):
            folder.mkdir()
            for path in (room.journal, room.log):
                if path.exists():
                    copyfile(path, folder / path.name)
        _damage(rotten / JOURNAL, random)
        digest = _digest(world, sound)
        try:
            found = _digest(world, rotten)
        except StateError:
            return
    if found != digest:
        what = "a damaged journal was believed: another state was recovered from it"
        world.monitor.found.append(Violation("7", what))


def _damage(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(random.choice((1, 1, 8, 512))):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _digest(world: World, folder: Path) -> str:
    with Journal.open(folder / JOURNAL, create=False) as journal:
        return digest(recover(journal, world.rules, CONTEXT).state)
