"""The price process: a seeded random walk on the tick grid, a recorded path, or a script's price."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from random import Random

import attrs

from oms_trio.core.model import Instrument, Side

BAND = Decimal("0.01")
"""How far from the index an order may be priced (``maxPxLmtPct`` of the instrument)."""


@attrs.frozen
class Level:
    """What can be taken at one price."""

    px: Decimal
    sz: Decimal


@attrs.define
class Market:
    """Best bid and ask with a drawn depth behind them.

    ``step_ticks`` bounds one step of the walk, ``depth_lots`` the size found at one price. Mark
    and index follow the bid: nothing the service does depends on their difference.
    """

    instrument: Instrument
    rng: Random
    bid: Decimal
    step_ticks: int = 30
    depth_lots: tuple[int, int] = (100, 5000)
    path: Iterator[Decimal] | None = None
    """Prices to follow instead of walking, one a step; the last one stays."""
    mark_px: Decimal = attrs.field(init=False)
    _scale: Decimal = attrs.field(default=Decimal(1), init=False)
    """What moves (``move``) have made of the prices of ``path``."""

    def __attrs_post_init__(self) -> None:
        """Put the first price on the tick grid."""
        self.set_price(self.bid)

    @property
    def ask(self) -> Decimal:
        """One tick above the bid, as on the exchange for this instrument nearly always."""
        return self.bid + self.instrument.tick_sz

    @property
    def last(self) -> Decimal:
        """The last traded price."""
        return self.bid

    @property
    def idx_px(self) -> Decimal:
        """The index price, which the price band hangs on."""
        return self.bid

    @property
    def buy_lmt(self) -> Decimal:
        """The highest price a buy may ask for."""
        return self.on_grid(self.idx_px * (1 + BAND), ROUND_FLOOR)

    @property
    def sell_lmt(self) -> Decimal:
        """The lowest price a sell may ask for."""
        return self.on_grid(self.idx_px * (1 - BAND), ROUND_CEILING)

    def limit_for(self, side: Side) -> Decimal:
        """Return the most aggressive price of this side: what a market order works at."""
        return self.buy_lmt if side is Side.BUY else self.sell_lmt

    def best_for(self, side: Side) -> Decimal:
        """Return the price at which this side would take."""
        return self.ask if side is Side.BUY else self.bid

    def set_price(self, px: Decimal) -> None:
        """Put bid, last, index and mark at ``px`` (rounded down to the tick grid)."""
        self.bid = max(self.on_grid(px, ROUND_FLOOR), self.instrument.tick_sz)
        self.mark_px = self.bid

    def move(self, to: Decimal, of: Decimal) -> None:
        """Move everything at once to ``to / of`` of where it is; a path goes on from there."""
        self._scale = self._scale * to / of
        self.set_price(self.bid * to / of)

    def set_mark(self, px: Decimal) -> None:
        """Put the mark price alone, off the grid if need be, until the price moves again."""
        self.mark_px = px

    def step(self) -> None:
        """Take one step of the path, or of the random walk."""
        if self.path is not None:
            px = next(self.path, None)
            self.set_price(self.bid if px is None else px * self._scale)
            return
        ticks = self.rng.randint(-self.step_ticks, self.step_ticks)
        self.set_price(self.bid + ticks * self.instrument.tick_sz)

    def depth(self) -> Decimal:
        """Draw the contracts found at one price."""
        return self.rng.randint(*self.depth_lots) * self.instrument.lot_sz

    def take(self, side: Side, limit_px: Decimal, sz: Decimal) -> list[Level]:
        """Draw what an order for ``sz`` contracts takes at once, best price first.

        The sum is below ``sz`` when ``limit_px`` is reached first.
        """
        taken: list[Level] = []
        px = self.best_for(side)
        while sz > 0 and crosses(side, limit_px, px):
            part = min(sz, self.depth())
            taken.append(Level(px, part))
            sz -= part
            px += side.sign * self.instrument.tick_sz * self.rng.randint(1, 3)
        return taken

    def on_grid(self, px: Decimal, rounding: str = ROUND_FLOOR) -> Decimal:
        """Return the multiple of the tick next to a price."""
        tick = self.instrument.tick_sz
        return (px / tick).to_integral_value(rounding) * tick


def crosses(side: Side, limit_px: Decimal, px: Decimal) -> bool:
    """Whether an order of this side and limit may trade at ``px``."""
    return limit_px >= px if side is Side.BUY else limit_px <= px
