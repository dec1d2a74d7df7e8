"""Times in which no action was taken, and why."""

from __future__ import annotations

import attrs

from oms_trio.core.effects import Readiness
from oms_trio.core.events import SessionDown, Started
from oms_trio.replay.recordings.model import Moment


@attrs.frozen
class Gap:
    """A time without a true state: no action was taken. ``until_ns`` is None when it lasts on."""

    from_ns: int
    until_ns: int | None
    why: str


GAPS_KEPT = 1_000


@attrs.define
class Gaps:
    """Follows the times between a lost link (or a start) and the next readiness."""

    found: list[Gap] = attrs.Factory(list)
    count: int = 0
    total_ns: int = 0
    longest_ns: int = 0
    since_ns: int | None = None
    why: str = ""

    def __call__(self, moment: Moment) -> None:
        """See ``Watcher``."""
        for event in moment.step.arrival.events:
            if isinstance(event, SessionDown | Started) and self.since_ns is None:
                self.since_ns = moment.step.at_ns
                self.why = event.why if isinstance(event, SessionDown) else "start"
        if any(isinstance(effect, Readiness) and effect.ready for effect in moment.effects):
            self._end(moment.step.at_ns)

    def _end(self, at_ns: int) -> None:
        if self.since_ns is None:
            return
        lasted = at_ns - self.since_ns
        self.count += 1
        self.total_ns += lasted
        self.longest_ns = max(self.longest_ns, lasted)
        if len(self.found) < GAPS_KEPT:
            self.found.append(Gap(self.since_ns, at_ns, self.why))
        self.since_ns = None

    def all(self) -> list[Gap]:
        """Return the gaps, the one that lasts on as well."""
        lasting = [] if self.since_ns is None else [Gap(self.since_ns, None, self.why)]
        return self.found + lasting
