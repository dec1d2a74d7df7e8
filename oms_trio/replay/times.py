"""Times as people write and read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from oms_trio.settings.clock import NS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# From one unit to the next there are three zeros; today is 1.8e9 s, and each of these bounds lies
# in the year 5138.
_UNITS: Final = ((1e11, NS), (1e14, 1_000_000), (1e17, 1_000), (math.inf, 1))


def unix_ns(value: object) -> int:
    """Read a time: ISO 8601 (UTC unless it says otherwise), or Unix s, ms, us or ns by magnitude.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
        return since // timedelta(microseconds=1) * 1_000
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{value!r} is no time")
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no time")
    factor = next(factor for bound, factor in _UNITS if value < bound)
    whole = int(value)
    return whole * factor + round((value - whole) * factor)


def _number(text: str) -> int | float | datetime:
    for read in (int, float, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no time: write it as 2026-11-02T09:00:00Z or as Unix time")


def iso(ns: int) -> str:
    """Write a time in UTC with milliseconds."""
    moment = _EPOCH + timedelta(microseconds=ns // 1_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(ns: int) -> str:
    """Write the time of day in UTC with milliseconds."""
    return iso(ns)[11:-1]
