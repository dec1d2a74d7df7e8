"""An independent, naive model of the trading rules, to compare the service with.

It knows no pushes, gaps or reconciliation. It takes the exchange's own fills in their true order and
computes which trades they make and which messages the agent must receive. It uses fractions, so that
it is exact in another way than the service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import attrs

ZERO = Fraction(0)


@attrs.frozen
class TrueFill:
    """One fill as the exchange logged it; ``sign`` is +1 for a buy and -1 for a sell.

    ``volume`` is the size of its order. ``state_id`` is that of the action that the order came from,
    None when there is none. ``fee`` is below 0 when charged, and so is ``penalty``, which a
    liquidation charges besides. ``multiplier`` is BTC per contract. ``at`` is virtual time.
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


MessageSummary = tuple[str, str, tuple[tuple[str, float], ...], float]
"""("execution" or "closure", okx id, portions, reward); the last two are empty in an execution."""


@attrs.frozen
class ExpectedMessage:
    """A message that the agent must receive: an execution or a closure.

    ``portions``, ``gains`` and ``trade`` (its number) are those of a closure. ``gains`` is the gain of
    the trade in the reward's unit, before the drawdown is weighed in; there are several where the
    exchange does not report something for certain, or not in time.
    """

    kind: str
    ord_id: str
    state_id: int
    cause: str = "agent"
    portions: tuple[tuple[str, float], ...] = ()
    gains: tuple[float, ...] = ()
    trade: int = 0

    @property
    def summary(self) -> MessageSummary:
        """The message as a tuple, with the first of the gains as its reward."""
        return self.kind, self.ord_id, self.portions, self.gains[0] if self.gains else 0.0


@attrs.define
class OracleTrade:
    """Everything from one time at which the position is 0 to the next."""

    entry: Fraction = ZERO
    pnl: Fraction = ZERO
    penalty: Fraction = ZERO
    reduced: Fraction = ZERO
    """The entry value of everything that was reduced, in USDT."""
    fees: Fraction = ZERO
    funding: list[tuple[float, Fraction]] = attrs.Factory(list)
    """Payments, each with the time from which it must be known."""
    parts: dict[str, Fraction] = attrs.Factory(dict)
    state_id: int | None = None
    """That of the first order in it that came from an action."""


@attrs.define
class Oracle:
    """Takes fills and funding one by one, and collects the messages that follow from them.

    ``unit`` is ``usdt``, ``return`` or ``roe``; with ``net`` fees and funding are included.
    """

    unit: str = "usdt"
    net: bool = False
    leverage: int = 100
    expected: list[ExpectedMessage] = attrs.Factory(list)
    position: Fraction = ZERO
    closed: int = 0
    """How many trades are closed."""
    _trade: OracleTrade = attrs.Factory(OracleTrade)
    _filled: dict[str, Fraction] = attrs.Factory(dict)
    _volumes: dict[str, Fraction] = attrs.Factory(dict)

    @property
    def summaries(self) -> list[MessageSummary]:
        """All messages so far, as tuples."""
        return [one.summary for one in self.expected]

    def fund(self, amount: Fraction, known_at: float) -> None:
        """Take a funding payment (below 0 when we paid), and the time from which it must be known."""
        if self.position:
            self._trade.funding.append((known_at, amount))

    def fill(self, fill: TrueFill) -> None:
        """Take the next fill."""
        before = self._filled.get(fill.ord_id, ZERO)
        self._filled[fill.ord_id] = before + fill.sz
        self._volumes[fill.ord_id] = fill.volume
        completes = before > 0 and before + fill.sz == fill.volume
        left = fill.sz
        if self.position:
            silent = completes and fill.ord_id in self._trade.parts
            direction = 1 if self.position > 0 else -1
            if direction == fill.sign:
                self._grow(fill, left)
                left = ZERO
            else:
                part = min(left, abs(self.position))
                self._reduce(fill, part, direction)
                left -= part
            if not silent:
                self._execution(fill)
            if not self.position:
                self._close(fill)
        if left:
            self._grow(fill, left)
            self._execution(fill)

    def _execution(self, fill: TrueFill) -> None:
        if fill.cause == "agent" and fill.state_id is not None:
            self.expected.append(ExpectedMessage("execution", fill.ord_id, fill.state_id))

    def _grow(self, fill: TrueFill, sz: Fraction) -> None:
        size, trade = abs(self.position), self._trade
        trade.entry = (trade.entry * size + fill.px * sz) / (size + sz)
        self.position += fill.sign * sz
        self._add_part(fill, sz)

    def _reduce(self, fill: TrueFill, sz: Fraction, direction: int) -> None:
        trade = self._trade
        trade.pnl += direction * (fill.px - trade.entry) * sz * fill.multiplier
        trade.reduced += trade.entry * sz * fill.multiplier
        trade.penalty += fill.penalty
        self.position += fill.sign * sz
        self._add_part(fill, sz)

    def _add_part(self, fill: TrueFill, sz: Fraction) -> None:
        trade = self._trade
        trade.parts[fill.ord_id] = trade.parts.get(fill.ord_id, ZERO) + sz
        trade.fees += fill.fee * sz / fill.sz
        if trade.state_id is None and fill.cause == "agent":
            trade.state_id = fill.state_id

    def _close(self, fill: TrueFill) -> None:
        trade, self._trade = self._trade, OracleTrade()
        state_id = fill.state_id if fill.cause == "agent" else trade.state_id
        if state_id is not None:
            portions = tuple(
                (name, float(sz / self._volumes[name])) for name, sz in trade.parts.items()
            )
            gains = tuple(dict.fromkeys(self._gains(trade, fill.at)))
            self.expected.append(
                ExpectedMessage(
                    "closure", fill.ord_id, state_id, fill.cause, portions, gains, self.closed
                )
            )
        self.closed += 1

    def _gains(self, trade: OracleTrade, now: float) -> Iterator[float]:
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
    """Yield the sums that the service may know: of what it must know, and of each payment more."""
    known = sum((amount for at, amount in funding if at <= by), ZERO)
    yield known
    for at, amount in funding:
        if at > by:
            known += amount
            yield known


def run_oracle(fills: Iterable[TrueFill]) -> Oracle:
    """JournalReplay whole logs of fills without drawdowns."""
    oracle = Oracle()
    for fill in fills:
        oracle.fill(fill)
    return oracle
