"""How long things took, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import attrs

STEP = 1.02
"""Neighbouring classes differ by 2 %, which is the precision of quantiles."""


@attrs.define
class Latencies:
    """Durations in nanoseconds, counted in classes of equal ratio; the largest is exact."""

    count: int = 0
    longest_ns: int = 0
    _classes: Counter[int] = attrs.Factory(Counter)

    def add(self, ns: int) -> None:
        """Count one; what is below 1 us (clocks that stepped back) counts as 1 us."""
        ns = max(ns, 1_000)
        self.count += 1
        self.longest_ns = max(self.longest_ns, ns)
        self._classes[math.ceil(math.log(ns, STEP))] += 1

    def quantile(self, part: float) -> float | None:
        """Return what ``part`` of all did not exceed, in ns; None when there are none."""
        wanted = part * self.count
        seen = 0
        for number, count in sorted(self._classes.items()):
            seen += count
            if seen >= wanted and self.count:
                return min(STEP**number, float(self.longest_ns))
        return None

    def classes(self) -> Iterator[tuple[float, int]]:
        """Give the middle of each class, in ns, and how many are in it."""
        for number, count in sorted(self._classes.items()):
            yield STEP ** (number - 0.5), count


def in_words(ns: float | None) -> str:
    """Write a duration for people: three digits and a unit."""
    if ns is None:
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns / size:.0f} {unit}"
    return f"{ns / 1e3:.3g} us"
