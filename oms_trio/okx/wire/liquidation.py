"""Liquidation and ADL: the exchange closes our position with orders of its own.

They are reported in up to three places: as orders with a ``category``, as fills with a ``subType``, as
bills with a type. None of the three is guaranteed, and none has a tag or a name of ours. Any one of
them is enough to know the effect on our position.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from oms_trio.core.model import ClOrdId, OrderReport, OrderState, OrdId, Side
from oms_trio.okx.wire.frames import FillRecord

FUNDING: Final = "8"
LIQUIDATION: Final = "5"
ADL: Final = "9"

BILL_TYPES: Final = (FUNDING, LIQUIDATION, ADL)
"""Bills that are queried. Every fill of ours has a bill too, of type 2, but the fill says more."""

CLOSES: Final = {
    "100": ("partial_liquidation", Side.SELL),
    "101": ("partial_liquidation", Side.BUY),
    "102": ("partial_liquidation", Side.BUY),
    "103": ("partial_liquidation", Side.SELL),
    "104": ("full_liquidation", Side.SELL),
    "105": ("full_liquidation", Side.BUY),
    "106": ("full_liquidation", Side.BUY),
    "107": ("full_liquidation", Side.SELL),
    "125": ("adl", Side.SELL),
    "126": ("adl", Side.BUY),
    "127": ("adl", Side.BUY),
    "128": ("adl", Side.SELL),
}
"""``subType`` of a fill or bill: the order's category, and the side on which it traded. The first two
of each group close a long and a short position, the others buy and sell in net mode."""


def missing_from(fills: Iterable[FillRecord], bills: Iterable[FillRecord]) -> list[FillRecord]:
    """Return the bills that no fill corresponds to, neither by its own ids nor by its order."""
    known = list(fills)
    ord_ids = {record.fill.ord_id for record in known}
    bill_ids = {record.bill_id for record in known}
    trade_ids = {record.fill.trade_id for record in known} - {None}
    return [
        bill
        for bill in bills
        if bill.fill.ord_id not in ord_ids
        and bill.bill_id not in bill_ids
        and bill.fill.trade_id not in trade_ids
    ]


def orders_from(records: Iterable[FillRecord]) -> list[OrderReport]:
    """Construct a filled order, without a name of ours, from the fills of each order."""
    by_order: dict[OrdId, list[FillRecord]] = {}
    for record in records:
        by_order.setdefault(record.fill.ord_id, []).append(record)
    return [_order_from(ord_id, of_one) for ord_id, of_one in by_order.items()]


def _order_from(ord_id: OrdId, records: list[FillRecord]) -> OrderReport:
    category, side = CLOSES[records[0].sub_type]
    fills = [record.fill for record in records]
    sz = sum((fill.sz for fill in fills), Decimal(0))
    return OrderReport(
        ord_id=ord_id,
        cl_ord_id=ClOrdId(""),
        tag="",
        side=side,
        ord_type="market",
        state=OrderState.FILLED,
        px=None,
        sz=sz,
        acc_fill_sz=sz,
        avg_px=sum((fill.px * fill.sz for fill in fills), Decimal(0)) / sz,
        c_time_ms=min(fill.time_ms for fill in fills),
        u_time_ms=max(fill.time_ms for fill in fills),
        category=category,
    )
