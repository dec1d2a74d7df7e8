"""Durations: a histogram for Prometheus, and the latest ones for people."""

from __future__ import annotations

from collections import deque

import attrs
from prometheus_client import Histogram

KEPT = 512
"""Durations kept for percentiles and charts; sorting them takes some tens of microseconds."""

CHARTED = 60


@attrs.frozen
class Spread:
    """Milliseconds: percentiles over the latest durations, and the newest of them, oldest first."""

    count: int
    p50_ms: float | None
    p99_ms: float | None
    latest_ms: tuple[float, ...]


@attrs.define
class Latency:
    """One kind of duration."""

    histogram: Histogram
    count: int = 0
    kept: deque[float] = attrs.Factory(lambda: deque(maxlen=KEPT))

    def note(self, duration_ns: int) -> None:
        """Count one duration; a wall clock that stepped back meanwhile makes it 0."""
        seconds = max(duration_ns, 0) / 1e9
        self.histogram.observe(seconds)
        self.count += 1
        self.kept.append(seconds * 1000)

    def spread(self) -> Spread:
        """Say how long it took lately."""
        if not self.kept:
            return Spread(0, None, None, ())
        ordered = sorted(self.kept)
        last = len(ordered) - 1
        latest = tuple(round(value, 3) for value in list(self.kept)[-CHARTED:])
        p50, p99 = ordered[last // 2], ordered[round(last * 0.99)]
        return Spread(self.count, round(p50, 3), round(p99, 3), latest)
