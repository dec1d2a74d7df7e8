"""How fast a recording is applied again, and what a long life costs in memory.

decoded   the core's inputs are there already; only ``TradeState.apply``
raw       records as the journal holds them: bytes to inputs to state
memory    resident set while the state lives through so many events
"""

from __future__ import annotations

import gc
import resource
import time
from pathlib import Path

from bench.recording import CONTEXT, RULES, recording
from bench.stats import Row, Tables
from oms_trio.core.state import TradeState
from oms_trio.service import journaled_inputs
from oms_trio.service.state_codec import digest

PAGE_BYTES = resource.getpagesize()


def speed(cycles: int, rounds: int) -> list[Row]:
    """Apply one recording again and again, from both ends of its decoding."""
    entries = list(recording(cycles))
    decoded = [
        (event, entry.record.at_ns)
        for entry in entries
        for event in journaled_inputs.read(
            entry.record.kind, entry.record.raw, entry.record.context, CONTEXT
        ).events
    ]
    rates: dict[str, list[float]] = {"decoded": [], "raw": []}
    for _ in range(rounds):
        state = TradeState(RULES)
        gc.collect()
        began = time.process_time()
        for event, at_ns in decoded:
            state.apply(event, at_ns)
        rates["decoded"].append(len(decoded) / (time.process_time() - began))
        again = TradeState(RULES)
        began = time.process_time()
        for entry in entries:
            record = entry.record
            arrival = journaled_inputs.read(record.kind, record.raw, record.context, CONTEXT)
            for event in arrival.events:
                again.apply(event, record.at_ns)
        rates["raw"].append(len(entries) / (time.process_time() - began))
        assert digest(again) == digest(state)
    return [_row(name, len(decoded), rate) for name, rate in rates.items()]


def _row(name: str, events: int, rates: list[float]) -> Row:
    middle = sorted(rates)[len(rates) // 2]
    return {"who": name, "events": events, "events per CPU s": middle, "best": max(rates)}


def memory(events: int) -> list[Row]:
    """Let a state live, and look at the process now and then."""
    rows: list[Row] = []
    step = events // 10
    for entry in recording(events // 7 + 1):
        if entry.seq % step == 0:
            gc.collect()
            rows.append({"events": entry.seq, "RSS MB": _resident() / 1e6})
            if entry.seq >= events:
                break
    return rows


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def run(*, quick: bool = False) -> Tables:
    """Measure both; memory first, while the process is small."""
    lived = memory(100_000 if quick else 1_000_000)
    return {
        "memory of the core": lived,
        "replay": speed(3_000 if quick else 10_000, 2 if quick else 5),
    }
