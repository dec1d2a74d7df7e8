"""A histogram of durations, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import attrs

RATIO = 1.02
"""Neighbouring buckets differ by 2 %, which is the precision of the quantiles."""


@attrs.define
class DurationHistogram:
    """Durations in nanoseconds, counted in buckets of equal ratio; the longest one is exact."""

    count: int = 0
    longest_ns: int = 0
    _buckets: Counter[int] = attrs.Factory(Counter)

    def add(self, ns: int) -> None:
        """Count a duration; less than 1 us (after a step of the clock) counts as 1 us."""
        ns = max(ns, 1_000)
        self.count += 1
        self.longest_ns = max(self.longest_ns, ns)
        self._buckets[math.ceil(math.log(ns, RATIO))] += 1

    def quantile(self, part: float) -> float | None:
        """Return the quantile ``part`` (0 to 1) in ns; None when nothing was counted."""
        wanted = part * self.count
        seen = 0
        for number, count in sorted(self._buckets.items()):
            seen += count
            if seen >= wanted and self.count:
                return min(RATIO**number, float(self.longest_ns))
        return None

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Yield the middle of each bucket, in ns, and its count."""
        for number, count in sorted(self._buckets.items()):
            yield RATIO ** (number - 0.5), count


def format_duration(ns: float | None) -> str:
    """Format a duration with three digits and a unit."""
    if ns is None:
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns / size:.0f} {unit}"
    return f"{ns / 1e3:.3g} us"
