"""The exchange's rate limits: how many requests of one kind fit into a sliding window."""

from __future__ import annotations

from collections import deque

import attrs


@attrs.frozen
class Quota:
    """At most ``count`` in any ``window_ms``."""

    count: int
    window_ms: int = 2000


@attrs.define
class Limits:
    """Counters shared by REST and WebSocket, by whatever key the caller counts under.

    Each counter holds at most its quota's number of stamps: what is refused is not counted.
    """

    _taken: dict[str, deque[int]] = attrs.field(factory=dict, init=False)

    def admit(self, key: str, quota: Quota, now_ms: int, weight: int = 1) -> bool:
        """Count ``weight`` requests under ``key``; False, counting none, beyond the quota."""
        stamps = self._taken.setdefault(key, deque())
        while stamps and now_ms - stamps[0] >= quota.window_ms:
            stamps.popleft()
        if len(stamps) + weight > quota.count:
            return False
        stamps.extend([now_ms] * weight)
        return True
