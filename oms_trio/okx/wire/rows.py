"""Rows of the exchange's ``data`` arrays: their shape on the wire, and their translation into values.

The WebSocket and REST share these shapes. Every field has a default, so that a row of somebody else
never makes ours unreadable; mandatory fields are checked when a row is translated.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from oms_trio.core.model import ClOrdId, Fill, OrderReport, OrdId, PositionReport
from oms_trio.okx.errors import ProtocolError
from oms_trio.okx.wire import fields
from oms_trio.okx.wire.fields import OnIgnored, unreported
from oms_trio.okx.wire.frames import Balance, FillRecord, OpResult

INST_TYPE: Final = "SWAP"
SETTLE_CCY: Final = "USDT"


class _Row(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Fields have the exchange's names; unknown keys are ignored."""


class OrderRow(_Row, frozen=True):
    """An element of an ``orders`` push, or an order object of REST (without ``fillPnl``)."""

    inst_id: str = ""
    ord_id: str = ""
    cl_ord_id: str = ""
    tag: str = ""
    side: str = ""
    ord_type: str = ""
    state: str = ""
    px: str = ""
    sz: str = ""
    acc_fill_sz: str = ""
    avg_px: str = ""
    c_time: str = ""
    u_time: str = ""
    fill_px: str = ""
    fill_sz: str = ""
    fill_time: str = ""
    fill_pnl: str = ""
    fill_fee: str = ""
    fill_fee_ccy: str = ""
    trade_id: str = ""
    cancel_source: str = ""
    category: str = "normal"


class PositionRow(_Row, frozen=True):
    """An element of a ``positions`` push or of ``GET /account/positions``."""

    inst_id: str = ""
    mgn_mode: str = "cross"
    pos: str = ""
    avg_px: str = ""
    upl_ratio: str = ""
    trade_id: str = ""
    u_time: str = ""
    mark_px: str = ""
    funding_fee: str = ""


class CurrencyRow(_Row, frozen=True):
    """One currency of an account."""

    ccy: str = ""
    cash_bal: str = ""
    u_time: str = ""


class AccountRow(_Row, frozen=True):
    """An element of an ``account`` push or of ``GET /account/balance``."""

    u_time: str = ""
    details: msgspec.Raw = msgspec.Raw(b"[]")
    """``CurrencyRow``s, each decoded separately."""


class ResultRow(_Row, frozen=True):
    """An element of the answer to an op."""

    cl_ord_id: str = ""
    ord_id: str = ""
    s_code: str = ""
    s_msg: str = ""
    sub_code: str = ""


class FillRow(_Row, frozen=True):
    """An element of ``GET /trade/fills``."""

    inst_id: str = ""
    ord_id: str = ""
    cl_ord_id: str = ""
    tag: str = ""
    sub_type: str = ""
    bill_id: str = ""
    trade_id: str = ""
    fill_px: str = ""
    fill_sz: str = ""
    fill_time: str = ""
    fill_pnl: str = ""
    fee: str = ""
    fee_ccy: str = ""


class BillRow(_Row, frozen=True):
    """An element of ``GET /account/bills``: one movement of the account's cash."""

    inst_id: str = ""
    ccy: str = ""
    bill_id: str = ""
    type: str = ""
    sub_type: str = ""
    ts: str = ""
    bal_chg: str = ""
    ord_id: str = ""
    trade_id: str = ""
    px: str = ""
    sz: str = ""
    pnl: str = ""
    fee: str = ""
    fill_time: str = ""


def order_report(
    row: OrderRow, where: str, *, pushed: bool, on_ignored: OnIgnored = unreported
) -> OrderReport:
    """Translate an order.

    The ``fill*`` fields of a push are about this report; those of a REST order repeat the last fill,
    which was reported before.
    """
    ord_id = OrdId(fields.required(row.ord_id, where, "ordId"))
    sz = fields.order_size(row.sz, where, "sz")
    acc_fill_sz = fields.size(row.acc_fill_sz, where, "accFillSz")
    if acc_fill_sz > sz:
        raise ProtocolError(f"{where}.accFillSz", f"{acc_fill_sz} filled of an order of {sz}")
    return OrderReport(
        ord_id=ord_id,
        cl_ord_id=ClOrdId(row.cl_ord_id),
        tag=row.tag,
        side=fields.order_side(row.side, where),
        ord_type=row.ord_type,
        state=fields.order_state(row.state, where),
        px=fields.price_or_none(row.px, where, "px"),
        sz=sz,
        acc_fill_sz=acc_fill_sz,
        avg_px=fields.price_or_none(row.avg_px, where, "avgPx"),
        c_time_ms=fields.time_ms(row.c_time, where, "cTime"),
        u_time_ms=fields.time_ms(row.u_time, where, "uTime"),
        fill=_pushed_fill(row, where, ord_id, on_ignored) if pushed else None,
        cancel_source=row.cancel_source,
        category=row.category,
    )


