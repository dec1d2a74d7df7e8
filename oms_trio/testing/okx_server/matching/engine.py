"""The mutable state of the simulated exchange: matches, cancellations and their consequences.

Everything here is synchronous. Events are queued and delivered when the outermost ``deferred``
block ends, so that a transport can decide whether its answer or the pushes come first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from decimal import Decimal

import attrs

from oms_trio.core.model import Instrument, Side
from oms_trio.testing.okx_server.account.bills import (
    FUNDING,
    FUNDING_PAID,
    FUNDING_RECEIVED,
    Bill,
    Bills,
    trade_bill,
)
from oms_trio.testing.okx_server.account.ledger import AccountView, Ledger, PositionView
from oms_trio.testing.okx_server.account.position_history import PositionHistory
from oms_trio.testing.okx_server.clock import Clock
from oms_trio.testing.okx_server.events import (
    AccountChanged,
    BalanceAndPositionChanged,
    ExchangeEvent,
    OrderChanged,
    PositionChanged,
)
from oms_trio.testing.okx_server.ground_truth import AccountSnapshot, GroundTruth
from oms_trio.testing.okx_server.matching.ids import IdGenerator
from oms_trio.testing.okx_server.matching.market import PriceLevel, SimulatedMarket, crosses
from oms_trio.testing.okx_server.matching.order_book import OrderBook
from oms_trio.testing.okx_server.matching.undo_log import (
    AccountBefore,
    AccountRecords,
    OrderUndo,
    UndoEntry,
    UndoLog,
)
from oms_trio.testing.okx_server.values import (
    ZERO,
    CancelSource,
    ExchangeFill,
    ExchangeOrder,
    OrderCategory,
    OrdType,
    StpMode,
    Visibility,
)

Listener = Callable[[ExchangeEvent], None]

_CAUSES = {
    OrderCategory.NORMAL: "filled",
    OrderCategory.FULL_LIQUIDATION: "liquidation",
    OrderCategory.PARTIAL_LIQUIDATION: "liquidation",
    OrderCategory.ADL: "adl",
}

RECORD_LAG_MS = 3
"""How long after its match (``fillTime``) the record of a fill is made (``ts``)."""


@attrs.define
class MatchingEngine:
    """Market, ledger, order book and ground truth, which change together."""

    instrument: Instrument
    clock: Clock
    market: SimulatedMarket
    ledger: Ledger
    ground_truth: GroundTruth
    ids: IdGenerator
    true_clock: Clock
    """Always right, unlike ``clock``, which faults may set forward or back."""
    position_history: PositionHistory = attrs.field(factory=PositionHistory, init=False)
    bills: Bills = attrs.field(factory=Bills, init=False)
    undo_log: UndoLog = attrs.field(factory=UndoLog, init=False)
    book: OrderBook = attrs.field(factory=OrderBook, init=False)
    _listeners: list[Listener] = attrs.field(factory=list, init=False)
    _events: deque[ExchangeEvent] = attrs.field(factory=deque, init=False)
    """Emptied by the outermost ``deferred``: bounded by the effects of one request or tick."""
    _deferrals: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """Connect the ground truth to the account."""
        self.ground_truth.read_account = self.account_now
        self.ground_truth.record_mark(self.true_clock(), self.market.mark_px)

    @property
    def now_ms(self) -> int:
        """The exchange's clock in Unix milliseconds."""
        return self.clock() // 1_000_000

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Call ``listener`` with every event while the block runs."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Queue events until the outermost block ends."""
        self._deferrals += 1
        try:
            yield
        finally:
            self._deferrals -= 1
            if not self._deferrals:
                self.ground_truth.record_mark(self.true_clock(), self.market.mark_px)
            while self._events and not self._deferrals:
                event = self._events.popleft()
                for listener in list(self._listeners):
                    listener(event)

    def account_now(self) -> AccountSnapshot:
        """Return the account as it is now."""
        held = self.ledger.position
        return AccountSnapshot(
            at_ns=self.true_clock(),
            now_ms=self.now_ms,
            pos=self.ledger.pos,
            avg_px=held.avg_px if held is not None and held.pos else None,
            cash_bal=self.ledger.cash_bal,
            mark_px=self.market.mark_px,
        )

    def position_view(self) -> PositionView | None:
        """Return the position at present prices; None if the instrument was never held."""
        market = self.market
        return self.ledger.position_view(
            mark_px=market.mark_px, last=market.last, idx_px=market.idx_px
        )

    def account_view(self) -> AccountView:
        """Return the account at present prices."""
        return self.ledger.account_view(self.position_view(), self.book.pending)

    def emit(self, event: ExchangeEvent) -> None:
        """Queue an event for the end of the outermost ``deferred`` block."""
        assert self._deferrals, "events only arise inside a deferred block"
        self._events.append(event)

    def store(self, change: OrderChanged) -> None:
        """Store a new value of an order that is not due to a match, and emit the change."""
        self._store(change)
        self.emit(AccountChanged())

    def cancel(self, order: ExchangeOrder, source: CancelSource) -> None:
        """Cancel an open order."""
        self.store(OrderChanged(order.canceled(source, self.now_ms)))

    def fill(self, order: ExchangeOrder, px: Decimal, sz: Decimal, exec_type: str) -> ExchangeOrder:
        """Match ``sz`` contracts of an order at ``px`` and return its new value."""
        now_ms, ledger, before = self.now_ms, self.ledger, self._before()
        trade_id = self.ids.next_trade_id()
        is_adl = order.category is OrderCategory.ADL
        fee = ZERO if is_adl else ledger.fee(px, sz, exec_type)
        penalty = self._penalty(order, px, sz, fee)
        # A match without an orders push leaves the position's tradeId as it was.
        keeps_id = is_adl or order.visibility is not Visibility.PUSHED
        held_id = ledger.position.trade_id if keeps_id and ledger.position else trade_id
        held, moved, pnl = ledger.book(
            order.side,
            px,
            sz,
            fee=fee,
            penalty=penalty,
            trade_id=held_id,
            now_ms=now_ms,
            new_pos_id=self.ids.next_id(),
        )
        fill = ExchangeFill(
            trade_id=-trade_id if is_adl else trade_id,
            bill_id=self.ids.next_id(),
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
            visibility=order.visibility,
        )
        self.position_history.record_fill(held, moved, ledger.lever, fill)
        self.bills.add(trade_bill(fill, ledger.cash_bal))
        order = order.filled_by(fill)
        opened_position = moved.pos != 0 and held.pos * moved.pos <= 0
        self._store(OrderChanged(order, fill), before, opened_position=opened_position)
        self.emit(self._balance_and_position(_CAUSES[order.category], moved.trade_id))
        self.emit(PositionChanged())
        self.emit(AccountChanged())
        return order

    def take(self, order: ExchangeOrder) -> None:
        """Match a new or amended order with the market, by the rules of its type."""
        levels = self.market.take(order.side, order.limit_px, order.remaining)
        if order.ord_type is OrdType.FOK and sum(level.sz for level in levels) < order.remaining:
            self.cancel(order, CancelSource.FOK)
            return
        allowed = self._prevent_self_trade(order, levels)
        if order.ord_type is OrdType.FOK and len(allowed) < len(levels):
            allowed = []
        for level in allowed:
            order = self.fill(order, level.px, level.sz, "T")
        if sum(level.sz for level in allowed) < sum(level.sz for level in levels):
            self.cancel(order, CancelSource.SELF_TRADE)
            return
        if order.is_open and not order.ord_type.may_rest:
            self.cancel(order, CancelSource.IOC)

    def match_resting(self) -> None:
        """Match resting orders that the market has reached, by price, then by age."""
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

    def fund(self, rate: Decimal) -> None:
        """Settle the funding fee of the open position, if there is one."""
        before = self._before()
        funded = self.ledger.fund(rate, self.market.mark_px, self.now_ms)
        if funded is None:
            return
        position, amount = funded
        self.position_history.record_funding(position)
        bill_id = self.ids.next_id()
        self.undo_log.record(UndoEntry(self.true_clock(), before, is_billed=True))
        self.ground_truth.record_funding(bill_id, rate, amount)
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
        self.emit(self._balance_and_position("funding_fee"))
        self.emit(PositionChanged())
        self.emit(AccountChanged())

    def as_of(self, cutoff_ns: int) -> MatchingEngine:
        """Return a copy with the orders, fills, bills, cash and position of an earlier time."""
        records = self.undo_log.before(
            cutoff_ns, AccountRecords(self.book, self.ledger, self.position_history, self.bills)
        )
        past = copy(self)
        past.book, past.ledger = records.book, records.ledger
        past.position_history, past.bills = records.position_history, records.bills
        return past

    def drop_expired(self) -> None:
        """Drop what REST no longer returns."""
        now_ms = self.now_ms
        if self.book.drop_expired(now_ms):
            self.position_history.drop_expired(now_ms)
            self.bills.drop_expired(now_ms)

    def _balance_and_position(self, cause: str, trade_id: int = 0) -> BalanceAndPositionChanged:
        ledger = self.ledger
        return BalanceAndPositionChanged(
            cause, ledger.cash_bal, ledger.u_time_ms, ledger.position, trade_id
        )

    def _penalty(self, order: ExchangeOrder, px: Decimal, sz: Decimal, fee: Decimal) -> Decimal:
        held = self.ledger.position
        if not order.category.is_liquidation or held is None:
            return ZERO
        _, realised = held.after(order.side, px, sz, self.instrument.multiplier)
        return self.ledger.penalty(px, sz, self.ledger.cash_bal + realised + fee)

    def _before(self) -> AccountBefore:
        return AccountBefore(attrs.evolve(self.ledger), self.position_history.latest)

    def _store(
        self,
        change: OrderChanged,
        before: AccountBefore | None = None,
        *,
        opened_position: bool = False,
    ) -> None:
        order, by_fill = change.order, change.fill is not None
        step = OrderUndo(
            order,
            self.book.find(order.ord_id, ""),
            self.book.latest_ord_id(order.cl_ord_id),
            by_fill=by_fill,
        )
        self.undo_log.record(
            UndoEntry(
                self.true_clock(),
                before or self._before(),
                step,
                is_billed=by_fill,
                opened_position=opened_position,
            )
        )
        self.book.store(order, change.fill)
        self.ground_truth.record(order, change.fill)
        self.emit(change)

    def _prevent_self_trade(
        self, taker: ExchangeOrder, levels: list[PriceLevel]
    ) -> list[PriceLevel]:
        """Prevent own orders from trading with each other; return the levels the taker may take.

        Depending on ``stpMode`` the makers are cancelled here, or the taker gets only the levels
        before its own order and is cancelled by the caller, or both.
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
