"""Fills -> trade: direction, size, entry, drawdown, cumulative reward, portions, closure.

A trade is what lies between two moments of being flat. ``cost`` is kept instead of the entry
price: sum of price x size of what is open. Closing all of it takes all of the cost, so whatever
a partial reduction had to round (in the last of 50 digits) is made good by the closing one, and
the PnL of a whole trade is exact.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.model import Fill, OrdId, PositionReport, RewardUnit, Side, TradeId

ZERO = Decimal(0)


@attrs.define
class Trade:
    """The open trade; ``okx_id`` is the order that opened it.

    ``size`` contracts, ``cost`` USDT per multiplier (price x contracts), ``cumulative`` USDT or,
    by the reward unit, a fraction of the entry notional. ``max_drawdown`` is the lowest
    ``uplRatio`` seen, 0 or below. ``parts`` has the contracts that each order executed in this
    trade, by first fill; an order in it has been announced to the agent.
    """

    okx_id: OrdId
    side: Side
    opened_by: TradeId | None
    opened_ms: int
    size: Decimal = ZERO
    cost: Decimal = ZERO
    cumulative: Decimal = ZERO
    max_drawdown: float = 0.0
    parts: dict[OrdId, Decimal] = attrs.Factory(dict)

    @property
    def entry_px(self) -> Decimal:
        """The size-weighted average price of what is open."""
        return self.cost / self.size

    @property
    def position(self) -> Decimal:
        """The signed net position that this trade is."""
        return self.side.sign * self.size

    def increase(self, fill: Fill, sz: Decimal) -> None:
        """Add ``sz`` contracts of a fill in the trade's direction."""
        self.size += sz
        self.cost += fill.px * sz
        self._take_part(fill.ord_id, sz)

    def reduce(self, fill: Fill, sz: Decimal, multiplier: Decimal, unit: RewardUnit) -> None:
        """Take away ``sz`` contracts (at most the size) by a fill against the direction.

        The exchange's ``fillPnl`` counts when it was told for exactly this fill.
        """
        share = self.cost if sz == self.size else self.cost * sz / self.size
        pnl = fill.pnl
        if pnl is None:
            pnl = self.side.sign * (fill.px * sz - share) * multiplier
        self.cumulative += pnl if unit is RewardUnit.USDT else pnl / (share * multiplier)
        self.size -= sz
        self.cost -= share
        self._take_part(fill.ord_id, sz)

    def _take_part(self, ord_id: OrdId, sz: Decimal) -> None:
        self.parts[ord_id] = self.parts.get(ord_id, ZERO) + sz

    def owns(self, report: PositionReport) -> bool:
        """Say whether a position report describes this trade, not an earlier or a flat one."""
        if report.pos == 0 or (report.pos > 0) is not (self.side is Side.BUY):
            return False
        if report.trade_id is not None and self.opened_by is not None:
            return report.trade_id >= self.opened_by
        return report.u_time_ms >= self.opened_ms

    def note_drawdown(self, upl_ratio: float) -> None:
        """Remember the worst unrealised loss ratio."""
        self.max_drawdown = min(self.max_drawdown, upl_ratio)

    def reward(self) -> float:
        """Return the final reward: drawdown shrinks a gain and grows a loss, without a clamp."""
        gained = float(self.cumulative)
        weight = 2.0 * abs(self.max_drawdown)
        if gained > 0:
            return gained * (1.0 - weight)
        if gained < 0:
            return gained * (1.0 + weight)
        return 0.0
