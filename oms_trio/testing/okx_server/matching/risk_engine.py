"""The exchange's risk engine: liquidation, and every other close of a position by force."""

from __future__ import annotations

from decimal import Decimal

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.account.tiers import liquidated_sz
from oms_trio.testing.okx_server.events import OrderChanged
from oms_trio.testing.okx_server.matching.engine import MatchingEngine
from oms_trio.testing.okx_server.values import (
    CancelSource,
    ExchangeOrder,
    OrderCategory,
    OrdType,
    Visibility,
)


def liquidate_if_due(engine: MatchingEngine, visibility: Visibility) -> None:
    """Liquidate while equity does not cover the maintenance margin (``mgnRatio`` 1 or less)."""
    while (
        (view := engine.position_view()) is not None
        and view.mgn_ratio is not None
        and view.mgn_ratio <= 1
    ):
        liquidate(engine, liquidated_sz(view.position.pos), visibility)


def liquidate(engine: MatchingEngine, sz: Decimal, visibility: Visibility) -> None:
    """Cancel every open order, then close ``sz`` contracts of the position.

    They are closed at the mark price, or at the bankruptcy price if the mark price is beyond it.
    """
    for order in engine.book.pending:
        engine.cancel(order, CancelSource.RISK)
    pos, px = engine.ledger.pos, engine.market.mark_px
    if sz < abs(pos):
        close_by_force(engine, sz, px, OrderCategory.PARTIAL_LIQUIDATION, visibility)
        return
    bankruptcy_px = engine.ledger.bankruptcy_px()
    px = max(px, bankruptcy_px) if pos > 0 else min(px, bankruptcy_px)
    close_by_force(engine, sz, px, OrderCategory.FULL_LIQUIDATION, visibility)


def close_by_force(
    engine: MatchingEngine,
    sz: Decimal,
    px: Decimal,
    category: OrderCategory,
    visibility: Visibility,
) -> None:
    """Reduce the position by an order of the exchange, which has neither ``clOrdId`` nor ``tag``.

    Whether the exchange sends orders pushes for it is not documented for certain: ``visibility``
    says what happens this time.
    """
    now_ms = engine.now_ms
    order = ExchangeOrder(
        ord_id=engine.ids.next_id(),
        cl_ord_id="",
        tag="",
        side=Side.SELL if engine.ledger.pos > 0 else Side.BUY,
        ord_type=OrdType.MARKET,
        px=None,
        limit_px=px,
        sz=sz,
        lever=engine.ledger.lever,
        c_time_ms=now_ms,
        u_time_ms=now_ms,
        category=category,
        visibility=visibility,
    )
    engine.store(OrderChanged(order))
    engine.fill(order, px, order.sz, "T")
