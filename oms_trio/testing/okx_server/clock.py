"""Time: the clock that everything is driven by, and the exchange's own, which may be wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from oms_trio.testing.okx_server.faults.switches import FaultSwitches

Clock = Callable[[], int]
"""Unix time in nanoseconds."""

system_clock: Clock = time.time_ns


@attrs.define
class ExchangeClock:
    """The exchange's clock: the true time, plus a step and a drift that fault switches set."""

    true_clock: Clock
    faults: FaultSwitches
    _since_ns: int = attrs.field(init=False)
    """The true time at which the present rate of drift began."""
    _ppm: int = attrs.field(default=0, init=False)
    _gained_ns: int = attrs.field(default=0, init=False)
    """What earlier rates have gained; it stays when a drift ends."""

    def __attrs_post_init__(self) -> None:
        """Start without drift."""
        self._since_ns = self.true_clock()

    def __call__(self) -> int:
        """Return the exchange's time in Unix nanoseconds."""
        now_ns = self.true_clock()
        self.faults.expire(now_ns)
        gained_ns = self._gained_ns + (now_ns - self._since_ns) * self._ppm // 1_000_000
        if self.faults.clock_drift_ppm != self._ppm:
            self._gained_ns, self._since_ns = gained_ns, now_ns
            self._ppm = self.faults.clock_drift_ppm
        return now_ns + gained_ns + self.faults.clock_skew_ms * 1_000_000
