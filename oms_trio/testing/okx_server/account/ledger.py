"""The account's money: cash, the net position, fees, and the margin of position and orders.

Formulas and rates are those of the exchange for the first tier of BTC-USDT-SWAP: taker and maker
fees, ``uplRatio`` as the return on the entry margin, maintenance margin as a fraction of the
notional at the mark price. How the exchange nets the margin of orders on both sides is not
documented; here each side needs margin for what goes beyond closing the position.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import attrs

from oms_trio.core.model import Instrument, Side
from oms_trio.testing.okx_server.account.tiers import tier_of
from oms_trio.testing.okx_server.values import ZERO, ExchangeOrder, NetPosition

TAKER_FEE = Decimal("0.0005")
MAKER_FEE = Decimal("0.0002")


@attrs.frozen
class PositionView:
    """The position priced at one instant; money in USDT, ratios as fractions."""

    position: NetPosition
    lever: Decimal
    mark_px: Decimal
    last: Decimal
    idx_px: Decimal
    notional: Decimal
    upl: Decimal
    upl_ratio: Decimal | None
    upl_last_px: Decimal
    upl_ratio_last_px: Decimal | None
    imr: Decimal
    mmr: Decimal
    mgn_ratio: Decimal | None


@attrs.frozen
class AccountView:
    """The account priced at one instant, in USDT."""

    cash_bal: Decimal
    u_time_ms: int
    upl: Decimal
    imr: Decimal
    mmr: Decimal
    ord_frozen: Decimal
    mgn_ratio: Decimal | None
    notional: Decimal

    @property
    def eq(self) -> Decimal:
        """Equity: cash and unrealised profit at the mark price."""
        return self.cash_bal + self.upl

    @property
    def frozen_bal(self) -> Decimal:
        """Margin in use by position and orders."""
        return self.imr + self.ord_frozen

    @property
    def avail_eq(self) -> Decimal:
        """Margin available to new orders."""
        return max(ZERO, self.eq - self.frozen_bal)


@attrs.define
class Ledger:
    """Cash and position of the account, changed by matches and funding only."""

    instrument: Instrument
    cash_bal: Decimal
    lever: Decimal
    u_time_ms: int
    position: NetPosition | None = None
    """None until the instrument is held for the first time; kept, with ``pos`` 0, after a close."""

    @property
    def pos(self) -> Decimal:
        """Signed contracts held."""
        return self.position.pos if self.position else ZERO

    def fee(self, px: Decimal, sz: Decimal, exec_type: str) -> Decimal:
        """Return the fee of a match with the exchange's sign: below 0 is charged."""
        rate = TAKER_FEE if exec_type == "T" else MAKER_FEE
        return -(rate * sz * self.instrument.multiplier * px)

    def book(
        self,
        side: Side,
        px: Decimal,
        sz: Decimal,
        *,
        fee: Decimal,
        penalty: Decimal,
        trade_id: int,
        now_ms: int,
        new_pos_id: str,
    ) -> tuple[NetPosition, NetPosition, Decimal]:
        """Book one match; return the position before and after, and the realised PnL.

        ``fee`` and ``penalty`` are below 0 when charged; the PnL is without them.
        """
        held = self.position or NetPosition(new_pos_id, ZERO, px, trade_id, now_ms, now_ms)
        moved, realised = held.after(side, px, sz, self.instrument.multiplier)
        opened = held.pos * moved.pos <= 0 and moved.pos != 0
        self.position = attrs.evolve(
            moved,
            trade_id=trade_id,
            u_time_ms=now_ms,
            c_time_ms=now_ms if opened else held.c_time_ms,
            pnl=ZERO if opened else moved.pnl,
            fee=fee if opened else held.fee + fee,
            funding_fee=ZERO if opened else held.funding_fee,
            liq_penalty=ZERO if opened else held.liq_penalty + penalty,
        )
        self.cash_bal += realised + fee + penalty
        self.u_time_ms = now_ms
        return held, self.position, realised

    def fund(
        self, rate: Decimal, mark_px: Decimal, now_ms: int
    ) -> tuple[NetPosition, Decimal] | None:
        """Settle the funding fee of the open position: below 0 is paid; None when flat."""
        if self.position is None or not self.position.pos:
            return None
        amount = -(rate * self.notional(mark_px, self.position.pos))
        self.position = attrs.evolve(self.position, funding_fee=self.position.funding_fee + amount)
        self.cash_bal += amount
        self.u_time_ms = now_ms
        return self.position, amount

    def bankruptcy_px(self) -> Decimal:
        """Return the price at which closing the whole position leaves no cash; it may be below 0.

        A position beyond it is closed at it: the exchange's insurance fund bears the rest, so that
        an account never has debts.
        """
        held = self.position
        assert held is not None
        size = self.notional(Decimal(1), held.pos)
        exact = (self.notional(held.avg_px, held.pos) - self.cash_bal) / (
            size - TAKER_FEE * abs(size)
        )
        rounding = ROUND_CEILING if held.pos > 0 else ROUND_FLOOR
        tick = self.instrument.tick_sz
        return (exact / tick).to_integral_value(rounding) * tick

    def penalty(self, px: Decimal, sz: Decimal, cash_left: Decimal) -> Decimal:
        """Return the penalty for liquidating ``sz`` contracts, in addition to the fee; 0 or below.

        It is the maintenance margin, and no more than the remaining cash. The exchange publishes
        no formula; this is what its insurance fund gets when a position is filled at its
        liquidation price.
        """
        margin = self.notional(px, sz) * tier_of(self.pos).mmr
        return -min(margin, max(ZERO, cash_left))

    def max_size(self, side: Side, px: Decimal, avail_eq: Decimal) -> Decimal:
        """Return how many contracts of this side the available margin and the position allow."""
        closable = max(ZERO, -self.pos * side.sign)
        per_contract = self.notional(px, Decimal(1)) * (1 / self.lever + TAKER_FEE)
        lot = self.instrument.lot_sz
        return closable + avail_eq / per_contract // lot * lot

    def notional(self, px: Decimal, sz: Decimal) -> Decimal:
        """Return the value of ``sz`` contracts at ``px`` in USDT."""
        return sz * self.instrument.multiplier * px

    def ord_frozen(self, orders: Iterable[ExchangeOrder]) -> Decimal:
        """Return the margin that open orders need."""
        frozen = ZERO
        closable = {Side.BUY: max(ZERO, -self.pos), Side.SELL: max(ZERO, self.pos)}
        for order in orders:
            closing = min(order.remaining, closable[order.side])
            closable[order.side] -= closing
            if not order.reduce_only:
                frozen += self.notional(order.limit_px, order.remaining - closing) / order.lever
        return frozen

    def position_view(
        self, *, mark_px: Decimal, last: Decimal, idx_px: Decimal
    ) -> PositionView | None:
        """Return the position at these prices; None if the instrument was never held."""
        if self.position is None:
            return None
        held = self.position
        notional = self.notional(mark_px, abs(held.pos))
        entry_margin = self.notional(held.avg_px, abs(held.pos)) / self.lever
        upl = self.notional(mark_px - held.avg_px, held.pos)
        upl_last = self.notional(last - held.avg_px, held.pos)
        return PositionView(
            position=held,
            lever=self.lever,
            mark_px=mark_px,
            last=last,
            idx_px=idx_px,
            notional=notional,
            upl=upl,
            upl_ratio=upl / entry_margin if entry_margin else None,
            upl_last_px=upl_last,
            upl_ratio_last_px=upl_last / entry_margin if entry_margin else None,
            imr=notional / self.lever,
            mmr=notional * tier_of(held.pos).mmr,
            mgn_ratio=self._mgn_ratio(upl, notional),
        )

    def account_view(
        self, held: PositionView | None, orders: Iterable[ExchangeOrder]
    ) -> AccountView:
        """Return the account with its position and its open orders."""
        return AccountView(
            cash_bal=self.cash_bal,
            u_time_ms=self.u_time_ms,
            upl=held.upl if held else ZERO,
            imr=held.imr if held else ZERO,
            mmr=held.mmr if held else ZERO,
            ord_frozen=self.ord_frozen(orders),
            mgn_ratio=held.mgn_ratio if held else None,
            notional=held.notional if held else ZERO,
        )

    def _mgn_ratio(self, upl: Decimal, notional: Decimal) -> Decimal | None:
        """Equity over maintenance margin plus liquidation fee; at 1 the position is liquidated."""
        needed = notional * (tier_of(self.pos).mmr + TAKER_FEE)
        return (self.cash_bal + upl) / needed if needed else None
