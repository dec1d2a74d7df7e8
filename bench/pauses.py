"""What holds the loops of a service under load up: garbage collections, late wake-ups.

The service runs as in ``wire``, with probes inside (``bench.service --pauses``): every
collection is timed, and in either loop a task that sleeps for 2 ms notes how much longer it took.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.places import OURS, contender, venue
from bench.stats import Row, Tables, quantile
from bench.wire import latency
from tests.rabbitmq import running_node


def run(*, quick: bool = False) -> Tables:
    """Measure under 250 actions a second."""
    count = 300 if quick else 1500
    with running_node() as node, venue() as exchange, TemporaryDirectory() as folder:
        told = Path(folder) / "pauses.json"
        with contender(
            OURS, "bench.service", exchange, node.port, Path(folder), "--pauses", str(told)
        ) as running:
            latency(running, exchange, node.port, count)
        pauses = json.loads(told.read_text())
    rows = [
        _row(f"collections of generation {number}", pauses["collections"][number])
        for number in ("0", "1", "2")
    ]
    rows.append(_row("Trio wakes up late by", pauses["lags"]))
    rows.append(_row("the broker's loop wakes up late by", pauses["portal_lags"]))
    return {"pauses, us": rows}


def _row(what: str, samples: list[int]) -> Row:
    row: Row = {"who": what, "count": len(samples)}
    for name, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0)):
        row[name] = quantile(samples, part) / 1e3 if samples else 0.0
    return row
