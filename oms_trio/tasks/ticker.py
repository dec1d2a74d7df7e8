"""Sends ticks to the trading state: often while something is due soon, else now and then."""

from __future__ import annotations

import attrs
import trio

from oms_trio.core.effects import Effect
from oms_trio.core.state import TradeState
from oms_trio.service.channels import Inbox
from oms_trio.service.journaled_inputs import TICK, JournaledInput
from oms_trio.settings.clock import NS, Clock

SOON_S = 0.25
"""Ages and retries are judged this often; the shortest of their times is half a second."""

QUIET_S = 1.0
"""Nothing is due: a tick only proves that inbox and trade-state task work (the watchdog counts them)."""


@attrs.define
class Ticker:
    """Ticks as often as the state needs it.

    Most of the time nothing is due for long, and then a process that wakes up four times a second
    does so for nothing. An input that has an effect ends the quiet at once: ``observe`` sees it.
    """

    inbox: Inbox
    state: TradeState
    clock: Clock
    quiet_s: float = QUIET_S
    _has_effect: trio.Event = attrs.Factory(trio.Event)

    def observe(
        self, _journaled: JournaledInput, effects: tuple[Effect, ...], _state: TradeState
    ) -> None:
        """See ``tasks.trade_state.Observer``."""
        if effects:
            self._has_effect.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._has_effect = trio.Event()
            await self.inbox.send(TICK)
            await trio.sleep(SOON_S)
            with trio.move_on_after(self._quiet_for_s() - SOON_S):
                await self._has_effect.wait()

    def _quiet_for_s(self) -> float:
        quiet_s, now_ns = self.quiet_s, self.clock()
        while quiet_s > SOON_S and not self.state.quiet_until(now_ns + round(quiet_s * NS)):
            quiet_s /= 2
        return max(quiet_s, SOON_S)
