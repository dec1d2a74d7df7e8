"""Rate limits: how many requests of one kind are admitted within a sliding window."""

from __future__ import annotations

from collections import deque

import attrs


@attrs.frozen
class Quota:
    """At most ``count`` requests in any ``window_ms`` milliseconds."""

    count: int
    window_ms: int = 2000


@attrs.define
class RateLimits:
    """Counters by key, shared by REST and WebSocket.

    A counter holds at most its quota's number of times: rejected requests are not counted.
    """

    _admitted: dict[str, deque[int]] = attrs.field(factory=dict, init=False)

    def admit(self, key: str, quota: Quota, now_ms: int, weight: int = 1) -> bool:
        """Count ``weight`` requests under ``key``; return False, without counting, beyond the quota."""
        times = self._admitted.setdefault(key, deque())
        while times and now_ms - times[0] >= quota.window_ms:
            times.popleft()
        if len(times) + weight > quota.count:
            return False
        times.extend([now_ms] * weight)
        return True
