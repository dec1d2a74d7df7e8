"""``cancel-all-after``: a timer per tag that cancels its orders unless it is restarted in time."""

from __future__ import annotations

import attrs

from oms_trio.testing.okx_server.orders.request_checks import TAG, RequestRejected

MAX_TIMERS = 20


@attrs.define
class CancelAllAfterTimers:
    """When each tag's orders are cancelled, in Unix milliseconds; tag "" stands for all orders."""

    _due_ms: dict[str, int] = attrs.field(factory=dict, init=False)

    def arm(self, timeout_s: int, tag: str, now_ms: int) -> int:
        """Start or restart a timer; 0 stops it. Return when it expires, 0 for never.

        Raises:
            RequestRejected: 51000 for a timeout out of range or an invalid tag, 51071 above 20 tags.
        """
        if not TAG.match(tag) or (timeout_s and not 10 <= timeout_s <= 120):
            raise RequestRejected("51000", "Parameter timeOut error")
        self._due_ms.pop(tag, None)
        if not timeout_s:
            return 0
        if len(self._due_ms) >= MAX_TIMERS:
            raise RequestRejected("51071", "Too many tags with a cancel-all-after timer.")
        self._due_ms[tag] = now_ms + timeout_s * 1000
        return self._due_ms[tag]

    def pop_expired(self, now_ms: int) -> list[str]:
        """Remove and return the tags whose timers have expired."""
        tags = [tag for tag, due_ms in self._due_ms.items() if now_ms >= due_ms]
        for tag in tags:
            del self._due_ms[tag]
        return tags
