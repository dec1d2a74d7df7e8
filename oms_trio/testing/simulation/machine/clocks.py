"""The clocks of a run: virtual time never steps; wall clocks do, and they drift."""

from __future__ import annotations

import math

import attrs
import trio

from oms_trio.settings.clock import NS, Clock


@attrs.define(eq=False)
class WallClock:
    """A wall clock: off from the true time, drifting, and stepped at times.

    ``drift_ppm`` is how many microseconds it gains in a second.
    """

    true: Clock
    offset_ns: int = 0
    drift_ppm: int = 0
    _since_ns: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Start to drift now."""
        self._since_ns = self.true()

    def __call__(self) -> int:
        """Return its Unix time in nanoseconds."""
        now_ns = self.true()
        return now_ns + self.offset_ns + (now_ns - self._since_ns) * self.drift_ppm // 1_000_000

    def step(self, seconds: float) -> None:
        """Set it forward, or back when ``seconds`` is below 0."""
        self.offset_ns += round(seconds * NS)

    def drift(self, ppm: int) -> None:
        """Set the drift from now on; what it has gained so far stays."""
        now_ns = self.true()
        self.offset_ns, self._since_ns = self() - now_ns, now_ns
        self.drift_ppm = ppm


@attrs.define(eq=False)
class JumpingClock(trio.abc.Clock):
    """The true time: it stands still while a task can run, then jumps to the next deadline.

    ``trio.testing.MockClock`` does the same, but each of its jumps costs a round of the scheduler and
    a look at all of Trio, to let threads and sockets come first. There are none here.
    """

    _now: float = 0.0

    def start_clock(self) -> None:
        """Do nothing: time starts at 0."""

    def current_time(self) -> float:
        """Return the seconds since the beginning."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump instead of sleeping; Trio asks how long to sleep when no task can run."""
        if deadline == math.inf:
            return math.inf
        self._now = max(self._now, deadline)
        return 0.0
