"""The dead man's switch: timers, one a tag, that end orders unless they are restarted in time."""

from __future__ import annotations

import attrs

from oms_trio.testing.okx_server.orders.admission import TAG, Refused

MAX_TIMERS = 20


@attrs.define
class DeadMansSwitch:
    """When each tag's orders end, in Unix milliseconds; the empty tag means all orders."""

    _due_ms: dict[str, int] = attrs.field(factory=dict, init=False)

    def arm(self, timeout_s: int, tag: str, now_ms: int) -> int:
        """Start or restart a timer; 0 disarms. Returns when it goes off, 0 for never.

        Raises:
            Refused: 51000 for a time out of range or a bad tag, 51071 above 20 tags.
        """
        if not TAG.match(tag) or (timeout_s and not 10 <= timeout_s <= 120):
            raise Refused("51000", "Parameter timeOut error")
        self._due_ms.pop(tag, None)
        if not timeout_s:
            return 0
        if len(self._due_ms) >= MAX_TIMERS:
            raise Refused("51071", "Too many tags with a cancel-all-after timer.")
        self._due_ms[tag] = now_ms + timeout_s * 1000
        return self._due_ms[tag]

    def gone_off(self, now_ms: int) -> list[str]:
        """Take the tags whose time is over."""
        tags = [tag for tag, due_ms in self._due_ms.items() if now_ms >= due_ms]
        for tag in tags:
            del self._due_ms[tag]
        return tags
