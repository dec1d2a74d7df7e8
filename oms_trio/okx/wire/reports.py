"""Arrays of rows as the core's values; pushes and answers of REST share their shapes. Pure.

``tag`` says which orders are ours, for rows that cannot be read (see ``foreign``), and ``note``
is told what was passed over.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from oms_trio.core.model import Fill, Funding, OrderReport, OrdId, PositionReport
from oms_trio.okx.errors import ProtocolError
from oms_trio.okx.wire import fields
from oms_trio.okx.wire.foreign import Note, Rows, is_our_row
from oms_trio.okx.wire.frames import Balance, FillRecord
from oms_trio.okx.wire.liquidation import BILL_TYPES, CLOSES, FUNDING
from oms_trio.okx.wire.rows import (
    SETTLE_CCY,
    AccountRow,
    BillRow,
    CurrencyRow,
    FillRow,
    OrderRow,
    PositionRow,
    balance,
    fee_of,
    fill_record,
    is_our_position,
    order_report,
    position_report,
)

_orders: Final = Rows(OrderRow)
_positions: Final = Rows(PositionRow)
_accounts: Final = Rows(AccountRow)
_currencies: Final = Rows(CurrencyRow)
_fills: Final = Rows(FillRow)
_bills: Final = Rows(BillRow)


def orders_of(
    raw: msgspec.Raw,
    where: str,
    inst_id: str,
    *,
    pushed: bool,
    tag: str | None,
    note: Note,
    by_name: bool = False,
) -> tuple[OrderReport, ...]:
    """Orders of ``inst_id``, ours or not; only a push tells of a fill.

    With ``by_name`` all are ours: they were asked for by our names.
    """

    def translate(row: OrderRow, at: str) -> OrderReport | None:
        if row.inst_id != inst_id:
            return None
        return order_report(row, at, pushed=pushed, note=note)

    def ours(row: Any) -> bool:  # noqa: ANN401 - a row or what says whose it is
        return by_name or (row.inst_id == inst_id and is_our_row(row, tag))

    return _orders.translate(raw, where, translate, ours, note)


def fills_of(
    raw: msgspec.Raw, where: str, inst_id: str, *, tag: str | None, note: Note
) -> tuple[FillRecord, ...]:
    """Fills of ``inst_id``, ours or not."""

    def translate(row: FillRow, at: str) -> FillRecord | None:
        return fill_record(row, at, note=note) if row.inst_id == inst_id else None

    def ours(row: Any) -> bool:  # noqa: ANN401 - a row or what says whose it is
        return row.inst_id == inst_id and is_our_row(row, tag)

    return _fills.translate(raw, where, translate, ours, note)


def positions_of(
    raw: msgspec.Raw, where: str, inst_id: str, note: Note
) -> tuple[PositionReport, ...]:
    """Positions that our orders move: of ``inst_id``, in cross margin."""

    def translate(row: PositionRow, at: str) -> PositionReport | None:
        return position_report(row, at) if is_our_position(row, inst_id) else None

    return _positions.translate(
        raw, where, translate, lambda row: is_our_position(row, inst_id), note
    )


def balance_of(raw: msgspec.Raw, where: str, note: Note) -> Balance | None:
    """USDT in an account. An event lists only what changed, an empty account nothing."""
    for at, account in _accounts.read(raw, where, lambda _: True, note):

        def translate(
            row: CurrencyRow, place: str, account: AccountRow = account
        ) -> Balance | None:
            return balance(row, place, account) if row.ccy == SETTLE_CCY else None

        found = _currencies.translate(
            account.details, f"{at}.details", translate, lambda row: row.ccy == SETTLE_CCY, note
        )
        if found:
            return found[0]
    return None


def bills_of(
    raw: msgspec.Raw, where: str, inst_id: str, *, strict: bool, note: Note
) -> tuple[Funding | FillRecord, ...]:
    """Funding, and matches of the exchange's own orders, of ``inst_id``; other bills are left out.

    All of them move our money, so with ``strict`` each has to be readable.
    """

    def translate(row: BillRow, at: str) -> Funding | FillRecord | None:
        if row.inst_id != inst_id or row.type not in BILL_TYPES:
            return None
        return _funding(row, at, note) if row.type == FUNDING else _close(row, at, note)

    return _bills.translate(
        raw, where, translate, lambda row: strict and row.inst_id == inst_id, note
    )


def _funding(row: BillRow, where: str, note: Note) -> Funding | None:
    if row.ccy != SETTLE_CCY:
        note(ProtocolError(f"{where}.ccy", f"funding in {row.ccy[:32]} is not counted"))
        return None
    return Funding(
        bill_id=fields.integer(row.bill_id, where, "billId"),
        time_ms=fields.time_ms(row.ts, where, "ts"),
        amount=fields.money(row.bal_chg, where, "balChg"),
    )


def _close(row: BillRow, where: str, note: Note) -> FillRecord | None:
    """Read a match from its bill; a transfer of the same type has neither price nor size."""
    if row.sub_type not in CLOSES:
        return None
    px = fields.price_or_none(row.px, where, "px")
    sz = fields.size(row.sz, where, "sz")
    if px is None or not sz:
        return None
    bill_id = fields.required(row.bill_id, where, "billId")
    fill = Fill(
        # Bills and orders share one generator of ids, so a bill's can stand for a missing order's.
        ord_id=OrdId(row.ord_id or bill_id),
        trade_id=fields.trade_id_or_none(row.trade_id, where, "tradeId"),
        px=px,
        sz=sz,
        time_ms=fields.time_ms(row.fill_time or row.ts, where, "fillTime"),
        pnl=fields.money_or_none(row.pnl, where, "pnl"),
        fee=fee_of(row.fee, row.ccy, where, "fee", note),
    )
    return FillRecord(fill, bill_id, sub_type=row.sub_type)
