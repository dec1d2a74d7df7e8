"""What the journal forgets, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio
from trio.testing import MockClock

from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Record
from oms_trio.journal.worker import JournalWorker
from oms_trio.settings.clock import virtual_clock
from oms_trio.tasks.retention import retain

HOUR_NS = 3600 * 10**9
START_NS = 1_790_000_000 * 10**9


async def test_old_records_go_within_the_hour_and_recovery_needs_none_of_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def at_once(function: Callable[[], object], /) -> object:
        await trio.lowlevel.checkpoint()
        return function()

    clock = virtual_clock(START_NS)
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        entries = [Entry(n, Record("tick", b"", START_NS + n * HOUR_NS, n)) for n in range(1, 49)]
        journal.append(entries)
        journal.save_snapshot(40, b"state", "digest")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(retain, JournalWorker(journal, at_once), 12 * HOUR_NS, clock)
            await trio.sleep(30 * 3600)
            assert 18 <= journal.first_seq <= 19
            await trio.sleep(100 * 3600)
            assert journal.first_seq == 41
            nursery.cancel_scope.cancel()
        assert [seq for seq, _ in journal.tail(40)] == list(range(41, 49))
