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
"""How often it is looked whether the state is true again; the exchange allows one call a second."""

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


@attrs.frozen(kw_only=True)
class Countdown:
    """What is armed, where, and while what is true."""

    rest: Rest
    gate: Gate
    timeout_s: int
    tag: str


async def keep_armed(switch: DeadMan, countdown: Countdown, stop: trio.Event) -> None:
    """Restart the countdown while the state is true; disarm and return after ``stop``.

    While there is no session, or the state is not reconciled, the countdown runs on: that is what
    it is for. After a crash nobody disarms it either.
    """
    due = 0.0
    while not stop.is_set():
        now = trio.current_time()
        if "state" not in countdown.gate.reasons and now >= due:
            armed = await _tell(switch, countdown, countdown.timeout_s)
            due = now + (countdown.timeout_s / REFRESHES if armed else LOOK_S)
        with trio.move_on_after(LOOK_S):
            await stop.wait()
    # The end of the service cancels this task; orders that were to stay must stay nevertheless.
    with trio.move_on_after(DISARM_S, shield=True):
        while not await _tell(switch, countdown, 0):  # noqa: ASYNC110 - the exchange sends no event
            await trio.sleep(DISARM_AGAIN_S)


async def _tell(switch: DeadMan, countdown: Countdown, timeout_s: int) -> bool:
    began = trio.current_time()
    try:
        with trio.fail_after(countdown.timeout_s / REFRESHES):
            await countdown.rest.cancel_all_after(timeout_s, countdown.tag)
    except (OkxError, trio.TooSlowError) as error:
        log.warning(
            "dead_man_refresh_failed", timeout_s=timeout_s, why=str(error) or "no answer in time"
        )
        return False
    if switch.due is None or not timeout_s:
        log.info("dead_man_armed" if timeout_s else "dead_man_disarmed", timeout_s=timeout_s)
    switch.due = began + timeout_s if timeout_s else None
    return True
