"""Reads the exchange's arrays of rows as values; pushes and answers of REST share their shapes. Pure.

Somebody else may trade on the account, and the exchange adds states and types without notice. Rows are
therefore read one by one: an unreadable row is ignored, counted, and logged once per kind, unless it is
ours. Then it is an error, because its content would be lost.

    ours     carries our tag or a name of ours, or is an order of the exchange on our position

The rows of a journal record were read before it was written, so a row that is unreadable in a record
was ignored when it arrived: with ``tag`` None nothing is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import attrs
import msgspec
import structlog

from oms_trio.core.identity import state_id_of
from oms_trio.core.model import (
    CAUSE_OF_CATEGORY,
    Fill,
    Funding,
    OrderReport,
    OrdId,
    PositionReport,
)
from oms_trio.okx.errors import OurRowUnreadableError, ProtocolError
from oms_trio.okx.wire import fields
from oms_trio.okx.wire.fields import OnIgnored
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

log = structlog.get_logger()

KINDS: Final = 100
"""Kinds of ignored rows that are logged. Their texts contain values of the exchange, of which there
may be any number."""

_Row = TypeVar("_Row", bound=msgspec.Struct)
_T = TypeVar("_T")


@attrs.define
class IgnoredRows:
    """Counts what is ignored, and logs the first of each kind."""

    count: int = 0
    _kinds: set[tuple[str, str]] = attrs.Factory(set)

    def __call__(self, error: ProtocolError) -> None:
        """Count one, and log it if it is the first of its kind."""
        self.count += 1
        kind = error.path.rpartition(".")[2], error.why
        if kind not in self._kinds and len(self._kinds) < KINDS:
            self._kinds.add(kind)
            log.warning("okx_row_ignored", path=error.path, why=error.why, count=self.count)


class _OwnerRow(msgspec.Struct, frozen=True, rename="camel"):
    """The fields that show whose a row is; the other fields may be anything."""

    inst_id: Any = ""
    ord_id: Any = ""
    cl_ord_id: Any = ""
    tag: Any = ""
    category: Any = ""
    sub_type: Any = ""
    mgn_mode: Any = "cross"
    ccy: Any = ""


_raw_rows: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_owner_row: Final = msgspec.json.Decoder(_OwnerRow).decode


class RowReader(Generic[_Row]):
    """Reads an array of rows of one type."""

    def __init__(self, row: type[_Row]) -> None:
        self._whole = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]
        self._single = msgspec.json.Decoder(row).decode

    def read(
        self, raw: msgspec.Raw, where: str, ours: Callable[[Any], bool], on_ignored: OnIgnored
    ) -> list[tuple[str, _Row]]:
        """Return the rows with their paths; unreadable rows that are not ``ours`` are left out.

        Raises:
            ProtocolError: it is not an array.
            OurRowUnreadableError: a row of ours does not have its documented shape.
        """
        try:
            rows = self._whole(raw)
        except msgspec.DecodeError:
            return self._read_one_by_one(raw, where, ours, on_ignored)
        return [(f"{where}[{index}]", row) for index, row in enumerate(rows)]

    def _read_one_by_one(
        self, raw: msgspec.Raw, where: str, ours: Callable[[Any], bool], on_ignored: OnIgnored
    ) -> list[tuple[str, _Row]]:
        read: list[tuple[str, _Row]] = []
        for index, one in enumerate(fields.decoding(_raw_rows, raw, where)):
            at = f"{where}[{index}]"
            try:
                read.append((at, fields.decoding(self._single, one, at)))
            except ProtocolError as error:
                _ignore_row(fields.decoding(_owner_row, one, at), error, ours, on_ignored)
        return read

    def translate(
        self,
        raw: msgspec.Raw,
        where: str,
        translate: Callable[[_Row, str], _T | None],
        ours: Callable[[Any], bool],
        on_ignored: OnIgnored,
    ) -> tuple[_T, ...]:
        """Translate the rows; without those that become None, or are unreadable and not ``ours``.

        Raises:
            ProtocolError: it is not an array.
            OurRowUnreadableError: a row of ours cannot be translated.
        """
        values: list[_T] = []
        for at, row in self.read(raw, where, ours, on_ignored):
            try:
                value = translate(row, at)
            except ProtocolError as error:
                _ignore_row(row, error, ours, on_ignored)
            else:
                if value is not None:
                    values.append(value)
        return tuple(values)


def _ignore_row(
    row: Any,  # noqa: ANN401 - any row
    error: ProtocolError,
    ours: Callable[[Any], bool],
    on_ignored: OnIgnored,
) -> None:
    """Ignore an unreadable row, unless it is ours.

    Raises:
        OurRowUnreadableError: it is ours; the error names the order.
    """
    if not ours(row):
        on_ignored(error)
        return
    names = [str(getattr(row, name, "")) for name in ("ord_id", "cl_ord_id")]
    named = " ".join(name[:32] for name in names if name)
    why = f"{error.why} (our row {named})" if named else error.why
    raise OurRowUnreadableError(error.path, why)


def _is_ours(row: Any, inst_id: str, tag: str | None) -> bool:  # noqa: ANN401 - OrderRow, FillRow or _OwnerRow
    """Whether a row of orders or fills is ours: by our ``tag``, by its name, or as the exchange's order."""
    if tag is None or row.inst_id != inst_id:
        return False
    return (
        bool(tag and row.tag == tag)
        or (isinstance(row.cl_ord_id, str) and state_id_of(row.cl_ord_id) is not None)
        or getattr(row, "category", "") in CAUSE_OF_CATEGORY
        or getattr(row, "sub_type", "") in CLOSES
    )


