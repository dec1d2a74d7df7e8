"""An independent, naive reading of the trading rules, to hold the service against.

It knows nothing of pushes, gaps or reconciliation: it takes the exchange's own fills in the order
of execution and says which trades they make and which messages an agent must get. Fractions
keep it exact in another way than the service is.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import attrs

Message = tuple[str, str, tuple[tuple[str, float], ...], float]
"""("execution" or "closure", okx id, portions, reward); the last two are empty in an execution."""


@attrs.frozen
class TrueFill:
    """One match as the exchange logged it; ``sign`` is +1 for a buy."""

    ord_id: str
    sign: int
    volume: Fraction
    sz: Fraction
    px: Fraction


@attrs.define
class Oracle:
    """Replays fills (and drawdowns) one by one."""

    multiplier: Fraction
    messages: list[Message] = attrs.Factory(list)
    position: Fraction = Fraction(0)
    _entry: Fraction = Fraction(0)
    _gain: Fraction = Fraction(0)
    _drawdown: float = 0.0
    _parts: dict[str, Fraction] = attrs.Factory(dict)
    _filled: dict[str, Fraction] = attrs.Factory(dict)
    _volumes: dict[str, Fraction] = attrs.Factory(dict)

    def drawdown(self, upl_ratio: float) -> None:
        """A position push while the trade is open."""
        if self.position:
            self._drawdown = min(self._drawdown, upl_ratio)

    def fill(self, fill: TrueFill) -> None:
        """Take the next match."""
        before = self._filled.get(fill.ord_id, Fraction(0))
        self._filled[fill.ord_id] = before + fill.sz
        self._volumes[fill.ord_id] = fill.volume
        completes = before > 0 and before + fill.sz == fill.volume
        left = fill.sz
        if self.position:
            quiet = completes and fill.ord_id in self._parts
            direction = 1 if self.position > 0 else -1
            if direction == fill.sign:
                self._grow(fill, left)
                left = Fraction(0)
            else:
                part = min(left, abs(self.position))
                self._gain += direction * (fill.px - self._entry) * part * self.multiplier
                self.position += fill.sign * part
                self._parts[fill.ord_id] = self._parts.get(fill.ord_id, Fraction(0)) + part
                left -= part
            if not quiet:
                self.messages.append(("execution", fill.ord_id, (), 0.0))
            if not self.position:
                self._close(fill.ord_id)
        if left:
            self._grow(fill, left)
            self.messages.append(("execution", fill.ord_id, (), 0.0))

    def _grow(self, fill: TrueFill, sz: Fraction) -> None:
        size = abs(self.position)
        self._entry = (self._entry * size + fill.px * sz) / (size + sz)
        self.position += fill.sign * sz
        self._parts[fill.ord_id] = self._parts.get(fill.ord_id, Fraction(0)) + sz

    def _close(self, ord_id: str) -> None:
        gain = float(self._gain)
        weight = 2 * abs(self._drawdown)
        reward = gain * (1 - weight) if gain > 0 else gain * (1 + weight) if gain < 0 else 0.0
        portions = tuple(
            (name, float(sz / self._volumes[name])) for name, sz in self._parts.items()
        )
        self.messages.append(("closure", ord_id, portions, reward))
        self._entry, self._gain, self._drawdown = Fraction(0), Fraction(0), 0.0
        self._parts = {}


def expected(fills: Iterable[TrueFill], multiplier: str = "0.01") -> Oracle:
    """Replay whole logs of fills without drawdowns."""
    oracle = Oracle(Fraction(multiplier))
    for fill in fills:
        oracle.fill(fill)
    return oracle
