"""How fast a recording is played, and what time it is in it."""

from __future__ import annotations

import attrs
import trio

from oms_trio.replay.recordings.model import Step
from oms_trio.settings.clock import NS


@attrs.define
class Pace:
    """Waits until a step is due; as a clock (see ``clock.Clock``) it tells the recording's time.

    ``speed`` 1 takes as long as the recording did, 10 a tenth of it; None does not wait at all.
    What comes before ``from_ns`` only leads there, and is not waited for either. Between two steps
    time goes on at that speed, so that ages grow; while a step is taken, and behind the last one,
    it stands.
    """

    speed: float | None = None
    from_ns: int | None = None
    _at_ns: int = 0
    """When the last step was taken, and, from the next call on, when the next one is."""
    _next_ns: int = 0
    _first_ns: int | None = None
    _began: float = 0.0

    async def wait(self, step: Step) -> None:
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