_orders: Final = RowReader(OrderRow)
_positions: Final = RowReader(PositionRow)
_accounts: Final = RowReader(AccountRow)
_currencies: Final = RowReader(CurrencyRow)
_fills: Final = RowReader(FillRow)
_bills: Final = RowReader(BillRow)


def orders_of(
    raw: msgspec.Raw,
    where: str,
    inst_id: str,
    *,
    pushed: bool,
    tag: str | None,
    on_ignored: OnIgnored,
    by_name: bool = False,
) -> tuple[OrderReport, ...]:
    """Orders of ``inst_id``, ours or not; only pushed ones report a fill.

    With ``by_name`` all are ours, because they were queried by our names.
    """

    def translate(row: OrderRow, at: str) -> OrderReport | None:
        if row.inst_id != inst_id:
            return None
        return order_report(row, at, pushed=pushed, on_ignored=on_ignored)

    def ours(row: Any) -> bool:  # noqa: ANN401 - OrderRow or _OwnerRow
        return by_name or _is_ours(row, inst_id, tag)

    return _orders.translate(raw, where, translate, ours, on_ignored)


def fills_of(
    raw: msgspec.Raw, where: str, inst_id: str, *, tag: str | None, on_ignored: OnIgnored
) -> tuple[FillRecord, ...]:
    """Fills of ``inst_id``, ours or not."""

    def translate(row: FillRow, at: str) -> FillRecord | None:
        return fill_record(row, at, on_ignored=on_ignored) if row.inst_id == inst_id else None

    return _fills.translate(
        raw, where, translate, lambda row: _is_ours(row, inst_id, tag), on_ignored
    )


def positions_of(
    raw: msgspec.Raw, where: str, inst_id: str, on_ignored: OnIgnored
) -> tuple[PositionReport, ...]:
    """Positions that our orders change: of ``inst_id``, in cross margin."""

    def translate(row: PositionRow, at: str) -> PositionReport | None:
        return position_report(row, at) if is_our_position(row, inst_id) else None

    return _positions.translate(
        raw, where, translate, lambda row: is_our_position(row, inst_id), on_ignored
    )


def balance_of(raw: msgspec.Raw, where: str, on_ignored: OnIgnored) -> Balance | None:
    """USDT in an account. An event lists only what has changed, an empty account nothing."""
    for at, account in _accounts.read(raw, where, lambda _: True, on_ignored):

        def translate(row: CurrencyRow, path: str, account: AccountRow = account) -> Balance | None:
            return balance(row, path, account) if row.ccy == SETTLE_CCY else None

        found = _currencies.translate(
            account.details,
            f"{at}.details",
            translate,
            lambda row: row.ccy == SETTLE_CCY,
            on_ignored,
        )
        if found:
            return found[0]
    return None


def bills_of(
    raw: msgspec.Raw, where: str, inst_id: str, *, strict: bool, on_ignored: OnIgnored
) -> tuple[Funding | FillRecord, ...]:
    """Funding and fills of the exchange's own orders, of ``inst_id``; other bills are left out.

    All of them change our cash, so with ``strict`` each must be readable.
    """

    def translate(row: BillRow, at: str) -> Funding | FillRecord | None:
        if row.inst_id != inst_id or row.type not in BILL_TYPES:
            return None
        read = _funding if row.type == FUNDING else _fill_of_bill
        return read(row, at, on_ignored)

    return _bills.translate(
        raw, where, translate, lambda row: strict and row.inst_id == inst_id, on_ignored
    )


def _funding(row: BillRow, where: str, on_ignored: OnIgnored) -> Funding | None:
    if row.ccy != SETTLE_CCY:
        on_ignored(ProtocolError(f"{where}.ccy", f"funding in {row.ccy[:32]} is not counted"))
        return None
    return Funding(
        bill_id=fields.integer(row.bill_id, where, "billId"),
        time_ms=fields.time_ms(row.ts, where, "ts"),
        amount=fields.money(row.bal_chg, where, "balChg"),
    )


def _fill_of_bill(row: BillRow, where: str, on_ignored: OnIgnored) -> FillRecord | None:
    """Read a fill from its bill; a transfer of the same type has neither price nor size."""
    if row.sub_type not in CLOSES:
        return None
    px = fields.price_or_none(row.px, where, "px")
    sz = fields.size(row.sz, where, "sz")
    if px is None or not sz:
        return None
    bill_id = fields.required(row.bill_id, where, "billId")
    fill = Fill(
        # Bills and orders have ids of one sequence, so a bill's id can replace a missing order's.
        ord_id=OrdId(row.ord_id or bill_id),
        trade_id=fields.trade_id_or_none(row.trade_id, where, "tradeId"),
        px=px,
        sz=sz,
        time_ms=fields.time_ms(row.fill_time or row.ts, where, "fillTime"),
        pnl=fields.money_or_none(row.pnl, where, "pnl"),
        fee=fee_of(row.fee, row.ccy, where, "fee", on_ignored),
    )
    return FillRecord(fill, bill_id, sub_type=row.sub_type)
