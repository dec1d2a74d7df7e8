"""The book: fills into trades, and what is published of them.

Every fill of an agent's order is published (an *execution*), except the one that takes an order from
partially filled to filled when that order was announced in this trade already. A fill that closes a
trade is published by this rule, then the closure; when it opens the opposite trade with what is left
of it, its order is announced again there.

A fill of any other order (the operator's flatten, a liquidation, ADL, a hand on the account)
changes the trade in the same way, but is no execution: no action caused it.

    closed by         closure published
    agent's order     with that order's state id, cause agent
    another           with the fill's own okx id, its cause, and the state id of the order that
                      opened the trade; when that was no agent's, of the first agent's order
                      that had a fill in it; none when there was no such order: nobody could
                      learn from it
"""

from __future__ import annotations

from bisect import insort
from decimal import Decimal

import attrs

from oms_trio.core.effects import (
    Effect,
    FillBooked,
    Publication,
    PublishClosure,
    PublishExecution,
)
from oms_trio.core.model import Cause, Fill, Funding, OrdId, PositionReport, Rules, TradeId
from oms_trio.core.orders import OrderInfo
from oms_trio.core.trade import Trade, part_of

ZERO = Decimal(0)

AHEAD_KEPT = 256
"""Position reports kept until their fill is reported; normally it is milliseconds away."""

UNORDERED = frozenset({Cause.LIQUIDATION, Cause.ADL})
"""Position reports keep the trade id from before a fill of these: it does not show whether they
contain that fill, so it always counts."""

RECENT_KEPT = 1024
"""Fills whose trade ids are kept, to know the position as of a position report. A report is seconds
old at most, and so many fills do not come meanwhile."""

UNNUMBERED = TradeId(0)
"""Stands for the trade id of a fill that has none."""


