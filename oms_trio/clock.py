"""Wall-clock time as a value that is handed in, so that tests and replay can hand in their own."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

Clock = Callable[[], int]
"""Unix time in nanoseconds."""

NS = 1_000_000_000
"""Nanoseconds of a second."""

system_clock: Clock = time.time_ns


def virtual_clock(start_ns: int) -> Clock:
    """Return a clock that starts at ``start_ns`` and advances with Trio's clock.

    Under a jumping ``trio.testing.MockClock`` wall time and timeouts then agree. It must be
    called, and the clock read, inside ``trio.run``.
    """
    began = trio.current_time()
    return lambda: start_ns + round((trio.current_time() - began) * NS)
