"""The numbers that the exchange assigns."""

from __future__ import annotations

from random import Random

import attrs


@attrs.define
class IdGenerator:
    """Increasing numbers: 19-digit ids, and trade ids, which all traders of the instrument share."""

    rng: Random
    _id: int = 3967288020668928111
    _trade_id: int = 1640211900

    def next_id(self) -> str:
        """Return the next order, bill or position id."""
        self._id += self.rng.randint(1, 1 << 24)
        return str(self._id)

    def next_trade_id(self) -> int:
        """Return the next trade id; there are gaps, as if others had traded in between."""
        self._trade_id += self.rng.randint(1, 40)
        return self._trade_id
