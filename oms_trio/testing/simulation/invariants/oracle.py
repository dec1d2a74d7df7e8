"""An independent, naive reading of the trading rules, to hold the service against.

It knows nothing of pushes, gaps or reconciliation: it takes the exchange's own fills in the order
of execution and says which trades they make and which messages an agent must get. Fractions
keep it exact in another way than the service is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import attrs

ZERO = Fraction(0)


@attrs.frozen
class TrueFill:
    """One match as the exchange logged it; ``sign`` is +1 for a buy.

    ``state_id`` is that of the action behind the order, None when there is none. ``fee`` is below
    0 when charged, and so is ``penalty``, what a liquidation takes beside it. ``multiplier`` is BTC
    per contract.
    """

    ord_id: str
    sign: int
    volume: Fraction
    sz: Fraction
    px: Fraction
    state_id: int | None = 0
    cause: str = "agent"
    fee: Fraction = ZERO
    penalty: Fraction = ZERO
    multiplier: Fraction = Fraction("0.01")
    at: float = 0.0


Message = tuple[str, str, tuple[tuple[str, float], ...], float]
"""("execution" or "closure", okx id, portions, reward); the last two are empty in an execution."""


@attrs.frozen
class Due:
    """What the agent must get; ``portions`` and ``gains`` are of a closure (``trade`` its number).

    ``gains`` is what the trade has brought in the reward's unit, without its drawdown; several where
    the exchange does not tell the service for certain, or in time.
    """

    kind: str
    ord_id: str
    state_id: int
    cause: str = "agent"
    portions: tuple[tuple[str, float], ...] = ()
    gains: tuple[float, ...] = ()
    trade: int = 0

    @property
    def message(self) -> Message:
        """What is owed in short, the first of the gains for a reward."""
        return self.kind, self.ord_id, self.portions, self.gains[0] if self.gains else 0.0


@attrs.define
class Trade:
    """What lies between two moments of being flat."""

    entry: Fraction = ZERO
    pnl: Fraction = ZERO
    penalty: Fraction = ZERO
    reduced: Fraction = ZERO
    """The value at entry of all that was reduced."""
    fees: Fraction = ZERO
    funding: list[tuple[float, Fraction]] = attrs.Factory(list)
    parts: dict[str, Fraction] = attrs.Factory(dict)
    state_id: int | None = None
    """Of the first order in it that an action stands behind."""


@attrs.define
class Oracle:
    """Replays fills and funding one by one.

    ``unit`` is ``usdt``, ``return`` or ``roe``.
    """

    unit: str = "usdt"
    net: bool = False
    leverage: int = 100
    due: list[Due] = attrs.Factory(list)
    position: Fraction = ZERO
    closed: int = 0
    """How many trades are over."""
    _trade: Trade = attrs.Factory(Trade)
    _filled: dict[str, Fraction] = attrs.Factory(dict)
    _volumes: dict[str, Fraction] = attrs.Factory(dict)

    @property
    def messages(self) -> list[Message]:
        """All that is owed so far, in short."""
        return [due.message for due in self.due]

    def fund(self, amount: Fraction, known_at: float) -> None:
        """Take a settlement of funding (below 0 is paid), and when it must be known at the latest."""
        if self.position:
            self._trade.funding.append((known_at, amount))

    def fill(self, fill: TrueFill) -> None:
        """Take the next match."""
        before = self._filled.get(fill.ord_id, ZERO)
        self._filled[fill.ord_id] = before + fill.sz
        self._volumes[fill.ord_id] = fill.volume
        completes = before > 0 and before + fill.sz == fill.volume
        left = fill.sz
        if self.position:
            quiet = completes and fill.ord_id in self._trade.parts
            direction = 1 if self.position > 0 else -1
            if direction == fill.sign:
                self._grow(fill, left)
                left = ZERO
            else:
                part = min(left, abs(self.position))
                self._reduce(fill, part, direction)
                left -= part
            if not quiet:
                self._execution(fill)
            if not self.position:
                self._close(fill)
        if left:
            self._grow(fill, left)
            self._execution(fill)

    def _execution(self, fill: TrueFill) -> None:
        if fill.cause == "agent" and fill.state_id is not None:
            self.due.append(Due("execution", fill.ord_id, fill.state_id))

    def _grow(self, fill: TrueFill, sz: Fraction) -> None:
        size, trade = abs(self.position), self._trade
        trade.entry = (trade.entry * size + fill.px * sz) / (size + sz)
        self.position += fill.sign * sz
        self._take_part(fill, sz)

    def _reduce(self, fill: TrueFill, sz: Fraction, direction: int) -> None:
        trade = self._trade
        trade.pnl += direction * (fill.px - trade.entry) * sz * fill.multiplier
        trade.reduced += trade.entry * sz * fill.multiplier
        trade.penalty += fill.penalty
        self.position += fill.sign * sz
        self._take_part(fill, sz)

    def _take_part(self, fill: TrueFill, sz: Fraction) -> None:
        trade = self._trade
        trade.parts[fill.ord_id] = trade.parts.get(fill.ord_id, ZERO) + sz
        trade.fees += fill.fee * sz / fill.sz
        if trade.state_id is None and fill.cause == "agent":
            trade.state_id = fill.state_id

    def _close(self, fill: TrueFill) -> None:
        trade, self._trade = self._trade, Trade()
        state_id = fill.state_id if fill.cause == "agent" else trade.state_id
        if state_id is not None:
            portions = tuple(
                (name, float(sz / self._volumes[name])) for name, sz in trade.parts.items()
            )
            gains = tuple(dict.fromkeys(self._gains(trade, fill.at)))
            self.due.append(
                Due("closure", fill.ord_id, state_id, fill.cause, portions, gains, self.closed)
            )
        self.closed += 1

    def _gains(self, trade: Trade, now: float) -> Iterator[float]:
        for pnl in (trade.pnl + trade.penalty, trade.pnl):
            for funding in _known(trade.funding, now):
                money = pnl + (trade.fees + funding if self.net else 0)
                if self.unit == "usdt":
                    yield float(money)
                elif self.unit == "return":
                    yield float(money / trade.reduced)
                else:
                    yield float(money / trade.reduced * self.leverage * 100)


def _known(funding: list[tuple[float, Fraction]], by: float) -> Iterator[Fraction]:
    """Give the sums that may be known: of all payments, or without the last ones after a time."""
    known = sum((amount for at, amount in funding if at <= by), ZERO)
    yield known
    for at, amount in funding:
        if at > by:
            known += amount
            yield known


def expected(fills: Iterable[TrueFill]) -> Oracle:
    """Replay whole logs of fills without drawdowns."""
    oracle = Oracle()
    for fill in fills:
        oracle.fill(fill)
    return oracle
