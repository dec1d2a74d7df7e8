"""Keeps the exchange's cancel-all-after armed: without us, our resting orders end by themselves."""

from __future__ import annotations

import attrs
import structlog
import trio

from oms_trio.okx.errors import OkxError
from oms_trio.okx.rest import Rest
from oms_trio.service.intake_gate import Gate

log = structlog.get_logger()

REFRESHES = 3
"""How often the countdown is restarted in its time: one refresh may fail."""

LOOK_S = 1.0
"""How often it is checked whether the state is in sync again; the exchange allows one call a second."""

DISARM_S = 3.0
"""A stop takes about as long at most; its first try may come too soon after the last refresh."""

DISARM_AGAIN_S = 0.4


@attrs.define
class DeadMan:
    """When the exchange will act, on our monotonic clock; None while it is not armed by us."""

    due: float | None = None

    def left_s(self) -> float | None:
        """Seconds until the exchange cancels our orders."""
        return None if self.due is None else round(max(self.due - trio.current_time(), 0.0), 1)


async def keep_armed(
    switch: DeadMan, *, rest: Rest, gate: Gate, timeout_s: int, tag: str, stop: trio.Event
) -> None:
    """Restart the countdown while the state is in sync; disarm and return after ``stop``.

    When it ends, the exchange cancels the orders that carry ``tag``. While there is no session, or
    the state is not reconciled, the countdown runs on: that is what it is for. After a crash nobody
    disarms it either.
    """

    async def set_countdown(seconds: int) -> bool:
        """Start the countdown, or end it with 0; returns whether the exchange has confirmed it."""
        began = trio.current_time()
        try:
            with trio.fail_after(timeout_s / REFRESHES):
                await rest.cancel_all_after(seconds, tag)
        except (OkxError, trio.TooSlowError) as error:
            why = str(error) or "no answer in time"
            log.warning("dead_man_refresh_failed", timeout_s=seconds, why=why)
            return False
        if switch.due is None or not seconds:
            log.info("dead_man_armed" if seconds else "dead_man_disarmed", timeout_s=seconds)
        switch.due = began + seconds if seconds else None
        return True

    due = 0.0
    while not stop.is_set():
        now = trio.current_time()
        if "state" not in gate.reasons and now >= due:
            armed = await set_countdown(timeout_s)
            due = now + (timeout_s / REFRESHES if armed else LOOK_S)
        with trio.move_on_after(LOOK_S):
            await stop.wait()
    # The end of the service cancels this task; orders that were to stay must stay nevertheless.
    with trio.move_on_after(DISARM_S, shield=True):
        while not await set_countdown(0):  # noqa: ASYNC110 - the exchange sends no event
            await trio.sleep(DISARM_AGAIN_S)