def _pushed_fill(row: OrderRow, where: str, ord_id: OrdId, on_ignored: OnIgnored) -> Fill | None:
    """Translate the fill that a push reports, if there is one."""
    trade_id = fields.trade_id_or_none(row.trade_id, where, "tradeId")
    sz = fields.size(row.fill_sz, where, "fillSz")
    if trade_id is None or not sz:
        return None
    return Fill(
        ord_id=ord_id,
        trade_id=trade_id,
        px=fields.price(row.fill_px, where, "fillPx"),
        sz=sz,
        time_ms=fields.time_ms(row.fill_time, where, "fillTime"),
        pnl=fields.money_or_none(row.fill_pnl, where, "fillPnl"),
        fee=fee_of(row.fill_fee, row.fill_fee_ccy, where, "fillFee", on_ignored),
    )


def fill_record(
    row: FillRow, where: str, *, on_ignored: OnIgnored = unreported
) -> FillRecord | None:
    """Translate a fill of REST; None for a row without a size.

    Every fill of an order has a ``tradeId``; those of the exchange's own orders may lack it.
    """
    sz = fields.size(row.fill_sz, where, "fillSz")
    if not sz:
        return None
    fill = Fill(
        ord_id=OrdId(fields.required(row.ord_id, where, "ordId")),
        trade_id=fields.trade_id_or_none(row.trade_id, where, "tradeId"),
        px=fields.price(row.fill_px, where, "fillPx"),
        sz=sz,
        time_ms=fields.time_ms(row.fill_time, where, "fillTime"),
        pnl=fields.money_or_none(row.fill_pnl, where, "fillPnl"),
        fee=fee_of(row.fee, row.fee_ccy, where, "fee", on_ignored),
    )
    return FillRecord(fill, row.bill_id, row.tag, row.sub_type)


def fee_of(text: str, ccy: str, where: str, name: str, on_ignored: OnIgnored) -> Decimal:
    """Read a fee in the settlement currency; a fee in another one cannot be added and counts as 0."""
    if ccy not in {"", SETTLE_CCY}:
        on_ignored(ProtocolError(f"{where}.{name}", f"a fee in {ccy[:32]} is counted as 0"))
        return fields.NOTHING
    return fields.money(text, where, name) if text else fields.NOTHING


def position_report(row: PositionRow, where: str) -> PositionReport:
    """Translate a net position. A push that closes it has ``pos`` "0" and often no prices."""
    return PositionReport(
        pos=fields.position(row.pos, where, "pos"),
        avg_px=fields.price_or_none(row.avg_px, where, "avgPx"),
        upl_ratio=fields.ratio_or_none(row.upl_ratio, where, "uplRatio"),
        trade_id=fields.trade_id_or_none(row.trade_id, where, "tradeId"),
        u_time_ms=fields.time_ms(row.u_time, where, "uTime"),
        mark_px=fields.price_or_none(row.mark_px, where, "markPx"),
        funding_fee=fields.money_or_none(row.funding_fee, where, "fundingFee"),
    )


def is_our_position(row: PositionRow, inst_id: str) -> bool:
    """Whether a row is the position that our orders change: our instrument, cross margin."""
    return row.inst_id == inst_id and row.mgn_mode == "cross"


def balance(row: CurrencyRow, where: str, account: AccountRow) -> Balance:
    """Translate the cash of one currency."""
    return Balance(
        cash_bal=fields.cash(row.cash_bal, where, "cashBal"),
        u_time_ms=fields.time_ms(row.u_time or account.u_time, where, "uTime"),
    )


def op_result(row: ResultRow) -> OpResult:
    """Translate the answer to one element of an op; a rejected order has no ``ordId``."""
    return OpResult(
        cl_ord_id=ClOrdId(row.cl_ord_id),
        ord_id=OrdId(row.ord_id) if row.ord_id else None,
        s_code=row.s_code,
        s_msg=row.s_msg,
        sub_code=row.sub_code,
    )
