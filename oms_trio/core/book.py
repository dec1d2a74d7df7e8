"""The book: fills into trades, and what the agent is told of them.

Every fill is told (an *execution*), except the one that takes an order from partially filled to
filled when that order was announced in this trade already. A fill that closes a trade is told by
this rule, then the closure; when it opens the opposite trade with what is left of it, its order
is announced anew there.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.effects import Publication, PublishClosure, PublishExecution
from oms_trio.core.model import Fill, OrdId, PositionReport, RewardUnit, TradeId
from oms_trio.core.orders import OrderInfo
from oms_trio.core.trade import Trade

ZERO = Decimal(0)

AHEAD_KEPT = 256
"""Position reports kept until their fill is told; normally it is milliseconds away."""


@attrs.define
class Book:
    """The one open trade and the position reports that are ahead of its fills.

    ``volumes`` has the sizes sent of the orders in the trade, so that portions need no order
    that may have been forgotten meanwhile.
    """

    trade: Trade | None = None
    volumes: dict[OrdId, Decimal] = attrs.Factory(dict)
    last_trade_id: TradeId | None = None
    last_fill_ms: int = 0
    fills: int = 0
    recent: list[tuple[TradeId, Decimal]] = attrs.Factory(list)
    ahead: dict[TradeId, PositionReport] = attrs.Factory(dict)

    @property
    def position(self) -> Decimal:
        """The signed net position, in contracts, that our fills explain."""
        return ZERO if self.trade is None else self.trade.position

    def position_at(self, trade_id: TradeId | None) -> Decimal | None:
        """Our position up to a match (provisional)."""
        if trade_id is None or self.last_trade_id is None or trade_id >= self.last_trade_id:
            return self.position
        recent = self.recent
        if recent and trade_id < recent[0][0]:
            return None
        return self.position - sum((sz for number, sz in recent if number > trade_id), ZERO)

    def take(
        self, order: OrderInfo, fill: Fill, multiplier: Decimal, unit: RewardUnit
    ) -> list[Publication]:
        """Count a fill of ``order``, which must have booked it already."""
        self._catch_up(fill.trade_id, passed=True)
        self.fills += 1
        if fill.trade_id is not None and fill.trade_id > 0:
            self.recent.append((fill.trade_id, order.side.sign * fill.sz))
            self.recent.sort()
            del self.recent[:-1024]
        silent = order.filled_size > fill.sz and order.is_filled
        cause = fill.trade_id if fill.trade_id is not None else f"acc{order.filled_size}"
        told: list[Publication] = []

        def execution(suffix: str) -> None:
            message_id = f"{fill.ord_id}.{cause}.{suffix}"
            told.append(PublishExecution(message_id, order.state_id, fill.ord_id))

        left = fill.sz
        trade = self.trade
        if trade is not None:
            announced = fill.ord_id in trade.parts
            self.volumes[fill.ord_id] = order.volume
            if order.side is trade.side:
                trade.increase(fill, left)
                left = ZERO
            else:
                reduced = min(left, trade.size)
                trade.reduce(fill, reduced, multiplier, unit)
                left -= reduced
            if not (silent and announced):
                execution("x")
            if trade.size == 0:
                told.append(self._close(trade, order, f"{fill.ord_id}.{cause}.c"))
        if left:
            opened = Trade(fill.ord_id, order.side, fill.trade_id, fill.time_ms)
            opened.increase(fill, left)
            self.trade = opened
            self.volumes[fill.ord_id] = order.volume
            execution("o")
        self.last_fill_ms = max(self.last_fill_ms, fill.time_ms)
        self._catch_up(fill.trade_id, passed=False)
        return told

    def _close(self, trade: Trade, order: OrderInfo, message_id: str) -> PublishClosure:
        portions = tuple(
            (ord_id, float(sz / self.volumes[ord_id])) for ord_id, sz in trade.parts.items()
        )
        assert order.okx_order_id is not None
        self.trade = None
        self.volumes = {}
        return PublishClosure(
            message_id, order.state_id, order.okx_order_id, portions, trade.reward()
        )

    def is_ahead_of(self, report: PositionReport | None) -> bool:
        """Whether a fill is booked that a position report cannot know of yet."""
        if report is None or report.trade_id is None or self.last_trade_id is None:
            return False
        return report.trade_id < self.last_trade_id

    def note_position(self, report: PositionReport) -> None:
        """Count the drawdown of a position report for the trade that it belongs to.

        A report may come before the fill that it tells of: it then waits for it, because only
        the fill says whether it belongs to this trade or to a later one.
        """
        if report.upl_ratio is None:
            return
        last, told = self.last_trade_id, report.trade_id
        if told is not None and (last is None or told > last):
            known = self.ahead.get(told)
            if known is None or known.upl_ratio is None or report.upl_ratio < known.upl_ratio:
                self.ahead[told] = report
            while len(self.ahead) > AHEAD_KEPT:
                del self.ahead[min(self.ahead)]
        elif self.trade is not None and self.trade.owns(report):
            self.trade.note_drawdown(report.upl_ratio)

    def _catch_up(self, trade_id: TradeId | None, *, passed: bool) -> None:
        """Count waiting reports from before (``passed``) or of the fill with this trade id."""
        if trade_id is None:
            return
        if not passed:
            self.last_trade_id = max(self.last_trade_id or trade_id, trade_id)
        for told in sorted(self.ahead):
            if told > trade_id or (passed and told == trade_id):
                break
            report = self.ahead.pop(told)
            if self.trade is not None and self.trade.owns(report):
                self.trade.note_drawdown(report.upl_ratio or 0.0)
