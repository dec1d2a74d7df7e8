"""What durability costs, and how long a start takes.

commit     one append of 1 to 500 inputs, and what an order would wait if it waited for it:
with the disk's word (fsync), or with a commit that survives the process only
names      asking whether an action is on record, among so many, while others are committed
recovery   opening a journal, reading the snapshot, applying what came after it
"""

from __future__ import annotations

import statistics
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.recording import CONTEXT, RULES, recording
from bench.stats import Row, Tables
from oms_trio.core.identity import order_name
from oms_trio.core.model import StateId
from oms_trio.core.state import TradeState
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Record
from oms_trio.service.recovery import recover
from oms_trio.service.state_codec import digest, encode_state
from oms_trio.tasks.trade_state import SNAPSHOT_EVERY

ROUNDS = 200
TICK = Record("tick", b"", 1, 1)


def commit_costs(folder: Path) -> list[Row]:
    """Time appends by group size and by durability."""
    rows: list[Row] = []
    for size in (1, 8, 64, 500):
        row: Row = {"inputs": size}
        for name, durable in (("fsync", True), ("process", False)):
            entries = recording(size * ROUNDS)
            with Journal.open(folder / f"{size}-{name}.sqlite") as journal:
                if not durable:
                    _spare_the_disk(journal)
                costs = [_timed(journal, list(islice(entries, size))) for _ in range(ROUNDS)]
            row[f"{name} p50 us"] = statistics.median(costs)
            row[f"{name} p99 us"] = statistics.quantiles(costs, n=100)[98]
            row[f"{name} us/input"] = statistics.median(costs) / size
        rows.append(row)
    return rows


def name_costs(folder: Path, names: tuple[int, ...]) -> list[Row]:
    """Time looking actions up that are there or are not, as a repeated or a new one is."""
    rows: list[Row] = []
    for total in names:
        with Journal.open(folder / f"{total}-names.sqlite") as journal:
            for start in range(0, total, 10_000):
                seqs = range(start + 1, start + 10_001)
                journal.append([Entry(seq, TICK, (), _name(seq)) for seq in seqs])
            journal.checkpoint()
            journal.knows_action("")
            costs: dict[str, list[float]] = {"known": [], "new": []}
            for number in range(ROUNDS * 10):
                journal.append([Entry(total + number + 1, TICK, (), _name(total + number + 1))])
                for kind, seq in (("known", number * 37 % total + 1), ("new", -number)):
                    name = _name(seq)
                    began = time.perf_counter()
                    found = journal.knows_action(name)
                    costs[kind].append((time.perf_counter() - began) * 1e6)
                    assert found is (kind == "known")
        row: Row = {"names": total}
        for kind, times in costs.items():
            row[f"{kind} p50 us"] = statistics.median(times)
            row[f"{kind} p99 us"] = statistics.quantiles(times, n=100)[98]
        rows.append(row)
    return rows


def _name(seq: int) -> str:
    return order_name(StateId(seq % 2**32), b"id%d" % seq)


def _spare_the_disk(journal: Journal) -> None:
    """Let commits survive the process but not the power: no fsync."""
    transaction = journal._transaction  # noqa: SLF001 - the service itself has no such choice
    journal._transaction = lambda **_: transaction(durable=False)  # type: ignore[method-assign] # noqa: SLF001


def _timed(journal: Journal, entries: list[Entry]) -> float:
    began = time.perf_counter()
    journal.append(entries)
    cost = (time.perf_counter() - began) * 1e6
    if journal.checkpoint_due:  # as the service does, behind a commit
        journal.checkpoint()
    return cost


def recovery_times(folder: Path, events: tuple[int, ...], tail: int) -> list[Row]:
    """Time a start on journals of so many events, of which ``tail`` came after the snapshot."""
    real = list(recording((max(tail, 50_000) + 6) // 7))
    rows: list[Row] = []
    for total in events:
        path = folder / f"{total}.sqlite"
        _build(path, real, total, tail)
        began = time.perf_counter()
        with Journal.open(path) as journal:
            opened = time.perf_counter()
            recovered = recover(journal, RULES, CONTEXT)
            done = time.perf_counter()
        assert recovered.seq == total
        rows.append(
            {
                "events": total,
                "after snapshot": tail,
                "file MB": path.stat().st_size / 1e6,
                "open s": opened - began,
                "recover s": done - opened,
            }
        )
    return rows


def _build(path: Path, real: list[Entry], total: int, tail: int) -> None:
    """Write old events that nothing reads any more, a snapshot, and a tail that is read."""
    old = total - tail
    with Journal.open(path) as journal:
        for start in range(0, old, 1000):
            journal.append(
                [
                    Entry(seq + 1, real[seq % len(real)].record)
                    for seq in range(start, min(start + 1000, old))
                ]
            )
        state = TradeState(RULES)
        journal.save_snapshot(old, encode_state(state), digest(state))
        journal.append([Entry(old + n, entry.record) for n, entry in enumerate(real[:tail], 1)])


def run(*, quick: bool = False) -> Tables:
    """Measure everything; ``quick`` leaves out the journal of a million events."""
    events = (50_000, 200_000) if quick else (50_000, 1_000_000)
    with TemporaryDirectory() as folder:
        return {
            "commit": commit_costs(Path(folder)),
            "names": name_costs(Path(folder), (10_000, 100_000 if quick else 1_000_000)),
            "recovery": recovery_times(Path(folder), events, SNAPSHOT_EVERY),
        }
