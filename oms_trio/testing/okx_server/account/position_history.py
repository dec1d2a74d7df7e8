"""The lives of the position, from flat to flat: the rows of ``positions-history``."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import attrs

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.values import ZERO, Category, Fill, Position

LIVES_KEPT_MS = 90 * 86_400_000


class CloseType(StrEnum):
    """How far, and by whom, a position was closed (``type``)."""

    PARTLY = "1"
    FULLY = "2"
    LIQUIDATION = "3"
    LIQUIDATION_PARTLY = "4"
    ADL_PARTLY = "5"
    ADL_FULLY = "6"


@attrs.frozen
class Life:
    """One life: told once something of it was closed, and updated in place until it is over."""

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
class Lives:
    """Every life of the last three months, oldest first; the last may still be going on."""

    _rows: list[Life] = attrs.field(factory=list, init=False)

    @property
    def told(self) -> list[Life]:
        """Lives of which a part or all was closed, by the time of their last change."""
        return [row for row in self._rows if row.close_total_pos]

    def follow(self, before: Position, after: Position, lever: Decimal, fill: Fill) -> None:
        """Take one match: what closed belongs to the life before, what opened to a new one."""
        if before.pos:
            self._go_on(before, after, fill)
        if after.pos and before.pos * after.pos <= 0:
            self._rows.append(
                Life(
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

    def funded(self, position: Position) -> None:
        """Take a funding fee of the life going on."""
        self._rows[-1] = attrs.evolve(self._rows[-1], funding_fee=position.funding_fee)

    @property
    def latest(self) -> Life | None:
        """The latest life, which may still be going on; None before the first."""
        return self._rows[-1] if self._rows else None

    def copy(self) -> Lives:
        """Return lives that can change without these."""
        lives = Lives()
        lives._rows = list(self._rows)
        return lives

    def undo(self, latest: Life | None, *, opened: bool) -> None:
        """Take back one change: the latest life was this one, and another was begun or not."""
        if opened:
            self._rows.pop()
        if latest is not None:
            self._rows[-1] = latest

    def forget(self, now_ms: int) -> None:
        """Drop what is older than three months."""
        self._rows = [row for row in self._rows if now_ms - row.u_time_ms <= LIVES_KEPT_MS]

    def _go_on(self, before: Position, after: Position, fill: Fill) -> None:
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
            # The fee of a match that crosses zero is the new position's, as in its pushes.
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


def _close_type(category: Category, *, is_over: bool) -> CloseType:
    match category:
        case Category.NORMAL:
            return CloseType.FULLY if is_over else CloseType.PARTLY
        case Category.FULL_LIQUIDATION | Category.PARTIAL_LIQUIDATION:
            return CloseType.LIQUIDATION if is_over else CloseType.LIQUIDATION_PARTLY
        case Category.ADL:
            return CloseType.ADL_FULLY if is_over else CloseType.ADL_PARTLY
