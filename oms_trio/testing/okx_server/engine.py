"""The one mutable state of the simulated exchange: matches, cancellations and what they cause.

Everything here happens at once and synchronously. Events gather while it happens and leave when
the outermost ``deferred`` block ends, so that a transport can decide whether its answer or the
pushes come first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from decimal import Decimal

import attrs

from oms_trio.core.model import Instrument, Side
from oms_trio.settings.clock import Clock
from oms_trio.testing.okx_server.account.bills import (
    FUNDING,
    FUNDING_PAID,
    FUNDING_RECEIVED,
    Bill,
    Bills,
    trade_bill,
)
from oms_trio.testing.okx_server.account.ledger import AccountView, Ledger, PositionView
from oms_trio.testing.okx_server.account.position_history import Lives
from oms_trio.testing.okx_server.account.tiers import liquidated_sz
from oms_trio.testing.okx_server.events import (
    AccountChanged,
    Event,
    OrderChanged,
    PositionChanged,
    Settled,
)
from oms_trio.testing.okx_server.ground_truth import Moment, Truth
from oms_trio.testing.okx_server.market import Level, Market, crosses
from oms_trio.testing.okx_server.numbers import Numbers
from oms_trio.testing.okx_server.orders.book import Book
from oms_trio.testing.okx_server.orders.history import Before, Change, History, OrderStep, Records
from oms_trio.testing.okx_server.values import (
    ZERO,
    CancelSource,
    Category,
    Fill,
    Order,
    OrdType,
    Reported,
    StpMode,
)

Listener = Callable[[Event], None]

_CAUSES = {
    Category.NORMAL: "filled",
    Category.FULL_LIQUIDATION: "liquidation",
    Category.PARTIAL_LIQUIDATION: "liquidation",
    Category.ADL: "adl",
}

RECORD_LAG_MS = 3
"""A fill's record (``ts``) is made this long after its match (``fillTime``)."""


