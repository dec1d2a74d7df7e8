#!/usr/bin/env python3
"""Measure replay: records per second by kind of replay, and the memory that a long journal takes.

    scripts/bench_replay.py [--records 1000000] [--profile]

The journal is made first, by a separate process in a temporary folder: for a million records this
takes some minutes and about a gigabyte.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.recording import recording  # noqa: E402 - found by the line above
from oms_trio.journal.journal import Journal  # noqa: E402
from oms_trio.journal.model import Entry  # noqa: E402
from oms_trio.replay.player import play  # noqa: E402
from oms_trio.replay.recordings.journals import JournalRecording  # noqa: E402
from oms_trio.replay.recordings.recording import PlayedStep, Watcher  # noqa: E402
from oms_trio.replay.report.summary import Summary  # noqa: E402
from oms_trio.replay.verify import Verifier  # noqa: E402

COMMIT = 4096
SHOWN = 14


def write(path: Path, wanted: int) -> None:
    """Write a journal of that many records."""
    entries = islice(recording(wanted), wanted)
    with Journal.open(path) as journal:
        while group := list(islice(entries, COMMIT)):
            journal.append([Entry(entry.seq, entry.record) for entry in group])


def rss_mb() -> float:
    """Return the resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


class Memory:
    """Measures the memory after each tenth of the records; a watcher."""

    def __init__(self, total: int) -> None:
        self.every = max(1, total // 10)
        self.seen: list[float] = []

    def __call__(self, played: PlayedStep) -> None:
        """See ``Watcher``."""
        if played.step.seq % self.every == 0:
            self.seen.append(rss_mb())


def timed(name: str, count: int, work: Callable[[], object]) -> None:
    """Run ``work`` and print its records per second."""
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    print(f"{name:<34}{count / seconds:>12,.0f} records/s{seconds:>9.2f} s")


def measure(path: Path, *, profile: bool) -> None:
    """Measure each kind of replay, and the memory last."""
    with Journal.open(path, create=False, read_only=True) as journal:
        total = journal.last_seq

        def decoded() -> None:
            for _ in JournalRecording(journal, "bench").begin().steps:
                pass

        def played(*watchers: Watcher) -> None:
            trio.run(play, JournalRecording(journal, "bench"), watchers)

        timed("read from the disk", total, lambda: sum(1 for _ in journal.tail(0)))
        timed("read and decoded", total, decoded)
        timed("replayed without watchers", total, played)
        timed("replayed and verified", total, lambda: played(Verifier({})))
        memory = Memory(total)
        timed("replayed with summary", total, lambda: played(Summary(), memory))
        tenths = " ".join(f"{mb:.0f}" for mb in memory.seen)
        print(f"resident MB at each tenth         {tenths}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"peak MB                           {peak:.0f}")
        if profile:
            profiler = cProfile.Profile()
            profiler.runcall(played)
            pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(SHOWN)


def main() -> None:
    """Make a journal and measure its replay."""
    parser = argparse.ArgumentParser(description="Measure replay.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write is not None:
        write(arguments.write, arguments.records)
        return
    with TemporaryDirectory(prefix="oms-trio-bench-") as folder:
        path = Path(folder) / "journal.sqlite"
        count = str(arguments.records)
        subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, __file__, "--write", str(path), "--records", count], check=True
        )
        print(f"{arguments.records} records, {path.stat().st_size / 1e6:.0f} MB")
        measure(path, profile=arguments.profile)


if __name__ == "__main__":
    main()
