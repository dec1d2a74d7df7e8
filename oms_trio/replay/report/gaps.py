"""Gaps: times in which no actions were taken, and why."""

from __future__ import annotations

import attrs

from oms_trio.core.effects import Readiness
from oms_trio.core.events import SessionDown, Started
from oms_trio.replay.recordings.recording import PlayedStep


@attrs.frozen
class Gap:
    """A time in which no actions were taken; ``until_ns`` is None when it has not ended."""

    from_ns: int
    until_ns: int | None
    why: str


GAPS_KEPT = 1_000


@attrs.define
class GapTracker:
    """Follows the times from a lost session, or a start, until the service was ready again."""

    ended: list[Gap] = attrs.Factory(list)
    count: int = 0
    total_ns: int = 0
    longest_ns: int = 0
    since_ns: int | None = None
    why: str = ""

    def __call__(self, played: PlayedStep) -> None:
        """See ``Watcher``."""
        for event in played.step.journaled_input.events:
            if isinstance(event, SessionDown | Started) and self.since_ns is None:
                self.since_ns = played.step.at_ns
                self.why = event.why if isinstance(event, SessionDown) else "start"
        if any(isinstance(effect, Readiness) and effect.ready for effect in played.effects):
            self._end(played.step.at_ns)

    def _end(self, at_ns: int) -> None:
        if self.since_ns is None:
            return
        lasted = at_ns - self.since_ns
        self.count += 1
        self.total_ns += lasted
        self.longest_ns = max(self.longest_ns, lasted)
        if len(self.ended) < GAPS_KEPT:
            self.ended.append(Gap(self.since_ns, at_ns, self.why))
        self.since_ns = None

    def all(self) -> list[Gap]:
        """Return the gaps, also one that has not ended."""
        current = [] if self.since_ns is None else [Gap(self.since_ns, None, self.why)]
        return self.ended + current
