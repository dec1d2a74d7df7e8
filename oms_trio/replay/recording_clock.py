"""The speed of a replay, and the time in the recording."""

from __future__ import annotations

import attrs
import trio

from oms_trio.replay.recordings.recording import RecordedStep
from oms_trio.settings.clock import NS


@attrs.define
class RecordingClock:
    """Waits until a step is due, and gives the recording's time (a ``clock.Clock``).

    At ``speed`` 1 a replay takes as long as the recording did, at 10 a tenth of it; None does not
    wait at all. Steps before ``from_ns`` are not waited for. Between two steps the time runs at
    ``speed``, so that ages grow; while a step is applied, and after the last one, it stands still.
    """

    speed: float | None = None
    from_ns: int | None = None
    _at_ns: int = 0
    """When the last step was due."""
    _next_ns: int = 0
    """When the step is due that is being waited for."""
    _first_ns: int | None = None
    _began: float = 0.0

    async def wait(self, step: RecordedStep) -> None:
        """Wait until this step is due."""
        self._next_ns = step.at_ns
        if self.speed is not None and (self.from_ns is None or step.at_ns >= self.from_ns):
            if self._first_ns is None:
                self._first_ns, self._began = step.at_ns, trio.current_time()
            due = self._began + (step.at_ns - self._first_ns) / NS / self.speed
            await trio.sleep_until(due)
        self._at_ns = step.at_ns

    def __call__(self) -> int:
        """Return Unix nanoseconds in the recording."""
        if self.speed is None or self._first_ns is None:
            return self._at_ns
        passed = (trio.current_time() - self._began) * self.speed
        return max(self._at_ns, min(self._first_ns + round(passed * NS), self._next_ns))
