"""Position tiers: how large a position each leverage allows.

The first tier is the exchange's. The others have the form of its table but other values, because
the exchange changes them at any time: a client has to query ``position-tiers``.
"""

from __future__ import annotations

from decimal import Decimal

import attrs


@attrs.frozen
class Tier:
    """One row: positions above ``min_sz`` and up to ``max_sz`` contracts."""

    number: int
    min_sz: Decimal
    max_sz: Decimal
    mmr: Decimal
    max_lever: Decimal

    @property
    def imr(self) -> Decimal:
        """The initial margin rate."""
        return 1 / self.max_lever


TIERS = (
    Tier(1, Decimal(0), Decimal(1_000), Decimal("0.004"), Decimal(100)),
    Tier(2, Decimal(1_000), Decimal(5_000), Decimal("0.005"), Decimal(80)),
    Tier(3, Decimal(5_000), Decimal(20_000), Decimal("0.01"), Decimal(50)),
    Tier(4, Decimal(20_000), Decimal(60_000), Decimal("0.02"), Decimal(25)),
    Tier(5, Decimal(60_000), Decimal(200_000), Decimal("0.05"), Decimal(10)),
    Tier(6, Decimal(200_000), Decimal(1_000_000), Decimal("0.25"), Decimal(2)),
    Tier(7, Decimal(1_000_000), Decimal(5_000_000), Decimal("0.5"), Decimal(1)),
)


def tier_of(pos: Decimal) -> Tier:
    """Return the tier of a position of this many contracts, whatever its sign."""
    return next((tier for tier in TIERS if abs(pos) <= tier.max_sz), TIERS[-1])


def liquidated_sz(pos: Decimal) -> Decimal:
    """Return how many contracts one liquidation closes.

    A position of the first two tiers is closed whole; a larger one is first reduced by two tiers.
    """
    number = tier_of(pos).number
    return abs(pos) if number <= 2 else abs(pos) - TIERS[number - 3].max_sz


def largest_pos(lever: Decimal) -> Decimal:
    """Return the contracts that may be held at this leverage."""
    return max(tier.max_sz for tier in TIERS if tier.max_lever >= lever)
