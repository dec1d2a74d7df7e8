"""Whether actions are taken from the queue, and why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
import trio

log = structlog.get_logger()

ROW: Final = "row"
"""The part that keeps the gate closed while a row of ours cannot be read."""


class Gate:
    """Closed while there is a reason; at first the trading state has one.

    ``consume`` starts or stops the broker's deliveries. Changes are logged, since a closed gate is
    what an operator looks for first.
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
        """The reasons, by the part that has one; empty while the gate is open."""
        return dict(self._reasons)

    def close(self, part: str, why: str) -> None:
        """Stop taking actions for the reason of a part."""
        if self._reasons.get(part) == why:
            return
        was_open = not self._reasons
        self._reasons[part] = why
        if was_open:
            self._consume(False)
            log.warning("actions_stopped", part=part, why=why)
        else:
            log.info("actions_still_stopped", part=part, why=why)

    def open(self, part: str) -> None:
        """Remove the reason of a part."""
        if self._reasons.pop(part, None) is None or self._reasons:
            return
        self._consume(True)
        self.opened.set()
        log.info("actions_taken", since=part)
