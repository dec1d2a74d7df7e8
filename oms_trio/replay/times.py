"""Times in the form in which people write and read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from oms_trio.settings.clock import NS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Units differ by a factor of 1000, and today is 1.8e9 s; each of these bounds is in the year 5138.
_UNITS: Final = ((1e11, NS), (1e14, 1_000_000), (1e17, 1_000), (math.inf, 1))


def parse_time(value: object) -> int:
    """Return Unix nanoseconds of ISO 8601 (default UTC), or of Unix s, ms, us or ns by magnitude.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
        return since // timedelta(microseconds=1) * 1_000
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise _invalid(value)
    factor = next(factor for bound, factor in _UNITS if value < bound)
    whole = int(value)
    return whole * factor + round((value - whole) * factor)


def _number(text: str) -> int | float | datetime:
    for read in (int, float, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    raise _invalid(text)


def _invalid(value: object) -> ValueError:
    return ValueError(
        f"{value!r} is not a valid time: write it like 2026-11-02T09:00:00Z or as Unix time"
    )


def format_time(ns: int) -> str:
    """Return a time in ISO 8601, UTC, with milliseconds."""
    time = _EPOCH + timedelta(microseconds=ns // 1_000)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_of_day(ns: int) -> str:
    """Return the time of day in UTC, with milliseconds."""
    return format_time(ns)[11:-1]
