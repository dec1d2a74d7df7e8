"""Whether actions are taken from the queue, and why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
import trio

log = structlog.get_logger()

ROW: Final = "row"
"""Who keeps the gate closed while a row of ours cannot be read."""


class Gate:
    """Closed while anybody has a reason; at first the state of trading has one.

    ``consume`` tells the broker. Changes are logged, since a closed gate is what an operator
    asks about first.
    """

    def __init__(self, consume: Callable[[bool], None]) -> None:
        self._consume = consume
        self._reasons = {"state": "starting"}
        self.opened = trio.Event()
        """Set when the gate opens for the first time: the service is ready."""

    def __repr__(self) -> str:
        return f"<Gate {self._reasons or 'open'}>"

    @property
    def reasons(self) -> dict[str, str]:
        """Who keeps the gate closed, and why; empty while it is open."""
        return dict(self._reasons)

    def close(self, who: str, why: str) -> None:
        """Stop taking actions for ``who``'s reason."""
        if self._reasons.get(who) == why:
            return
        was_open = not self._reasons
        self._reasons[who] = why
        if was_open:
            self._consume(False)
            log.warning("actions_stopped", who=who, why=why)
        else:
            log.info("actions_still_stopped", who=who, why=why)

    def open(self, who: str) -> None:
        """Take back ``who``'s reason."""
        if self._reasons.pop(who, None) is None or self._reasons:
            return
        self._consume(True)
        self.opened.set()
        log.info("actions_taken", since=who)
