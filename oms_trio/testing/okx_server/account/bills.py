"""Every movement of the account's cash: the rows of ``bills``."""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.testing.okx_server.values import ZERO, ExchangeFill, OrderCategory

RECENT_BILLS_MS = 7 * 86_400_000
"""How far back ``bills`` reaches; older rows are in ``bills-archive`` only."""

BILLS_KEPT_MS = 90 * 86_400_000

TRADE = "2"
LIQUIDATION = "5"
ADL = "9"
FUNDING = "8"
FUNDING_PAID = "173"
FUNDING_RECEIVED = "174"

_TYPES = {OrderCategory.NORMAL: TRADE, OrderCategory.ADL: ADL}


@attrs.frozen
class Bill:
    """One movement: the change of cash (``bal_chg``), and the balance after it (``bal``)."""

    bill_id: str
    bill_type: str
    sub_type: str
    ts_ms: int
    bal_chg: Decimal
    bal: Decimal
    px: Decimal
    sz: Decimal
    pnl: Decimal = ZERO
    fill: ExchangeFill | None = None


def trade_bill(fill: ExchangeFill, cash_bal: Decimal) -> Bill:
    """Return the bill of a match, with its profit and its fee."""
    return Bill(
        bill_id=fill.bill_id,
        bill_type=_TYPES.get(fill.category, LIQUIDATION),
        sub_type=fill.sub_type,
        ts_ms=fill.ts_ms,
        bal_chg=fill.pnl + fill.fee,
        bal=cash_bal,
        px=fill.px,
        sz=fill.sz,
        pnl=fill.pnl,
        fill=fill,
    )


@attrs.define
class Bills:
    """The bills of the last three months, oldest first."""

    _rows: list[Bill] = attrs.field(factory=list, init=False)

    @property
    def rows(self) -> list[Bill]:
        """The bills that REST returns."""
        return list(self._rows)

    def add(self, bill: Bill) -> None:
        """Add a bill."""
        self._rows.append(bill)

    def copy(self) -> Bills:
        """Return an independent copy."""
        bills = Bills()
        bills._rows = list(self._rows)
        return bills

    def undo(self) -> None:
        """Undo the latest ``add``."""
        self._rows.pop()

    def drop_expired(self, now_ms: int) -> None:
        """Drop what is older than three months."""
        self._rows = [row for row in self._rows if now_ms - row.ts_ms <= BILLS_KEPT_MS]
