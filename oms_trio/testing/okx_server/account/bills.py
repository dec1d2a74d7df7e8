"""Every movement of the account's cash: the rows of ``bills``."""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.testing.okx_server.values import ZERO, Category, Fill

RECENT_BILLS_MS = 7 * 86_400_000
"""How far back ``bills`` reaches; older ones are in ``bills-archive``."""

BILLS_KEPT_MS = 90 * 86_400_000

TRADE = "2"
LIQUIDATION = "5"
ADL = "9"
FUNDING = "8"
FUNDING_PAID = "173"
FUNDING_RECEIVED = "174"

_TYPES = {Category.NORMAL: TRADE, Category.ADL: ADL}


@attrs.frozen
class Bill:
    """One movement; ``bal_chg`` is what it did to the cash, ``bal`` what there was then."""

    bill_id: str
    bill_type: str
    sub_type: str
    ts_ms: int
    bal_chg: Decimal
    bal: Decimal
    px: Decimal
    sz: Decimal
    pnl: Decimal = ZERO
    fill: Fill | None = None


def trade_bill(fill: Fill, cash_bal: Decimal) -> Bill:
    """Return the bill of a match: profit and fee in one."""
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
        """Every bill still told of."""
        return list(self._rows)

    def add(self, bill: Bill) -> None:
        """Keep one more."""
        self._rows.append(bill)

    def copy(self) -> Bills:
        """Return bills that can change without these."""
        bills = Bills()
        bills._rows = list(self._rows)
        return bills

    def undo(self) -> None:
        """Take back the latest bill."""
        self._rows.pop()

    def forget(self, now_ms: int) -> None:
        """Drop what is older than three months."""
        self._rows = [row for row in self._rows if now_ms - row.ts_ms <= BILLS_KEPT_MS]
