"""The market: a seeded random walk on the tick grid, recorded prices, or prices set by calls."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from random import Random

import attrs

from oms_trio.core.model import Instrument, Side

BAND = Decimal("0.01")
"""How far from the index price an order may be priced (``maxPxLmtPct`` of the instrument)."""


@attrs.frozen
class PriceLevel:
    """The contracts that can be taken at one price."""

    px: Decimal
    sz: Decimal


@attrs.define
class SimulatedMarket:
    """The best bid and ask, with randomly drawn depth beyond them.

    ``step_ticks`` bounds one step of the walk, ``depth_lots`` the size available at one price.
    Mark and index price follow the bid.
    """

    instrument: Instrument
    rng: Random
    bid: Decimal
    step_ticks: int = 30
    depth_lots: tuple[int, int] = (100, 5000)
    prices: Iterator[Decimal] | None = None
    """Prices to follow instead of a random walk, one per step; the last one stays."""
    mark_px: Decimal = attrs.field(init=False)
    _scale: Decimal = attrs.field(default=Decimal(1), init=False)
    """The product of all moves, by which ``prices`` are multiplied."""
    _moves_to_reverse: list[tuple[int, Decimal]] = attrs.field(factory=list, init=False)
    """True time (ns) at which a move is reversed, and its size: 100 + percent."""

    def __attrs_post_init__(self) -> None:
        """Put the first price on the tick grid."""
        self.set_price(self.bid)

    @property
    def ask(self) -> Decimal:
        """One tick above the bid, as it nearly always is for this instrument."""
        return self.bid + self.instrument.tick_sz

    @property
    def last(self) -> Decimal:
        """The last traded price."""
        return self.bid

    @property
    def idx_px(self) -> Decimal:
        """The index price, around which the price band lies."""
        return self.bid

    @property
    def buy_lmt(self) -> Decimal:
        """The highest price of a buy order."""
        return self.on_grid(self.idx_px * (1 + BAND), ROUND_FLOOR)

    @property
    def sell_lmt(self) -> Decimal:
        """The lowest price of a sell order."""
        return self.on_grid(self.idx_px * (1 - BAND), ROUND_CEILING)

    def limit_for(self, side: Side) -> Decimal:
        """Return the most aggressive price of this side, the limit of a market order."""
        return self.buy_lmt if side is Side.BUY else self.sell_lmt

    def best_for(self, side: Side) -> Decimal:
        """Return the best price at which an order of this side takes."""
        return self.ask if side is Side.BUY else self.bid

    def set_price(self, px: Decimal) -> None:
        """Set bid, last, index and mark price to ``px``, rounded down to the tick grid."""
        self.bid = max(self.on_grid(px, ROUND_FLOOR), self.instrument.tick_sz)
        self.mark_px = self.bid

    def move(self, percent: Decimal, back_at_ns: int | None = None) -> None:
        """Move all prices by ``percent`` at once; recorded prices go on from there.

        ``reverse_moves`` reverses the move at ``back_at_ns``, a true time.
        """
        factor = 100 + percent
        if back_at_ns is not None:
            self._moves_to_reverse.append((back_at_ns, factor))
        self._scale_prices(factor, Decimal(100))

    def reverse_moves(self, now_ns: int) -> None:
        """Reverse the moves whose time is over."""
        for back_at_ns, factor in self._moves_to_reverse:
            if now_ns >= back_at_ns:
                self._scale_prices(Decimal(100), factor)
        self._moves_to_reverse = [move for move in self._moves_to_reverse if now_ns < move[0]]

    def set_mark(self, px: Decimal) -> None:
        """Set the mark price alone, on the tick grid or not, until the price moves again."""
        self.mark_px = px

    def step(self) -> None:
        """Go to the next recorded price, or take one step of the random walk."""
        if self.prices is not None:
            px = next(self.prices, None)
            self.set_price(self.bid if px is None else px * self._scale)
            return
        ticks = self.rng.randint(-self.step_ticks, self.step_ticks)
        self.set_price(self.bid + ticks * self.instrument.tick_sz)

    def depth(self) -> Decimal:
        """Draw the contracts available at one price."""
        return self.rng.randint(*self.depth_lots) * self.instrument.lot_sz

    def take(self, side: Side, limit_px: Decimal, sz: Decimal) -> list[PriceLevel]:
        """Draw the levels that an order for ``sz`` contracts takes at once, best price first.

        Their sum is below ``sz`` when ``limit_px`` is reached first.
        """
        taken: list[PriceLevel] = []
        px = self.best_for(side)
        while sz > 0 and crosses(side, limit_px, px):
            part = min(sz, self.depth())
            taken.append(PriceLevel(px, part))
            sz -= part
            px += side.sign * self.instrument.tick_sz * self.rng.randint(1, 3)
        return taken

    def _scale_prices(self, to: Decimal, of: Decimal) -> None:
        """Multiply all prices by ``to / of``."""
        self._scale = self._scale * to / of
        self.set_price(self.bid * to / of)

    def on_grid(self, px: Decimal, rounding: str = ROUND_FLOOR) -> Decimal:
        """Return a price rounded to a multiple of the tick."""
        tick = self.instrument.tick_sz
        return (px / tick).to_integral_value(rounding) * tick


def crosses(side: Side, limit_px: Decimal, px: Decimal) -> bool:
    """Whether an order of this side and limit may trade at ``px``."""
    return limit_px >= px if side is Side.BUY else limit_px <= px