@attrs.define
class Book:
    """The one open trade and the position reports that are ahead of its fills.

    ``volumes`` has the sizes sent of the orders in the trade, so that portions need no order
    that may have been forgotten meanwhile. ``recent`` has the newest fills by growing trade id,
    each with its signed size; of those up to ``recent_after`` some may be missing. ``funding`` is
    the sum of all payments, in USDT, and ``funding_due`` has those that are not yet counted in
    a trade.
    """

    trade: Trade | None = None
    volumes: dict[OrdId, Decimal] = attrs.Factory(dict)
    last_trade_id: TradeId | None = None
    last_fill_ms: int = 0
    fills: int = 0
    ahead: dict[TradeId, PositionReport] = attrs.Factory(dict)
    recent: list[tuple[TradeId, Decimal]] = attrs.Factory(list)
    recent_after: TradeId | None = None
    funding: Decimal = ZERO
    funding_due: list[Funding] = attrs.Factory(list)
    last_bill_id: int = 0

    @property
    def position(self) -> Decimal:
        """The signed net position, in contracts, that our fills explain."""
        return ZERO if self.trade is None else self.trade.position

    def position_at(self, trade_id: TradeId | None) -> Decimal | None:
        """Return our signed position as of a match: without the fills of later trade ids.

        Fills without a positive trade id (derived, adopted, ADL) always count, and so does every
        fill when ``trade_id`` is not a positive number. None: too long ago to know.
        """
        position, last = self.position, self.last_trade_id
        if trade_id is None or trade_id <= 0 or last is None or trade_id >= last:
            return position
        if not self.recent or (self.recent_after is not None and trade_id < self.recent_after):
            return None
        for booked, signed in reversed(self.recent):
            if booked <= trade_id:
                break
            position -= signed
        return position

    def take(self, order: OrderInfo, fill: Fill, multiplier: Decimal, rules: Rules) -> list[Effect]:
        """Count a fill of ``order``, which must have booked it already.

        ``multiplier`` is the instrument's (BTC per contract); ``rules`` say what a reward counts.
        Returns what is published of it, and at last ``FillBooked``.
        """
        number = fill.trade_id or UNNUMBERED
        if number > 0:
            if self.ahead:
                self._count_ahead(number)
            if order.cause not in UNORDERED:
                self._remember(number, order.side.sign * fill.sz)
        if self.funding_due:
            self._count_funding(fill.time_ms)
        self.fills += 1
        trade = self.trade
        size, pnl = (ZERO, ZERO) if trade is None else (trade.size, trade.pnl)
        effects: list[Effect] = [*self._fold(order, fill, multiplier, rules)]
        now = self.trade
        reduces = trade is not None and order.side is not trade.side
        effects.append(
            FillBooked(
                cl_ord_id=order.cl_ord_id,
                state_id=order.state_id,
                cause=order.cause,
                side=order.side,
                fill=fill,
                trade=None if trade is None else trade.okx_id,
                opened=None if now is None or now is trade else now.okx_id,
                reduced=min(fill.sz, size) if reduces else ZERO,
                gain=ZERO if trade is None else trade.pnl - pnl,
                gained=ZERO if trade is None else trade.gained(rules),
                max_drawdown=0.0 if trade is None else trade.max_drawdown,
                reward=None if trade is None or now is trade else trade.reward(rules),
                position=self.position,
                entry_px=None if now is None else now.entry_px,
            )
        )
        self.last_fill_ms = max(self.last_fill_ms, fill.time_ms)
        if self.ahead and number > 0:
            self._count_ahead(number + 1)
        return effects

    def _fold(
        self, order: OrderInfo, fill: Fill, multiplier: Decimal, rules: Rules
    ) -> list[Publication]:
        """Change the open trade by a fill, close it, open the next one: what the fill does."""
        for_agent = order.cause is Cause.AGENT
        name = f"{fill.ord_id}.{fill.trade_id or f'acc{order.filled_size}'}"
        published: list[Publication] = []
        left, fee = fill.sz, fill.fee
        trade = self.trade
        if trade is not None:
            self.volumes[fill.ord_id] = order.volume
            announced = fill.ord_id in trade.parts
            if for_agent and trade.state_id is None:
                trade.state_id = order.state_id
            if order.side is trade.side:
                trade.increase(fill, left, fee)
                left = ZERO
            else:
                reduced = min(left, trade.size)
                share = fee if reduced == left else part_of(fee, reduced, left)
                trade.reduce(fill, reduced, share, multiplier)
                left -= reduced
                fee -= share
            silent = announced and order.is_filled and order.filled_size > fill.sz
            if for_agent and not silent:
                published.append(PublishExecution(f"{name}.x", order.state_id, fill.ord_id))
            if not trade.size:
                closure = self._close(trade, order, f"{name}.c", trade.reward(rules))
                if closure is not None:
                    published.append(closure)
        if left:
            self._open(order, fill, left, fee)
            if for_agent:
                published.append(PublishExecution(f"{name}.o", order.state_id, fill.ord_id))
        return published

    def _open(self, order: OrderInfo, fill: Fill, sz: Decimal, fee: Decimal) -> None:
        number = fill.trade_id
        self.trade = Trade(
            okx_id=fill.ord_id,
            side=order.side,
            opened_by=number if number is not None and number > 0 else None,
            opened_ms=fill.time_ms,
            state_id=order.state_id if order.cause is Cause.AGENT else None,
        )
        self.trade.increase(fill, sz, fee)
        self.volumes[fill.ord_id] = order.volume

    def _close(
        self, trade: Trade, order: OrderInfo, message_id: str, reward: float
    ) -> PublishClosure | None:
        """End the trade; its portions are of the orders' volumes as they are known by now."""
        volumes, self.trade, self.volumes = self.volumes, None, {}
        state_id = order.state_id if order.cause is Cause.AGENT else trade.state_id
        if state_id is None:
            return None
        assert order.okx_order_id is not None
        portions = tuple(
            (ord_id, float(sz / volumes[ord_id])) for ord_id, sz in trade.parts.items()
        )
        return PublishClosure(
            message_id, state_id, order.okx_order_id, portions, reward, order.cause
        )

    def _remember(self, trade_id: TradeId, signed: Decimal) -> None:
        """Keep a fill's trade id; fills are mostly, not always, booked by growing ids."""
        recent, last = self.recent, self.last_trade_id
        if not recent:
            self.recent_after = last  # that of an earlier release, which remembered no more
        if last is None or trade_id > last:
            recent.append((trade_id, signed))
            self.last_trade_id = trade_id
        elif self.recent_after is None or trade_id > self.recent_after:
            insort(recent, (trade_id, signed))
        surplus = len(recent) - RECENT_KEPT
        if surplus > RECENT_KEPT // 8:
            self.recent_after = recent[surplus - 1][0]
            del recent[:surplus]

    def note_funding(self, funding: Funding) -> None:
        """Take in a funding payment, once; payments come by growing bill ids.

        It is for the trade that was open at its time. Which one that is may depend on fills that
        are not booked yet: it is counted before the first later fill, or by ``settle_funding``.
        Funding that becomes known only after its trade was closed is in no reward.
        """
        if funding.bill_id > self.last_bill_id:
            self.last_bill_id = funding.bill_id
            self.funding += funding.amount
            self.funding_due.append(funding)

    def settle_funding(self, *, complete: bool) -> None:
        """Count all that is due, when every fill that is known of is booked (``complete``)."""
        if self.funding_due and complete:
            self._count_funding(max(funding.time_ms for funding in self.funding_due))

    def _count_funding(self, until_ms: int) -> None:
        due, self.funding_due = self.funding_due, []
        for funding in due:
            if funding.time_ms > until_ms:
                self.funding_due.append(funding)
            elif self.trade is not None and self.trade.opened_ms <= funding.time_ms:
                self.trade.funding += funding.amount

    def note_position(self, report: PositionReport) -> None:
        """Count the drawdown of a position report for the trade that it belongs to.

        A report may come before the fill that it contains: it then waits for it, because only
        the fill shows whether it belongs to this trade or to a later one.
        """
        if report.upl_ratio is None:
            return
        last, match = self.last_trade_id, report.trade_id
        if match is not None and (last is None or match > last):
            known = self.ahead.get(match)
            if known is None or known.upl_ratio is None or report.upl_ratio < known.upl_ratio:
                self.ahead[match] = report
            while len(self.ahead) > AHEAD_KEPT:
                del self.ahead[min(self.ahead)]
        elif self.trade is not None and self.trade.owns(report):
            self.trade.note_drawdown(report.upl_ratio)

    def _count_ahead(self, before: int) -> None:
        """Count the waiting reports of matches with a lower trade id than ``before``."""
        for match in sorted(self.ahead):
            if match >= before:
                break
            report = self.ahead.pop(match)
            if self.trade is not None and self.trade.owns(report):
                self.trade.note_drawdown(report.upl_ratio or 0.0)
