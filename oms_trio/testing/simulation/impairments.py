"""What is impaired for the service, and since when nothing is: bounds in time count from there.

"Reconciled within a minute" can only be required while the exchange answers. Every fault states what
it impairs and for how long, and the invariants ask here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum

import attrs
import trio


class Impairment(Enum):
    """What does not work, or works late."""

    LINK = "link"
    """Sessions cannot be opened, end, or deliver late or not at all."""
    REST = "rest"
    """REST calls get no answer, a late one, or an outdated one."""
    PUSHES = "pushes"
    """Changes on the account are pushed late or never."""
    ORDERS = "orders"
    """The exchange rejects orders, or answers with an unknown outcome."""
    BROKER = "broker"
    DISK = "disk"
    PROCESS = "process"
    """The service is down or frozen, or was a moment ago."""
    CLOCK = "clock"


REACH = frozenset({Impairment.LINK, Impairment.REST, Impairment.DISK, Impairment.PROCESS})
"""What the service needs in order to know what the exchange holds, and to act on it."""


@attrs.define(eq=False)
class Impairments:
    """The impairments of a run: which are active, and until when each last was (virtual time)."""

    _active: Counter[Impairment] = attrs.Factory(Counter)
    _ended: dict[Impairment, float] = attrs.Factory(dict)

    @contextmanager
    def during(self, kinds: Iterable[Impairment], after_s: float = 0.0) -> Iterator[None]:
        """Mark these kinds as impaired during the block and for ``after_s`` longer."""
        kinds = tuple(kinds)
        self._active.update(kinds)
        try:
            yield
        finally:
            self._active.subtract(kinds)
            for kind in kinds:
                self.note(kind, after_s)

    def note(self, kind: Impairment, after_s: float = 0.0) -> None:
        """Mark a kind as impaired from now on for ``after_s``."""
        until = trio.current_time() + after_s
        self._ended[kind] = max(self._ended.get(kind, until), until)

    def unimpaired_since(self, kinds: Iterable[Impairment]) -> float:
        """Return since when none of these kinds is impaired; infinity while one is."""
        since = 0.0
        for kind in kinds:
            if self._active[kind]:
                return float("inf")
            since = max(since, self._ended.get(kind, 0.0))
        return since

    def unimpaired_for(self, kinds: Iterable[Impairment], since: float = 0.0) -> float:
        """Return for how many seconds none has been impaired, counted from ``since`` at the earliest."""
        return trio.current_time() - max(self.unimpaired_since(kinds), since)

    async def wait_unimpaired(self, kinds: Iterable[Impairment], lasting_s: float) -> None:
        """Wait until none of these kinds has been impaired for ``lasting_s`` from now on."""
        kinds, began = tuple(kinds), trio.current_time()
        while (left := lasting_s - self.unimpaired_for(kinds, began)) > 0:  # noqa: ASYNC110 - see below
            # Until that may be so: what begins or ends meanwhile only postpones it.
            await trio.sleep(min(max(left, 0.5), lasting_s))
