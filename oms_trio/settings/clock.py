"""The service's clock, passed as an argument, so that tests and replay can pass their own.

A process makes every decision by one clock. It reads the wall clock once, at the start, and elapsed
time from then on, so it is not affected when the wall clock is set forwards or back. The exchange's
clock is estimated from it by an offset (``Rest.measure_offset``).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

Clock = Callable[[], int]
"""Unix time in nanoseconds."""

NS = 1_000_000_000
"""Nanoseconds in a second."""

system_clock: Clock = time.time_ns
"""The wall clock, which may step: only for what people read."""


def elapsed_ns() -> int:
    """Return the time since some moment in the past, including time that the machine was suspended."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def service_clock(
    not_before_ns: int = 0, *, wall: Clock = system_clock, elapsed: Callable[[], int] = elapsed_ns
) -> Clock:
    """Return a clock that starts at the wall clock's time, or at ``not_before_ns`` if that is later.

    ``not_before_ns`` is the time of the last record of an earlier process: time never goes back
    in a journal, even when the wall clock has been set back in between.
    """
    began = elapsed()
    ahead = max(wall(), not_before_ns) - began
    return lambda: ahead + elapsed()


def virtual_clock(start_ns: int) -> Clock:
    """Return a clock that starts at ``start_ns`` and advances with Trio's clock.

    Under a jumping ``trio.testing.MockClock`` wall time and timeouts then agree. It must be
    called, and the clock read, inside ``trio.run``.
    """
    began = trio.current_time()
    return lambda: start_ns + round((trio.current_time() - began) * NS)
