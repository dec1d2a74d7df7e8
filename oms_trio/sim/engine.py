"""The one mutable state of the simulated exchange: matches, cancellations and what they cause.

Everything here happens at once and synchronously. Events gather while it happens and leave when
the outermost ``deferred`` block ends, so that a transport can decide whether its answer or the
pushes come first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from random import Random

import attrs

from oms_trio.clock import Clock
from oms_trio.core.model import Instrument, Side
from oms_trio.sim.book import Book
from oms_trio.sim.events import AccountChanged, Event, OrderChanged, PositionChanged
from oms_trio.sim.ledger import AccountView, Ledger, PositionView
from oms_trio.sim.market import Market, crosses
from oms_trio.sim.truth import Truth
from oms_trio.sim.values import CancelSource, Category, Fill, Order, OrdType

Listener = Callable[[Event], None]

RECORD_LAG_MS = 3
"""A fill's record (``ts``) is made this long after its match (``fillTime``)."""


@attrs.define
class Numbers:
    """The exchange's growing numbers: 19-digit ids, and trade ids shared with the public's."""

    rng: Random
    _id: int = 3967288020668928111
    _trade_id: int = 1640211900

    def next_id(self) -> str:
        """Return the next order, bill or position id."""
        self._id += self.rng.randint(1, 1 << 24)
        return str(self._id)

    def next_trade_id(self) -> int:
        """Return the next trade id; others traded meanwhile, hence gaps."""
        self._trade_id += self.rng.randint(1, 40)
        return self._trade_id


@attrs.define
class Engine:
    """Market, ledger, book and truth, changed together."""

    instrument: Instrument
    clock: Clock
    market: Market
    ledger: Ledger
    truth: Truth
    numbers: Numbers
    book: Book = attrs.field(factory=Book, init=False)
    _listeners: list[Listener] = attrs.field(factory=list, init=False)
    _events: deque[Event] = attrs.field(factory=deque, init=False)
    """Emptied by the outermost ``deferred``: bounded by what one request or tick can cause."""
    _deferrals: int = attrs.field(default=0, init=False)

    @property
    def now_ms(self) -> int:
        """The exchange's clock in Unix milliseconds."""
        return self.clock() // 1_000_000

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Tell ``listener`` of every event while the block runs."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Hold events back until the outermost block ends."""
        self._deferrals += 1
        try:
            yield
        finally:
            self._deferrals -= 1
            while self._events and not self._deferrals:
                event = self._events.popleft()
                for listener in list(self._listeners):
                    listener(event)

    def position_view(self) -> PositionView | None:
        """Price the position now; None when the instrument was never held."""
        market = self.market
        return self.ledger.position_view(
            mark_px=market.mark_px, last=market.last, idx_px=market.idx_px
        )

    def account_view(self) -> AccountView:
        """Price the account now."""
        return self.ledger.account_view(self.position_view(), self.book.pending)

    def emit(self, event: Event) -> None:
        """Queue an event for the end of the outermost ``deferred`` block."""
        assert self._deferrals, "events only arise inside a deferred block"
        self._events.append(event)

    def store(self, order: Order, *, amended: bool = False, req_id: str = "") -> None:
        """Keep a new value of an order that no match made, and tell of it."""
        self._store(OrderChanged(order, amended=amended, req_id=req_id))
        self.emit(AccountChanged())

    def cancel(self, order: Order, source: CancelSource) -> None:
        """End an open order."""
        self.store(order.canceled(source, self.now_ms))

    def fill(self, order: Order, px: Decimal, sz: Decimal, exec_type: str) -> Order:
        """Match ``sz`` contracts of an order at ``px`` and return its new value."""
        now_ms = self.now_ms
        trade_id = self.numbers.next_trade_id()
        fee = self.ledger.fee(px, sz, exec_type)
        pnl = self.ledger.book(
            order.side,
            px,
            sz,
            fee=fee,
            trade_id=trade_id,
            now_ms=now_ms,
            new_pos_id=self.numbers.next_id(),
        )
        fill = Fill(
            trade_id=trade_id,
            bill_id=self.numbers.next_id(),
            ord_id=order.ord_id,
            cl_ord_id=order.cl_ord_id,
            tag=order.tag,
            side=order.side,
            px=px,
            sz=sz,
            fee=fee,
            pnl=pnl,
            exec_type=exec_type,
            mark_px=self.market.mark_px,
            idx_px=self.market.idx_px,
            time_ms=now_ms,
            ts_ms=now_ms + RECORD_LAG_MS,
            category=order.category,
        )
        order = order.filled_by(fill)
        self._store(OrderChanged(order, fill))
        self.emit(PositionChanged())
        self.emit(AccountChanged())
        return order

    def take(self, order: Order) -> None:
        """Match a new or amended order with what the market shows, as its type wants."""
        levels = self.market.take(order.side, order.limit_px, order.remaining)
        if order.ord_type is OrdType.FOK and sum(level.sz for level in levels) < order.remaining:
            self.cancel(order, CancelSource.FOK)
            return
        if levels:
            self._prevent_self_trade(order.side, levels[-1].px)
        for level in levels:
            order = self.fill(order, level.px, level.sz, "T")
        if order.is_open and not order.ord_type.may_rest:
            self.cancel(order, CancelSource.IOC)

    def make(self) -> None:
        """Match resting orders that the market has reached, best price and oldest first."""
        for side in Side:
            best = self.market.best_for(side)
            reached = [
                order
                for order in self.book.pending
                if order.side is side and crosses(side, order.limit_px, best)
            ]
            reached.sort(key=lambda order: -order.side.sign * order.limit_px)
            depth = self.market.depth() if reached else Decimal(0)
            for order in reached:
                part = min(order.remaining, depth)
                depth -= part
                if part:
                    self.fill(order, order.limit_px, part, "M")

    def liquidate_if_due(self) -> None:
        """Close the whole position at the mark price when equity no longer covers it.

        Whether the exchange tells liquidations by orders pushes is not documented for certain;
        here it does, with its category and without a client id.
        """
        held = self.position_view()
        if held is None or held.mgn_ratio is None or held.mgn_ratio > 1:
            return
        for order in self.book.pending:
            self.cancel(order, CancelSource.RISK)
        now_ms = self.now_ms
        order = Order(
            ord_id=self.numbers.next_id(),
            cl_ord_id="",
            tag="",
            side=Side.SELL if held.position.pos > 0 else Side.BUY,
            ord_type=OrdType.MARKET,
            px=None,
            limit_px=held.mark_px,
            sz=abs(held.position.pos),
            lever=held.lever,
            c_time_ms=now_ms,
            u_time_ms=now_ms,
            category=Category.FULL_LIQUIDATION,
        )
        self.store(order)
        self.fill(order, held.mark_px, order.sz, "T")

    def _store(self, change: OrderChanged) -> None:
        self.book.store(change.order, change.fill)
        self.truth.record(change.order, change.fill)
        self.emit(change)

    def _prevent_self_trade(self, taker: Side, reached: Decimal) -> None:
        """Cancel own resting orders that the taker would meet on its way (``cancel_maker``)."""
        for order in self.book.pending:
            if order.side is not taker and crosses(taker, reached, order.limit_px):
                self.cancel(order, CancelSource.SELF_TRADE)
