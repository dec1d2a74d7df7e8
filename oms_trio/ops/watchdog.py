"""The watchdog's beat, given by the task that must not be stuck: the writer of trading state."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from oms_trio.core.effects import Effect
from oms_trio.core.state import TradeState
from oms_trio.ops.systemd import Notifier
from oms_trio.service.journaled_inputs import JournaledInput, Kind


@attrs.define
class Pulse:
    """An observer that beats when a tick has gone through inbox and writer.

    A beat from a task of its own would prove that the event loop turns, not that trading does.
    """

    notifier: Notifier
    monotonic: Callable[[], float] = time.monotonic
    _due: float = 0.0

    def observe(
        self, arrival: JournaledInput, _effects: tuple[Effect, ...], _state: TradeState
    ) -> None:
        """See ``tasks.trade_state.Observer``."""
        if self.notifier.watchdog_s is None or arrival.kind is not Kind.TICK:
            return
        now = self.monotonic()
        if now >= self._due:
            self._due = now + self.notifier.beat_s
            self.notifier.tell("WATCHDOG=1")
