"""The simulation's own parts: what it freezes, cuts off, steps and owes."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Record
from oms_trio.settings.clock import NS, virtual_clock
from oms_trio.testing.simulation.invariants.oracle import Oracle, TrueFill
from oms_trio.testing.simulation.machine.clocks import JumpingClock, WallClock
from oms_trio.testing.simulation.machine.disk import KilledError, Room, SimDisk, mixed
from oms_trio.testing.simulation.machine.freezing import PROCESS, freeze, frozen, thaw
from oms_trio.testing.simulation.troubles import Trouble, Troubles

HOUR = 3600.0


async def test_frozen_process_runs_nothing_and_then_all_that_was_due(
    autojump_clock: MockClock,
) -> None:
    assert autojump_clock.autojump_threshold == 0
    process = object()
    beats: list[float] = []

    async def live() -> None:
        PROCESS.set(process)
        while True:
            await trio.sleep(1)
            beats.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
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


async def test_timeout_of_a_frozen_process_is_late_as_well(autojump_clock: MockClock) -> None:
    assert autojump_clock.autojump_threshold == 0
    process = object()
    ended: list[float] = []

    async def live() -> None:
        PROCESS.set(process)
        with trio.move_on_after(3):
            await trio.sleep_forever()
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(live)
        await trio.sleep(1)
        freeze(process)
        await trio.sleep(20)
        thaw(process)
        await trio.sleep(1)
        assert ended == [pytest.approx(began + 21)]


def test_true_time_stands_still_while_a_task_can_run_and_then_jumps() -> None:
    told: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await trio.sleep(seconds)
        told.append((name, trio.current_time()))

    async def work() -> None:
        for _ in range(1000):
            await trio.lowlevel.checkpoint()
        told.append(("work", trio.current_time()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep, "day", 86400.0)
            nursery.start_soon(sleep, "hour", 3600.0)
            nursery.start_soon(work)

    trio.run(main, clock=JumpingClock())
    assert told == [("work", 0.0), ("hour", 3600.0), ("day", 86400.0)]


async def test_wall_clock_steps_and_drifts_beside_the_true_one(autojump_clock: MockClock) -> None:
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


async def test_calm_counts_from_the_end_of_the_last_trouble(autojump_clock: MockClock) -> None:
    assert autojump_clock.autojump_threshold == 0
    troubles = Troubles()
    await trio.sleep(HOUR)
    began = trio.current_time()
    with troubles.during([Trouble.REST], after_s=5):
        assert troubles.calm_for([Trouble.REST]) < 0
        assert troubles.calm_for([Trouble.LINK]) >= HOUR
        await trio.sleep(10)
    await troubles.wait_calm([Trouble.REST, Trouble.LINK], 20)
    assert trio.current_time() == pytest.approx(began + 35, abs=1)


def test_sectors_that_were_not_confirmed_are_on_the_disk_or_not() -> None:
    before, after = b"a" * 2048, b"a" * 512 + b"b" * 1536 + b"c" * 1024
    found = {mixed(before, after, Random(seed)) for seed in range(64)}
    assert len(found) > 10
    for content in found:
        assert content[:512] == before[:512]
        assert len(before) <= len(content) <= len(after)


def _entry(seq: int) -> Entry:
    return Entry(seq, Record("tick", b"x" * 700, seq, seq, "", b""), ())


@pytest.mark.parametrize("seed", range(8))
async def test_power_cut_takes_no_commit_that_has_returned(
    tmp_path: Path, autojump_clock: MockClock, seed: int
) -> None:
    assert autojump_clock.autojump_threshold == 0
    room = Room(tmp_path)
    with Journal.open(room.journal) as journal:
        disk = SimDisk(room, Random(seed))

        def die() -> None:
            disk.dead = True

        for seq in range(1, 6):
            await disk(partial(journal.append, [_entry(seq)]))
        room.cut = die
        with pytest.raises(KilledError):
            await disk(partial(journal.append, [_entry(6), _entry(7)]))
    assert room.folder != tmp_path
    with Journal.open(room.journal, create=False) as found:
        assert found.last_seq in {5, 7}
        found.verify()


def _fill(ord_id: str, sign: int, sz: str, px: str, **more: object) -> TrueFill:
    return TrueFill(ord_id, sign, Fraction(sz), Fraction(sz), Fraction(px), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unit", "net", "gain"),
    [
        ("usdt", False, 20.0),
        ("usdt", True, 20.0 - 3 - 2),
        ("return", False, 20.0 / 1340),
        ("roe", False, 20.0 / 1340 * 10_000),
    ],
)
def test_oracle_counts_in_the_unit_that_is_set(unit: str, net: bool, gain: float) -> None:  # noqa: FBT001
    oracle = Oracle(unit, net=net)
    oracle.fill(_fill("A", 1, "2", "67000", fee=Fraction(-1)))
    oracle.fund(Fraction(-2), known_at=0.0)
    oracle.fill(_fill("B", -1, "2", "68000", fee=Fraction(-2), at=1.0))
    (found,) = oracle.due[-1].gains
    assert found == pytest.approx(gain)


def test_oracle_has_nobody_told_of_fills_without_an_action_but_of_their_closure() -> None:
    oracle = Oracle()
    oracle.fill(_fill("A", 1, "2", "67000", state_id=7))
    oracle.fill(_fill("L", -1, "2", "66000", state_id=None, cause="liquidation"))
    execution, closure = oracle.due
    assert (execution.kind, execution.ord_id, execution.state_id) == ("execution", "A", 7)
    assert (closure.kind, closure.ord_id, closure.state_id) == ("closure", "L", 7)
    assert closure.cause == "liquidation"
    assert closure.portions == (("A", 1.0), ("L", 1.0))


def test_oracle_owes_no_closure_that_no_action_has_a_part_in() -> None:
    oracle = Oracle()
    oracle.fill(_fill("M", 1, "2", "67000", state_id=None, cause="manual"))
    oracle.fill(_fill("F", -1, "2", "66000", state_id=None, cause="operator"))
    assert oracle.due == []
    assert oracle.closed == 1
