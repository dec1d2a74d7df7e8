"""The exchange's rate limits, applied before sending.

The exchange counts requests in a sliding window. ``Window`` therefore remembers when the last
``limit`` requests were sent; the next may be sent when the oldest of them has left the window.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs
import trio


@attrs.frozen
class OrderLimits:
    """Requests allowed per instrument in any ``period_s``; the defaults are the exchange's.

    Elements of batches are counted separately from single requests. Other values are for simulated
    exchanges, such as the one of the benchmarks.
    """

    orders: int = 60
    cancels: int = 60
    cancels_in_batches: int = 300
    period_s: float = 2.0


OKX_LIMITS: Final = OrderLimits()


class Window:
    """At most ``limit`` requests in any ``period_s`` seconds, first come, first served."""

    def __init__(self, limit: int, period_s: float) -> None:
        self._limit = limit
        self._period_s = period_s
        self._slots: deque[float] = deque(maxlen=limit)  # older ones cannot matter

    def next_slot(self, now: float, n: int = 1) -> float:
        """Return when ``n`` requests may be sent together, at ``now`` or later."""
        if not 1 <= n <= self._limit:
            raise ValueError(f"{n} requests at once exceed the limit of {self._limit}")
        slot = max(now, self._slots[-1]) if self._slots else now
        leaving = len(self._slots) + n - self._limit
        if leaving > 0:
            slot = max(slot, self._slots[leaving - 1] + self._period_s)
        return slot

    def reserve(self, now: float, n: int = 1) -> float:
        """Reserve the next slot for ``n`` requests and return its time."""
        slot = self.next_slot(now, n)
        self._slots.extend([slot] * n)
        return slot


class Limiter:
    """A window on Trio's clock.

    Slots are assigned in the order of the calls, so no caller starves. The slot of a caller that is
    cancelled while it waits stays reserved, which is at worst slower than the exchange allows. A
    caller with a deadline checks ``ready_in`` first, so that callers that give up do not delay others.
    """

    def __init__(self, limit: int, period_s: float) -> None:
        self._window = Window(limit, period_s)

    def ready_in(self, n: int = 1) -> float:
        """Seconds until ``n`` requests could be sent; 0 when they can be sent at once."""
        now = trio.current_time()
        return self._window.next_slot(now, n) - now

    async def acquire(self, n: int = 1) -> None:
        """Wait until ``n`` requests may be sent; a deadline is the caller's."""
        now = trio.current_time()
        slot = self._window.reserve(now, n)
        # A checkpoint would let every other task run first: an order would wait 30 us and more.
        if slot > now:
            await trio.sleep_until(slot)
