"""What this release cannot do yet, and a run therefore does not ask of it."""

from __future__ import annotations

from typing import Final

STRIKES: Final = frozenset(
    {
        "traded by hand, kept",
        "deleveraged",
        "liquidated",
        "liquidated in part",
        "operator adopts",
    }
)
"""Faults that are drawn in no run."""

EXPIRED_TOLD: Final = False
"""Whether an agent is told of an action that expired in the queue."""

CAUSES_TOLD: Final = False
"""Whether messages say who or what is behind them."""