@attrs.define
class Engine:
    """Market, ledger, book and truth, changed together."""

    instrument: Instrument
    clock: Clock
    market: Market
    ledger: Ledger
    truth: Truth
    numbers: Numbers
    steady_clock: Clock
    """Never wrong, unlike ``clock``, which a fault may put forward or back."""
    lives: Lives = attrs.field(factory=Lives, init=False)
    bills: Bills = attrs.field(factory=Bills, init=False)
    history: History = attrs.field(factory=History, init=False)
    book: Book = attrs.field(factory=Book, init=False)
    _listeners: list[Listener] = attrs.field(factory=list, init=False)
    _events: deque[Event] = attrs.field(factory=deque, init=False)
    """Emptied by the outermost ``deferred``: bounded by what one request or tick can cause."""
    _deferrals: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """Let the truth see the account."""
        self.truth.look = self.moment
        self.truth.record_mark(self.steady_clock(), self.market.mark_px)

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
            if not self._deferrals:
                self.truth.record_mark(self.steady_clock(), self.market.mark_px)
            while self._events and not self._deferrals:
                event = self._events.popleft()
                for listener in list(self._listeners):
                    listener(event)

    def moment(self) -> Moment:
        """Return the account as it is now."""
        held = self.ledger.position
        return Moment(
            at_ns=self.steady_clock(),
            now_ms=self.now_ms,
            pos=self.ledger.pos,
            avg_px=held.avg_px if held is not None and held.pos else None,
            cash_bal=self.ledger.cash_bal,
            mark_px=self.market.mark_px,
        )

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

    def store(self, change: OrderChanged) -> None:
        """Keep a new value of an order that no match made, and tell of it."""
        self._store(change)
        self.emit(AccountChanged())

    def cancel(self, order: Order, source: CancelSource) -> None:
        """End an open order."""
        self.store(OrderChanged(order.canceled(source, self.now_ms)))

    def fill(self, order: Order, px: Decimal, sz: Decimal, exec_type: str) -> Order:
        """Match ``sz`` contracts of an order at ``px`` and return its new value."""
        now_ms, ledger, before = self.now_ms, self.ledger, self._before()
        trade_id = self.numbers.next_trade_id()
        is_adl = order.category is Category.ADL
        fee = ZERO if is_adl else ledger.fee(px, sz, exec_type)
        penalty = self._penalty(order, px, sz, fee)
        # What no orders push tells changes the position without a trade of its own.
        keeps_id = is_adl or order.reported is not Reported.PUSHED
        held_id = ledger.position.trade_id if keeps_id and ledger.position else trade_id
        held, moved, pnl = ledger.book(
            order.side,
            px,
            sz,
            fee=fee,
            penalty=penalty,
            trade_id=held_id,
            now_ms=now_ms,
            new_pos_id=self.numbers.next_id(),
        )
        fill = Fill(
            trade_id=-trade_id if is_adl else trade_id,
            bill_id=self.numbers.next_id(),
            ord_id=order.ord_id,
            cl_ord_id=order.cl_ord_id,
            tag=order.tag,
            side=order.side,
            px=px,
            sz=sz,
            fee=fee,
            pnl=pnl + penalty,
            exec_type="" if is_adl else exec_type,
            mark_px=self.market.mark_px,
            idx_px=self.market.idx_px,
            time_ms=now_ms,
            ts_ms=now_ms + RECORD_LAG_MS,
            category=order.category,
            penalty=penalty,
            reported=order.reported,
        )
        self.lives.follow(held, moved, ledger.lever, fill)
        self.bills.add(trade_bill(fill, ledger.cash_bal))
        order = order.filled_by(fill)
        opened_life = moved.pos != 0 and held.pos * moved.pos <= 0
        self._store(OrderChanged(order, fill), before, opened_life=opened_life)
        self.emit(self._settled(_CAUSES[order.category], moved.trade_id))
        self.emit(PositionChanged())
        self.emit(AccountChanged())
        return order

    def take(self, order: Order) -> None:
        """Match a new or amended order with what the market shows, as its type wants."""
        levels = self.market.take(order.side, order.limit_px, order.remaining)
        if order.ord_type is OrdType.FOK and sum(level.sz for level in levels) < order.remaining:
            self.cancel(order, CancelSource.FOK)
            return
        allowed = self._yield_to_own(order, levels)
        if order.ord_type is OrdType.FOK and len(allowed) < len(levels):
            allowed = []
        for level in allowed:
            order = self.fill(order, level.px, level.sz, "T")
        if sum(level.sz for level in allowed) < sum(level.sz for level in levels):
            self.cancel(order, CancelSource.SELF_TRADE)
            return
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

    def liquidate_if_due(self, reported: Reported) -> None:
        """Liquidate while equity does not cover the maintenance margin (``mgnRatio`` 1 or less)."""
        while (
            (held := self.position_view()) is not None
            and held.mgn_ratio is not None
            and held.mgn_ratio <= 1
        ):
            self.liquidate(liquidated_sz(held.position.pos), reported)

    def liquidate(self, sz: Decimal, reported: Reported) -> None:
        """Cancel every open order, then close ``sz`` contracts of the position.

        At the mark price, or at the price at which nothing is left when the mark is beyond it.
        """
        for order in self.book.pending:
            self.cancel(order, CancelSource.RISK)
        pos, px = self.ledger.pos, self.market.mark_px
        if sz < abs(pos):
            self.close_by_force(sz, px, Category.PARTIAL_LIQUIDATION, reported)
            return
        bankrupt = self.ledger.bankruptcy_px()
        px = max(px, bankrupt) if pos > 0 else min(px, bankrupt)
        self.close_by_force(sz, px, Category.FULL_LIQUIDATION, reported)

    def close_by_force(
        self, sz: Decimal, px: Decimal, category: Category, reported: Reported
    ) -> None:
        """Reduce the position by the exchange's risk engine, without a client id and tag.

        Whether the exchange tells this by orders pushes is not documented for certain:
        ``reported`` says how it is this time.
        """
        now_ms = self.now_ms
        order = Order(
            ord_id=self.numbers.next_id(),
            cl_ord_id="",
            tag="",
            side=Side.SELL if self.ledger.pos > 0 else Side.BUY,
            ord_type=OrdType.MARKET,
            px=None,
            limit_px=px,
            sz=sz,
            lever=self.ledger.lever,
            c_time_ms=now_ms,
            u_time_ms=now_ms,
            category=category,
            reported=reported,
        )
        self.store(OrderChanged(order))
        self.fill(order, px, order.sz, "T")

    def fund(self, rate: Decimal) -> None:
        """Settle the funding fee of the open position, if there is one."""
        before = self._before()
        funded = self.ledger.fund(rate, self.market.mark_px, self.now_ms)
        if funded is None:
            return
        position, amount = funded
        self.lives.funded(position)
        bill_id = self.numbers.next_id()
        self.history.record(Change(self.steady_clock(), before, is_billed=True))
        self.truth.record_funding(bill_id, rate, amount)
        self.bills.add(
            Bill(
                bill_id=bill_id,
                bill_type=FUNDING,
                sub_type=FUNDING_RECEIVED if amount > 0 else FUNDING_PAID,
                ts_ms=self.now_ms,
                bal_chg=amount,
                bal=self.ledger.cash_bal,
                px=self.market.mark_px,
                sz=abs(position.pos),
                pnl=amount,
            )
        )
        self.emit(self._settled("funding_fee"))
        self.emit(PositionChanged())
        self.emit(AccountChanged())

    def as_of(self, cutoff_ns: int) -> Engine:
        """Return a copy that shows orders, fills, bills, cash and position of an earlier time."""
        records = self.history.before(
            cutoff_ns, Records(self.book, self.ledger, self.lives, self.bills)
        )
        past = copy(self)
        past.book, past.ledger = records.book, records.ledger
        past.lives, past.bills = records.lives, records.bills
        return past

    def forget(self) -> None:
        """Drop what REST no longer tells of."""
        now_ms = self.now_ms
        if self.book.forget(now_ms):
            self.lives.forget(now_ms)
            self.bills.forget(now_ms)

    def _settled(self, cause: str, trade_id: int = 0) -> Settled:
        ledger = self.ledger
        return Settled(cause, ledger.cash_bal, ledger.u_time_ms, ledger.position, trade_id)

    def _penalty(self, order: Order, px: Decimal, sz: Decimal, fee: Decimal) -> Decimal:
        held = self.ledger.position
        if not order.category.is_liquidation or held is None:
            return ZERO
        _, realised = held.after(order.side, px, sz, self.instrument.multiplier)
        return self.ledger.penalty(px, sz, self.ledger.cash_bal + realised + fee)

    def _before(self) -> Before:
        return Before(attrs.evolve(self.ledger), self.lives.latest)

    def _store(
        self, change: OrderChanged, before: Before | None = None, *, opened_life: bool = False
    ) -> None:
        order, by_fill = change.order, change.fill is not None
        step = OrderStep(
            order,
            self.book.find(order.ord_id, ""),
            self.book.namesake(order.cl_ord_id),
            by_fill=by_fill,
        )
        self.history.record(
            Change(
                self.steady_clock(),
                before or self._before(),
                step,
                is_billed=by_fill,
                opened_life=opened_life,
            )
        )
        self.book.store(order, change.fill)
        self.truth.record(order, change.fill)
        self.emit(change)

    def _yield_to_own(self, taker: Order, levels: list[Level]) -> list[Level]:
        """Keep own orders from trading with each other; return what the taker may still take.

        A maker that yields leaves the book; a taker that yields takes what comes before its own
        order, and is cancelled by the caller.
        """
        met = [
            order
            for order in self.book.pending
            if order.side is not taker.side
            and order.ord_id != taker.ord_id
            and levels
            and crosses(taker.side, levels[-1].px, order.limit_px)
        ]
        if met and taker.stp_mode is not StpMode.CANCEL_TAKER:
            for order in met:
                self.cancel(order, CancelSource.SELF_TRADE)
        if not met or taker.stp_mode is StpMode.CANCEL_MAKER:
            return levels
        return [
            level
            for level in levels
            if not any(crosses(taker.side, level.px, order.limit_px) for order in met)
        ]
