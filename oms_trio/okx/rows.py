"""Rows of the exchange's ``data`` arrays, as they are on the wire and as the core's values.

The WebSocket and REST share these shapes. Every text has a default, so that a row which is not
ours never spoils those that are; what ours must have is demanded when it is translated.
"""

from __future__ import annotations

from typing import Final

import attrs
import msgspec

from oms_trio.core.model import ClOrdId, Fill, OrderReport, OrdId, PositionReport
from oms_trio.okx import fields
from oms_trio.okx.frames import Balance, OpResult

INST_TYPE: Final = "SWAP"
SETTLE_CCY: Final = "USDT"


class _Row(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Fields go by the exchange's names; keys we do not know are passed over."""


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
    trade_id: str = ""
    cancel_source: str = ""


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


class CurrencyRow(_Row, frozen=True):
    """One currency of an account."""

    ccy: str = ""
    cash_bal: str = ""
    u_time: str = ""


class AccountRow(_Row, frozen=True):
    """An element of an ``account`` push or of ``GET /account/balance``."""

    u_time: str = ""
    details: list[CurrencyRow] = []


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
    side: str = ""
    bill_id: str = ""
    trade_id: str = ""
    fill_px: str = ""
    fill_sz: str = ""
    fill_time: str = ""
    fill_pnl: str = ""


@attrs.frozen
class FillRecord:
    """A fill with what decides whose it is; ``bill_id`` is the cursor of the next page."""

    fill: Fill
    bill_id: str
    cl_ord_id: ClOrdId
    tag: str


def order_report(row: OrderRow, where: str, *, pushed: bool) -> OrderReport:
    """Translate an order.

    Only a push's ``fill*`` fields are about this very report; those of a REST order repeat the
    last fill, which was told before.
    """
    ord_id = OrdId(fields.required(row.ord_id, where, "ordId"))
    return OrderReport(
        ord_id=ord_id,
        cl_ord_id=ClOrdId(row.cl_ord_id),
        tag=row.tag,
        side=fields.order_side(row.side, where),
        ord_type=row.ord_type,
        state=fields.order_state(row.state, where),
        px=fields.decimal_or_none(row.px, where, "px"),
        sz=fields.decimal(row.sz, where, "sz"),
        acc_fill_sz=fields.size(row.acc_fill_sz, where, "accFillSz"),
        avg_px=fields.price_or_none(row.avg_px, where, "avgPx"),
        c_time_ms=fields.integer(row.c_time, where, "cTime"),
        u_time_ms=fields.integer(row.u_time, where, "uTime"),
        fill=_fill_of(row, where, ord_id) if pushed else None,
        cancel_source=row.cancel_source,
    )


def _fill_of(row: OrderRow | FillRow, where: str, ord_id: OrdId) -> Fill | None:
    """Translate the fill that a row tells of, if it tells of one."""
    trade_id = fields.trade_id_or_none(row.trade_id, where, "tradeId")
    sz = fields.size(row.fill_sz, where, "fillSz")
    if trade_id is None or not sz:
        return None
    return Fill(
        ord_id=ord_id,
        trade_id=trade_id,
        px=fields.decimal(row.fill_px, where, "fillPx"),
        sz=sz,
        time_ms=fields.integer(row.fill_time, where, "fillTime"),
        pnl=fields.decimal_or_none(row.fill_pnl, where, "fillPnl"),
    )


def fill_record(row: FillRow, where: str) -> FillRecord | None:
    """Translate a fill; None for one without a ``tradeId`` of its own (the system's orders)."""
    fill = _fill_of(row, where, OrdId(fields.required(row.ord_id, where, "ordId")))
    if fill is None:
        return None
    return FillRecord(fill, row.bill_id, ClOrdId(row.cl_ord_id), row.tag)


def position_report(row: PositionRow, where: str) -> PositionReport:
    """Translate a net position. A closing push has ``pos`` "0" and often no prices."""
    upl_ratio = fields.decimal_or_none(row.upl_ratio, where, "uplRatio")
    return PositionReport(
        pos=fields.decimal(row.pos, where, "pos"),
        avg_px=fields.price_or_none(row.avg_px, where, "avgPx"),
        upl_ratio=None if upl_ratio is None else float(upl_ratio),
        trade_id=fields.trade_id_or_none(row.trade_id, where, "tradeId"),
        u_time_ms=fields.integer(row.u_time, where, "uTime"),
        mark_px=fields.price_or_none(row.mark_px, where, "markPx"),
    )


def is_our_position(row: PositionRow, inst_id: str) -> bool:
    """Tell whether a row is the position that our orders move: our instrument, cross margin."""
    return row.inst_id == inst_id and row.mgn_mode == "cross"


def usdt_balance(rows: list[AccountRow], where: str) -> Balance | None:
    """Find USDT in an account. An event lists only what changed, an empty account nothing."""
    for index, row in enumerate(rows):
        for number, detail in enumerate(row.details):
            if detail.ccy == SETTLE_CCY:
                at = f"{where}[{index}].details[{number}]"
                return Balance(
                    cash_bal=fields.decimal(detail.cash_bal, at, "cashBal"),
                    u_time_ms=fields.integer(detail.u_time or row.u_time, at, "uTime"),
                )
    return None


def op_result(row: ResultRow) -> OpResult:
    """Translate the answer to one element of an op; a refused order has no ``ordId``."""
    return OpResult(
        cl_ord_id=ClOrdId(row.cl_ord_id),
        ord_id=OrdId(row.ord_id) if row.ord_id else None,
        s_code=row.s_code,
        s_msg=row.s_msg,
        sub_code=row.sub_code,
    )
