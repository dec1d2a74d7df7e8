"""The exchange's rate limits, kept on our side.

The exchange counts requests in a sliding window. A window therefore remembers when its last
``limit`` requests were allowed to go; the next may go when the oldest of them has left it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs
import trio


@attrs.frozen
class OrderLimits:
    """Requests that one instrument takes in any ``period_s``; the defaults are the exchange's.

    Elements of a batch are counted apart from single requests. Others than the defaults are for
    exchanges that are none, such as the one of the benches.
    """

    orders: int = 60
    cancels: int = 60
    cancels_in_batches: int = 300
    period_s: float = 2.0


OKX_LIMITS: Final = OrderLimits()


class Window:
    """At most ``limit`` requests in any ``period_s`` seconds, in the order they were asked for."""

    def __init__(self, limit: int, period_s: float) -> None:
        self._limit = limit
        self._period_s = period_s
        self._slots: deque[float] = deque(maxlen=limit)  # more of them cannot matter

    def next_slot(self, now: float, n: int = 1) -> float:
        """Tell when ``n`` requests together may go, at ``now`` or later."""
        if not 1 <= n <= self._limit:
            raise ValueError(f"{n} requests can never go at once under a limit of {self._limit}")
        slot = max(now, self._slots[-1]) if self._slots else now
        leaving = len(self._slots) + n - self._limit
        if leaving > 0:
            slot = max(slot, self._slots[leaving - 1] + self._period_s)
        return slot

    def reserve(self, now: float, n: int = 1) -> float:
        """Take the next slot for ``n`` requests and tell when it is."""
        slot = self.next_slot(now, n)
        self._slots.extend([slot] * n)
        return slot


class Limiter:
    """A window on Trio's clock.

    Slots are handed out in the order of asking, so nobody starves. A slot whose taker is
    cancelled while it waits stays taken: that is at worst slower than the exchange allows. Whoever
    has little time asks ``ready_in`` first, so that many who give up do not hold up the others.
    """

    def __init__(self, limit: int, period_s: float) -> None:
        self._window = Window(limit, period_s)

    def ready_in(self, n: int = 1) -> float:
        """Seconds until ``n`` requests asked for now might go; 0 when they may at once."""
        now = trio.current_time()
        return self._window.next_slot(now, n) - now

    async def acquire(self, n: int = 1) -> None:
        """Wait until ``n`` requests may go. How long is the caller's to bound."""
        now = trio.current_time()
        slot = self._window.reserve(now, n)
        # A checkpoint lets every other task run first: 30 us and more that an order would wait.
        if slot > now:
            await trio.sleep_until(slot)
