"""The position from flat to flat, again and again: the rows of ``positions-history``."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import attrs

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.values import ZERO, ExchangeFill, NetPosition, OrderCategory

RECORDS_KEPT_MS = 90 * 86_400_000


class CloseType(StrEnum):
    """How much of a position was closed, and by whom (``type``)."""

    PARTLY = "1"
    FULLY = "2"
    LIQUIDATION = "3"
    LIQUIDATION_PARTLY = "4"
    ADL_PARTLY = "5"
    ADL_FULLY = "6"


@attrs.frozen
class PositionRecord:
    """One position from its opening to its close; REST lists it as soon as a part is closed."""

    pos_id: str
    direction: Side
    lever: Decimal
    c_time_ms: int
    u_time_ms: int
    open_avg_px: Decimal
    open_max_pos: Decimal = ZERO
    close_total_pos: Decimal = ZERO
    close_turnover: Decimal = ZERO
    """Sum of price x contracts closed: keeps the average exact."""
    pnl: Decimal = ZERO
    fee: Decimal = ZERO
    funding_fee: Decimal = ZERO
    liq_penalty: Decimal = ZERO
    close_type: CloseType = CloseType.PARTLY

    @property
    def realized_pnl(self) -> Decimal:
        """Profit with fees, funding and penalties."""
        return self.pnl + self.fee + self.funding_fee + self.liq_penalty


@attrs.define
class PositionHistory:
    """The positions of the last three months, oldest first; the last one may still be open."""

    _rows: list[PositionRecord] = attrs.field(factory=list, init=False)

    @property
    def closed(self) -> list[PositionRecord]:
        """Positions that are closed, fully or in part."""
        return [row for row in self._rows if row.close_total_pos]

    def record_fill(
        self, before: NetPosition, after: NetPosition, lever: Decimal, fill: ExchangeFill
    ) -> None:
        """Record a match: what it closes belongs to the position before, what it opens to a new one."""
        if before.pos:
            self._update_latest(before, after, fill)
        if after.pos and before.pos * after.pos <= 0:
            self._rows.append(
                PositionRecord(
                    pos_id=after.pos_id,
                    direction=Side.BUY if after.pos > 0 else Side.SELL,
                    lever=lever,
                    c_time_ms=after.c_time_ms,
                    u_time_ms=after.u_time_ms,
                    open_avg_px=after.avg_px,
                    open_max_pos=abs(after.pos),
                    fee=after.fee,
                )
            )

    def record_funding(self, position: NetPosition) -> None:
        """Record a funding fee of the open position."""
        self._rows[-1] = attrs.evolve(self._rows[-1], funding_fee=position.funding_fee)

    @property
    def latest(self) -> PositionRecord | None:
        """The latest position, which may still be open; None before the first."""
        return self._rows[-1] if self._rows else None

    def copy(self) -> PositionHistory:
        """Return an independent copy."""
        copied = PositionHistory()
        copied._rows = list(self._rows)
        return copied

    def undo(self, latest: PositionRecord | None, *, opened: bool) -> None:
        """Undo a change: drop the position that it opened, and restore the one before."""
        if opened:
            self._rows.pop()
        if latest is not None:
            self._rows[-1] = latest

    def drop_expired(self, now_ms: int) -> None:
        """Drop what is older than three months."""
        self._rows = [row for row in self._rows if now_ms - row.u_time_ms <= RECORDS_KEPT_MS]

    def _update_latest(self, before: NetPosition, after: NetPosition, fill: ExchangeFill) -> None:
        row = self._rows[-1]
        is_over = before.pos * after.pos <= 0
        left = ZERO if is_over else abs(after.pos)
        row = attrs.evolve(
            row,
            u_time_ms=after.u_time_ms,
            open_avg_px=before.avg_px if is_over else after.avg_px,
            open_max_pos=max(row.open_max_pos, left),
            pnl=row.pnl + fill.pnl - fill.penalty,
            liq_penalty=row.liq_penalty + fill.penalty,
            # As in the pushes, the fee of a match that crosses zero belongs to the new position.
            fee=row.fee if before.pos * after.pos < 0 else row.fee + fill.fee,
        )
        closed = abs(before.pos) - left
        if closed > 0:
            row = attrs.evolve(
                row,
                close_total_pos=row.close_total_pos + closed,
                close_turnover=row.close_turnover + closed * fill.px,
                close_type=_close_type(fill.category, is_over=is_over),
            )
        self._rows[-1] = row


def _close_type(category: OrderCategory, *, is_over: bool) -> CloseType:
    match category:
        case OrderCategory.NORMAL:
            return CloseType.FULLY if is_over else CloseType.PARTLY
        case OrderCategory.FULL_LIQUIDATION | OrderCategory.PARTIAL_LIQUIDATION:
            return CloseType.LIQUIDATION if is_over else CloseType.LIQUIDATION_PARTLY
        case OrderCategory.ADL:
            return CloseType.ADL_FULLY if is_over else CloseType.ADL_PARTLY
