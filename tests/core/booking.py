"""A book with orders and fills made up for it, for tests of what a fill does to a trade."""

from __future__ import annotations

from decimal import Decimal, localcontext
from itertools import count
from typing import Literal

import attrs

from oms_trio.core.book import Book
from oms_trio.core.effects import Publication, PublishClosure, PublishExecution
from oms_trio.core.model import (
    Cause,
    ClOrdId,
    Fill,
    Funding,
    OrderType,
    OrdId,
    Rules,
    Side,
    StateId,
    TradeId,
)
from oms_trio.core.orders import OrderInfo
from oms_trio.core.state import ARITHMETIC
from tests.core.desk import BTC, RULES

TAKER = Decimal("0.0005")


def taker_fee(px: Decimal, sz: Decimal) -> Decimal:
    """What the exchange charges for a match, as it writes it: below 0."""
    return -TAKER * px * sz * BTC.multiplier


@attrs.define
class Booking:
    """Orders with state ids 1, 2, 3 ..., fills with trade ids and milliseconds 1, 2, 3 ..."""

    rules: Rules = RULES
    book: Book = attrs.Factory(Book)
    now_ms: int = 0
    told: list[Publication] = attrs.Factory(list)
    _state_ids: count[int] = attrs.field(factory=lambda: count(1), init=False)

    def order(
        self, ord_id: str, side: Side, volume: str | Decimal, cause: Cause = Cause.AGENT
    ) -> OrderInfo:
        """An order that the exchange has named."""
        return OrderInfo(
            state_id=StateId(next(self._state_ids)),
            cl_ord_id=ClOrdId(f"c{ord_id}"),
            side=side,
            ord_type=OrderType.MARKET,
            price=None,
            ref_px=Decimal(67000),
            volume=Decimal(volume),
            created_ns=0,
            expires_at_ns=0,
            okx_order_id=OrdId(ord_id),
            cause=cause,
        )

    def fill(
        self,
        order: OrderInfo,
        sz: str | Decimal,
        px: str | Decimal,
        *,
        fees: bool = False,
        pnl: str | None = None,
        trade_id: int | Literal["next"] | None = "next",
        time_ms: int | None = None,
    ) -> list[Publication]:
        """Book a match of an order; by default its trade id is its millisecond."""
        self.now_ms = self.now_ms + 1 if time_ms is None else time_ms
        number = self.now_ms if trade_id == "next" else trade_id
        size, price = Decimal(sz), Decimal(px)
        assert order.okx_order_id is not None
        fill = Fill(
            ord_id=order.okx_order_id,
            trade_id=None if number is None else TradeId(number),
            px=price,
            sz=size,
            time_ms=self.now_ms,
            pnl=None if pnl is None else Decimal(pnl),
            fee=taker_fee(price, size) if fees else Decimal(0),
        )
        order.filled_size += size
        order.filled_cost += size * price
        with localcontext(ARITHMETIC):
            effects = self.book.take(order, fill, BTC.multiplier, self.rules)
        published = [one for one in effects if isinstance(one, PublishExecution | PublishClosure)]
        self.told += published
        return list(published)

    def funding(self, bill_id: int, amount: str, time_ms: int) -> None:
        """Take in a funding payment."""
        self.book.note_funding(Funding(bill_id, time_ms, Decimal(amount)))

    @property
    def closures(self) -> list[PublishClosure]:
        """The closures published so far."""
        return [one for one in self.told if isinstance(one, PublishClosure)]
