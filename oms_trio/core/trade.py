"""Fills -> trade: direction, size, entry, drawdown, PnL, fees, funding, portions, reward.

A trade is what lies between two moments of being flat. ``cost`` is kept instead of the entry
price: sum of price x size of what is open. A partial reduction takes its part of the cost, rounded
to ``SHARE_PLACES`` so that no sum or product of it is ever rounded again, and the closing one takes
what is left. So the PnL and the entry notional of a whole trade are exact, and they do not depend
on into how many fills the exchange has cut the orders.

    reward   gained x (1 - 2 x |max drawdown|) for a gain, x (1 + 2 x |max drawdown|) for a loss
    gained   by the reward unit, of the money that the trade has brought
             usdt     money
             return   money / entry notional of all that was reduced
             roe      return x leverage x 100: percent of the margin
    money    the PnL of its reductions; net: and its fees and its funding, which are negative
             when paid
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.model import (
    Fill,
    OrdId,
    PositionReport,
    RewardUnit,
    Rules,
    Side,
    StateId,
    TradeId,
)

ZERO = Decimal(0)

SHARE_PLACES = 24
"""Decimal places of a part of a cost or of a fee. With up to 12 digits before the point and a
contract value of a few places, 50 digits hold every sum and product of such a part."""


@attrs.define
class Trade:
    """The open trade; ``okx_id`` is the order that opened it.

    ``size`` contracts, ``cost`` USDT per multiplier (price x contracts). ``pnl`` (of what was
    reduced, fees excluded), ``reduced_notional`` (the entry value of what was reduced), ``fees``
    and ``funding`` (both negative when paid) are USDT. ``max_drawdown`` is the lowest
    ``uplRatio`` seen, 0 or below. ``parts`` has the contracts that each order executed in this
    trade, by first fill; an agent's order in it has been announced to the agent. ``state_id`` is
    that of the first of them that an agent's action caused, None while there is none.
    """

    okx_id: OrdId
    side: Side
    opened_by: TradeId | None
    opened_ms: int
    size: Decimal = ZERO
    cost: Decimal = ZERO
    pnl: Decimal = ZERO
    reduced_notional: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    max_drawdown: float = 0.0
    parts: dict[OrdId, Decimal] = attrs.Factory(dict)
    state_id: StateId | None = None

    @property
    def entry_px(self) -> Decimal:
        """The size-weighted average price of what is open."""
        return self.cost / self.size

    @property
    def position(self) -> Decimal:
        """The signed net position that this trade is."""
        return self.side.sign * self.size

    def increase(self, fill: Fill, sz: Decimal, fee: Decimal) -> None:
        """Add ``sz`` contracts of a fill in the trade's direction, for which ``fee`` was charged."""
        self.size += sz
        self.cost += fill.px * sz
        self._take_part(fill.ord_id, sz, fee)

    def reduce(self, fill: Fill, sz: Decimal, fee: Decimal, multiplier: Decimal) -> None:
        """Take away ``sz`` contracts (at most the size) by a fill against the direction.

        The exchange's ``fillPnl`` counts when it was reported for exactly this fill.
        """
        share = self.cost if sz == self.size else part_of(self.cost, sz, self.size)
        pnl = fill.pnl
        if pnl is None:
            pnl = self.side.sign * (fill.px * sz - share) * multiplier
        self.pnl += pnl
        self.reduced_notional += share * multiplier
        self.size -= sz
        self.cost -= share
        self._take_part(fill.ord_id, sz, fee)

    def _take_part(self, ord_id: OrdId, sz: Decimal, fee: Decimal) -> None:
        self.parts[ord_id] = self.parts.get(ord_id, ZERO) + sz
        self.fees += fee

    def owns(self, report: PositionReport) -> bool:
        """Return whether a position report describes this trade, not an earlier or a flat one."""
        if report.pos == 0 or (report.pos > 0) is not (self.side is Side.BUY):
            return False
        if report.trade_id is not None and self.opened_by is not None:
            return report.trade_id >= self.opened_by
        return report.u_time_ms >= self.opened_ms

    def note_drawdown(self, upl_ratio: float) -> None:
        """Remember the worst unrealised loss ratio."""
        self.max_drawdown = min(self.max_drawdown, upl_ratio)

    def gained(self, rules: Rules) -> Decimal:
        """Return what the trade has brought so far in the reward's unit, its drawdown aside."""
        money = self.pnl + self.fees + self.funding if rules.reward_net else self.pnl
        if rules.reward_unit is RewardUnit.USDT:
            return money
        if not self.reduced_notional:
            return ZERO
        if rules.reward_unit is RewardUnit.ROE:
            money *= rules.leverage * 100
        return money / self.reduced_notional

    def reward(self, rules: Rules) -> float:
        """Return the final reward: drawdown shrinks a gain and grows a loss, without a clamp."""
        gained = float(self.gained(rules))
        weight = 2.0 * abs(self.max_drawdown)
        if gained > 0:
            return gained * (1.0 - weight)
        if gained < 0:
            return gained * (1.0 + weight)
        return 0.0


def part_of(amount: Decimal, sz: Decimal, size: Decimal) -> Decimal:
    """Return the part of an amount that belongs to ``sz`` of ``size`` contracts.

    It is rounded, and what is left of the amount is exactly the other part.
    """
    return round(amount * sz / size, SHARE_PLACES)
