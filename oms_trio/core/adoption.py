"""Orders that no action of this state caused, made into orders of ours so that their fills count.

found on the exchange   with our tag and a name of ours: sent just before a crash
with a category of the exchange's own (liquidation, ADL)
made by us              the difference to the exchange's position, which the operator adopts
"""

from __future__ import annotations

from decimal import Decimal

from oms_trio.core.identity import NO_STATE, is_operators, operators_name, state_id_of
from oms_trio.core.model import (
    CAUSE_OF_CATEGORY,
    Cause,
    ClOrdId,
    ExchangeMs,
    Fill,
    OrderReport,
    OrderType,
    OrdId,
    PositionReport,
    Side,
)
from oms_trio.core.orders import OrderInfo


def order_of_report(report: OrderReport, tag: str, created_ns: int) -> OrderInfo | None:
    """Make an order of a report whose order is not known; None when its fills are not ours."""
    state_id, name, cause = state_id_of(report.cl_ord_id), report.cl_ord_id, Cause.AGENT
    if (exchanges := CAUSE_OF_CATEGORY.get(report.category)) is not None:
        cause, state_id, name = exchanges, NO_STATE, ClOrdId(f"{exchanges.value}{report.ord_id}")
    elif report.tag != tag:
        return None
    elif is_operators(report.cl_ord_id):
        cause, state_id = Cause.OPERATOR, NO_STATE
    elif state_id is None:
        return None
    return OrderInfo(
        state_id=state_id,
        cl_ord_id=name,
        side=report.side,
        ord_type=OrderType.LIMIT if report.px is not None else OrderType.MARKET,
        price=report.px,
        ref_px=report.px or report.avg_px or Decimal(0),
        volume=report.sz,
        created_ns=created_ns,
        expires_at_ns=0,
        okx_order_id=report.ord_id,
        reduce_only=cause is Cause.OPERATOR,
        cause=cause,
    )


def order_by_hand(
    position: PositionReport, difference: Decimal, px: Decimal, now_ns: int, time_ms: ExchangeMs
) -> OrderInfo:
    """Make an order of what the exchange's position is ahead of ours: filled, and not booked yet.

    Its one fill is as of the match that the position names, so that later reports contain it.
    """
    ord_id = OrdId(f"manual{time_ms}")
    return OrderInfo(
        state_id=NO_STATE,
        cl_ord_id=operators_name("manual", now_ns),
        side=Side.BUY if difference > 0 else Side.SELL,
        ord_type=OrderType.MARKET,
        price=None,
        ref_px=px,
        volume=abs(difference),
        created_ns=now_ns,
        expires_at_ns=0,
        okx_order_id=ord_id,
        acc_fill_sz=abs(difference),
        u_time_ms=time_ms,
        derived=Fill(ord_id, position.trade_id, px, abs(difference), time_ms),
        cause=Cause.MANUAL,
    )
