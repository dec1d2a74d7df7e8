"""The simulated machine: freezing, clocks, and what a power cut leaves on the disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Record
from oms_trio.settings.clock import NS, virtual_clock
from oms_trio.testing.simulation.machine.clocks import JumpingClock, WallClock
from oms_trio.testing.simulation.machine.disk import (
    DiskState,
    KilledError,
    SimulatedDisk,
    mix_sectors,
)
from oms_trio.testing.simulation.machine.freezing import PROCESS, freeze, frozen, thaw


async def test_frozen_process_runs_nothing_and_afterwards_all_that_became_due(
    autojump_clock: MockClock,
) -> None:
    assert autojump_clock.autojump_threshold == 0
    process = object()
    beats: list[float] = []

    async def run() -> None:
        PROCESS.set(process)
        while True:
            await trio.sleep(1)
            beats.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(2.5)
        freeze(process)
        assert frozen(process)
        await trio.sleep(10)
        assert len(beats) == 2
        thaw(process)
        assert not frozen(process)
        await trio.sleep(0.1)
        assert len(beats) == 3
        await trio.sleep(1)
        assert len(beats) == 4
        nursery.cancel_scope.cancel()


async def test_timeout_of_a_frozen_process_is_late(autojump_clock: MockClock) -> None:
    assert autojump_clock.autojump_threshold == 0
    process = object()
    ended: list[float] = []

    async def run() -> None:
        PROCESS.set(process)
        with trio.move_on_after(3):
            await trio.sleep_forever()
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(run)
        await trio.sleep(1)
        freeze(process)
        await trio.sleep(20)
        thaw(process)
        await trio.sleep(1)
        assert ended == [pytest.approx(began + 21)]


def test_true_time_stands_still_while_a_task_can_run_and_then_jumps() -> None:
    ended: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await trio.sleep(seconds)
        ended.append((name, trio.current_time()))

    async def work() -> None:
        for _ in range(1000):
            await trio.lowlevel.checkpoint()
        ended.append(("work", trio.current_time()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep, "day", 86400.0)
            nursery.start_soon(sleep, "hour", 3600.0)
            nursery.start_soon(work)

    trio.run(main, clock=JumpingClock())
    assert ended == [("work", 0.0), ("hour", 3600.0), ("day", 86400.0)]


async def test_wall_clock_steps_and_drifts_from_the_true_one(autojump_clock: MockClock) -> None:
    assert autojump_clock.autojump_threshold == 0
    true = virtual_clock(0)
    wall = WallClock(true, drift_ppm=1000)
    await trio.sleep(1000)
    assert wall() - true() == 1 * NS
    wall.step(-600)
    assert wall() - true() == -599 * NS
    wall.drift(0)
    await trio.sleep(1000)
    assert wall() - true() == -599 * NS


def test_each_unconfirmed_sector_may_or_may_not_be_on_the_disk() -> None:
    before, after = b"a" * 2048, b"a" * 512 + b"b" * 1536 + b"c" * 1024
    found = {mix_sectors(before, after, Random(seed)) for seed in range(64)}
    assert len(found) > 10
    for content in found:
        assert content[:512] == before[:512]
        assert len(before) <= len(content) <= len(after)


def _entry(seq: int) -> Entry:
    return Entry(seq, Record("tick", b"x" * 700, seq, seq, "", b""), ())


@pytest.mark.parametrize("seed", range(8))
async def test_power_cut_keeps_every_commit_that_has_returned(
    tmp_path: Path, autojump_clock: MockClock, seed: int
) -> None:
    assert autojump_clock.autojump_threshold == 0
    state = DiskState(tmp_path)
    with Journal.open(state.journal) as journal:
        disk = SimulatedDisk(state, Random(seed))

        def die() -> None:
            disk.dead = True

        for seq in range(1, 6):
            await disk(partial(journal.append, [_entry(seq)]))
        state.cut = die
        with pytest.raises(KilledError):
            await disk(partial(journal.append, [_entry(6), _entry(7)]))
    assert state.folder != tmp_path
    with Journal.open(state.journal, create=False) as found:
        assert found.last_seq in {5, 7}
        found.verify()
