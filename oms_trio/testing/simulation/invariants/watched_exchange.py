"""Parts of the simulated exchange that report to the monitor as they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from oms_trio.testing.okx_server.ground_truth import GroundTruth
from oms_trio.testing.okx_server.rate_limits import Quota, RateLimits
from oms_trio.testing.okx_server.values import ExchangeFill, ExchangeOrder

JITTER_MS: Final = 50
"""Requests that leave one window apart may arrive by this much closer to each other."""


@attrs.define(eq=False)
class WatchedGroundTruth(GroundTruth):
    """The exchange's own log, which reports each change before anything else follows from it."""

    on_change: Callable[[ExchangeOrder, ExchangeFill | None], object] | None = None

    def record(self, order: ExchangeOrder, fill: ExchangeFill | None) -> None:
        """See ``GroundTruth.record``."""
        super().record(order, fill)
        if self.on_change is not None:
            self.on_change(order, fill)


@attrs.define
class WatchedLimits(RateLimits):
    """The exchange's rate limits, which report a request that came too fast."""

    on_rejected: Callable[[str], object] | None = None

    def admit(self, key: str, quota: Quota, now_ms: int, weight: int = 1) -> bool:
        """See ``RateLimits.admit``."""
        admitted = super().admit(key, quota, now_ms, weight)
        if not admitted and self.on_rejected is not None:
            since_ms = now_ms - quota.window_ms + JITTER_MS
            recent = sum(stamp > since_ms for stamp in self._admitted[key])
            if recent + weight > quota.count:
                self.on_rejected(key)
        return admitted
