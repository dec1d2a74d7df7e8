"""What hampers the service, and since when nothing does: bounds in time count from there.

"Reconciled within a minute" is only owed while the exchange answers; every fault says what it
keeps from working, for how long, and monitors ask here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum

import attrs
import trio


class Trouble(Enum):
    """What does not work, or works late."""

    LINK = "link"
    """Sessions cannot be made, end, or carry things late or not at all."""
    REST = "rest"
    """Questions get no answer, a late one, or one about the past."""
    PUSHES = "pushes"
    """What happens on the account is told late or never."""
    ORDERS = "orders"
    """The exchange refuses orders, or answers so that nobody knows."""
    BROKER = "broker"
    DISK = "disk"
    PROCESS = "process"
    """The service is down, frozen, or has just been."""
    CLOCK = "clock"


REACH = frozenset({Trouble.LINK, Trouble.REST, Trouble.DISK, Trouble.PROCESS})
"""What the service needs to know what the exchange holds, and to act on it."""


@attrs.define(eq=False)
class Troubles:
    """The troubles of a run: which are on, and when each was on last (virtual time)."""

    _on: Counter[Trouble] = attrs.Factory(Counter)
    _ended: dict[Trouble, float] = attrs.Factory(dict)

    @contextmanager
    def during(self, kinds: Iterable[Trouble], after_s: float = 0.0) -> Iterator[None]:
        """Note that these kinds of trouble are on during the block, and ``after_s`` longer."""
        kinds = tuple(kinds)
        self._on.update(kinds)
        try:
            yield
        finally:
            self._on.subtract(kinds)
            for kind in kinds:
                self.note(kind, after_s)

    def note(self, kind: Trouble, after_s: float = 0.0) -> None:
        """Note trouble of this moment, whose effect lasts for ``after_s``."""
        until = trio.current_time() + after_s
        self._ended[kind] = max(self._ended.get(kind, until), until)

    def calm_since(self, kinds: Iterable[Trouble]) -> float:
        """Return since when none of these kinds is on; infinity while one is."""
        since = 0.0
        for kind in kinds:
            if self._on[kind]:
                return float("inf")
            since = max(since, self._ended.get(kind, 0.0))
        return since

    def calm_for(self, kinds: Iterable[Trouble], since: float = 0.0) -> float:
        """Return for how many seconds none has been on, counted from ``since`` at the earliest."""
        return trio.current_time() - max(self.calm_since(kinds), since)

    async def wait_calm(self, kinds: Iterable[Trouble], lasting_s: float) -> None:
        """Wait until none of these kinds has been on for so long, from now on."""
        kinds, began = tuple(kinds), trio.current_time()
        while (left := lasting_s - self.calm_for(kinds, began)) > 0:  # noqa: ASYNC110 - see below
            # Until it may be over: what begins or ends meanwhile only moves that moment.
            await trio.sleep(min(max(left, 0.5), lasting_s))
