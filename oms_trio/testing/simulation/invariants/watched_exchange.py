"""Parts of the simulated exchange that report to the monitor as they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from oms_trio.testing.okx_server.ground_truth import Truth
from oms_trio.testing.okx_server.rate_limits import Limits, Quota
from oms_trio.testing.okx_server.values import Fill, Order

JITTER_MS: Final = 50
"""Requests that leave one window apart may arrive by this much closer to each other."""


@attrs.define(eq=False)
class WatchedGroundTruth(Truth):
    """The exchange's own log, which reports each change before anything else follows from it."""

    on_change: Callable[[Order, Fill | None], object] | None = None

    def record(self, order: Order, fill: Fill | None) -> None:
        """See ``Truth.record``."""
        super().record(order, fill)
        if self.on_change is not None:
            self.on_change(order, fill)


@attrs.define
class WatchedLimits(Limits):
    """The exchange's rate limits, which report a request that came too fast."""

    on_rejected: Callable[[str], object] | None = None

    def admit(self, key: str, quota: Quota, now_ms: int, weight: int = 1) -> bool:
        """See ``Limits.admit``."""
        admitted = super().admit(key, quota, now_ms, weight)
        if not admitted and self.on_rejected is not None:
            since_ms = now_ms - quota.window_ms + JITTER_MS
            recent = sum(stamp > since_ms for stamp in self._taken[key])
            if recent + weight > quota.count:
                self.on_rejected(key)
        return admitted
