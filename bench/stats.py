"""Figures out of samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

Row = dict[str, float | str]
Tables = dict[str, list[Row]]


def quantile(samples: Sequence[float], part: float) -> float:
    """Return the sample that this part (0 to 1) of all does not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(part * len(ordered)) - 1))]


def median(values: Iterable[float]) -> float:
    """Return the median, NaN of nothing."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def compare(
    rounds: Sequence[dict[str, dict[str, float]]], names: Sequence[str], base: str
) -> list[Row]:
    """Make a table of contenders from what each round measured of each.

    Figures are medians over the rounds. The ratio to ``base`` is the median of the ratios within
    rounds: what a busy machine does to a round it does to all who run in it.
    """
    rows: list[Row] = []
    for name in names:
        mine = [measured[name] for measured in rounds if name in measured]
        row: Row = {"who": name}
        for column in mine[0] if mine else ():
            row[column] = median(measured[column] for measured in mine)
            ratios = [
                measured[name][column] / measured[base][column]
                for measured in rounds
                if name in measured and base in measured
            ]
            if column in {"mean", "p50", "p99"} and ratios:
                row[f"{column} ratio"] = median(ratios)
        rows.append(row if mine else {"who": f"{name} (not installed, skipped)"})
    return rows
