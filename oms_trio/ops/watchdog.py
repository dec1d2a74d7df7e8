"""The watchdog: keep-alives for systemd, sent by the task that must not be stuck."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from oms_trio.core.effects import Effect
from oms_trio.core.state import TradeState
from oms_trio.ops.systemd import Notifier
from oms_trio.service.journaled_inputs import JournaledInput, Kind


@attrs.define
class Watchdog:
    """An observer that sends a keep-alive when a tick has gone through the trade-state task.

    A keep-alive from a task of its own would prove that the event loop runs, not that trading does.
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
            self._due = now + self.notifier.keep_alive_s
            self.notifier.notify("WATCHDOG=1")
