"""The orders of this account that are ours: the deque, the state table, fills not yet booked.

    to:                 live  partially_filled  filled  canceled  rejected
    from pending        yes   yes               yes     yes       yes
         live                 yes               yes     yes
         partially_filled     yes               yes     yes
         rejected       yes   yes               yes     yes

Everything else is a late or repeated report and changes no state: the first terminal state
counts. ``rejected`` is our inference (a rejection, or no trace of the order after its expiry), and so
is a cancellation that only its absence shows (``inferred``): evidence overrules both. An order leaves the deque when it has ended *and* its fills
are booked; a bounded number of ended orders stays findable for late reports.

Fills are booked by size: an order is reported to have filled ``acc_fill_sz`` contracts, has
``filled_size`` of them booked, and ``held`` those that are reported but wait for an earlier one. What
would take it above ``acc_fill_sz`` is contained in what was booked: a repeat, or matches that
were merged in one push.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from heapq import merge
from itertools import islice

import attrs

from oms_trio.core.model import (
    NEVER,
    CancelState,
    Cause,
    ClOrdId,
    ExchangeMs,
    Fill,
    OrderReport,
    OrderState,
    OrderType,
    OrdId,
    Side,
    StateId,
    TradeId,
    keep_newest,
)

ZERO = Decimal(0)

PENDING, LIVE, PARTIAL, FILLED, CANCELED, REJECTED = OrderState

MOVES: dict[OrderState, frozenset[OrderState]] = {
    PENDING: frozenset({LIVE, PARTIAL, FILLED, CANCELED, REJECTED}),
    LIVE: frozenset({PARTIAL, FILLED, CANCELED}),
    PARTIAL: frozenset({PARTIAL, FILLED, CANCELED}),
    FILLED: frozenset(),
    CANCELED: frozenset(),
    REJECTED: frozenset({LIVE, PARTIAL, FILLED, CANCELED}),
}
TERMINAL = frozenset({FILLED, CANCELED, REJECTED})

ENDED_KEPT = 4096
"""Ended orders kept for late reports: over a minute of them at the exchange's rate limit."""


@attrs.define
class OrderInfo:
    """One order. Sizes in contracts, prices in USDT.

    ``volume`` is the size sent, ``price`` the limit price (None for a market order), ``ref_px``
    what it was sized by. ``awaiting_ack`` says that a request is on its way and unanswered, ``outcome_unknown``
    that its outcome is unknown, ``verify_before_send`` that it must be looked up before it may be sent.

    ``exp_time_ms`` is the ``expTime`` it was sent with, ``seen_ms`` when the exchange last listed it
    as pending; both by the exchange's clock. ``inferred`` says that its end is our conclusion, which
    later evidence overrules. ``cause`` is who caused it.
    """

    state_id: StateId
    cl_ord_id: ClOrdId
    side: Side
    ord_type: OrderType
    price: Decimal | None
    ref_px: Decimal
    volume: Decimal
    created_ns: int
    expires_at_ns: int
    okx_order_id: OrdId | None = None
    order_state: OrderState = OrderState.PENDING
    filled_size: Decimal = ZERO
    filled_cost: Decimal = ZERO
    acc_fill_sz: Decimal = ZERO
    acc_cost: Decimal | None = None
    u_time_ms: int = 0
    last_trade_id: TradeId | None = None
    held: dict[TradeId, Fill] = attrs.Factory(dict)
    derived: Fill | None = None
    gap_asked: int = 0
    gap_due_ns: int = 0
    awaiting_ack: bool = False
    outcome_unknown: bool = False
    verify_before_send: bool = False
    reduce_only: bool = False
    cause: Cause = Cause.AGENT
    exp_time_ms: ExchangeMs = NEVER
    seen_ms: ExchangeMs = NEVER
    inferred: bool = False
    look_up_due_ns: int = 0
    retry_due_ns: int | None = None
    cancel_state: CancelState = CancelState.NONE
    cancel_due_ns: int = 0

    @property
    def has_okx_id(self) -> bool:
        """Whether the exchange has named the order."""
        return self.okx_order_id is not None

    @property
    def is_filled(self) -> bool:
        """Whether all of the order has filled and is booked."""
        return self.filled_size >= self.volume

    @property
    def avg_fill_price(self) -> Decimal | None:
        """The average price of what is booked, None before the first fill."""
        return self.filled_cost / self.filled_size if self.filled_size else None

    @property
    def execution_percentage(self) -> float:
        """The part of the volume that is booked, in percent."""
        return float(self.filled_size / self.volume * 100)

    def resolve(self) -> None:
        """Wait for no answer any more: there is evidence of what became of the order."""
        self.outcome_unknown = self.verify_before_send = self.awaiting_ack = False
        self.retry_due_ns = None

    @property
    def ended(self) -> bool:
        """Whether the order is in a terminal state."""
        return self.order_state in TERMINAL

    @property
    def missing(self) -> Decimal:
        """Contracts that are reported to have filled and are neither booked nor held."""
        held = sum((fill.sz for fill in self.held.values()), ZERO) if self.held else ZERO
        if self.derived is not None:
            held += self.derived.sz
        return self.acc_fill_sz - self.filled_size - held

    def contains(self, trade_id: TradeId) -> bool:
        """Whether a match is booked or held already, as far as its id shows."""
        last = self.last_trade_id
        return trade_id in self.held or (last is not None and 0 < trade_id <= last)

    @property
    def exposure(self) -> Decimal:
        """Contracts by which this order may still change the position we have booked."""
        if self.ended:
            return self.acc_fill_sz - self.filled_size
        return self.volume - self.filled_size


@attrs.define
class Orders:
    """All orders by our name, in the order of creation; the open ones apart from the ended."""

    open: dict[ClOrdId, OrderInfo] = attrs.Factory(dict)
    ended: dict[ClOrdId, OrderInfo] = attrs.Factory(dict)
    names: dict[OrdId, ClOrdId] = attrs.Factory(dict)
    exposure: dict[Side, Decimal] = attrs.Factory(lambda: {Side.BUY: ZERO, Side.SELL: ZERO})
    waiting: dict[ClOrdId, None] = attrs.Factory(dict)
    """Orders with held fills or a gap: the usual case has one, or none."""
    forgotten_ms: int = 0
    """The latest time of change of any order that was forgotten."""
    changed: dict[ClOrdId, None] = attrs.Factory(dict)
    """Orders that may have become settled, so that nobody walks over all of them."""

    def __len__(self) -> int:
        return len(self.open)

    def __iter__(self) -> Iterator[OrderInfo]:
        return iter(self.open.values())

    def find(self, cl_ord_id: ClOrdId | None, ord_id: OrdId | None = None) -> OrderInfo | None:
        """Return an open or ended order by the exchange's name, else by ours."""
        if ord_id is not None and ord_id in self.names:
            cl_ord_id = self.names[ord_id]
        if cl_ord_id is None:
            return None
        return self.open.get(cl_ord_id) or self.ended.get(cl_ord_id)

    def youngest_named(self) -> OrderInfo | None:
        """Return the order that has changed last, of the youngest open and the youngest ended one."""
        found = [
            order
            for orders in (self.open, self.ended)
            if (order := next(reversed(orders.values()), None)) is not None
            and order.has_okx_id
            and order.cause in {Cause.AGENT, Cause.OPERATOR}  # others cannot be looked up by name
        ]
        return max(found, key=lambda order: order.u_time_ms, default=None)

    def add(self, order: OrderInfo) -> None:
        """Take in a new order; its exposure counts from now on."""
        self.open[order.cl_ord_id] = order
        self.exposure[order.side] += order.exposure
        if order.okx_order_id is not None:
            self.names[order.okx_order_id] = order.cl_ord_id

    def bind(self, order: OrderInfo, ord_id: OrdId) -> bool:
        """Connect an order with the exchange's name; False when it has another one already."""
        if order.okx_order_id is None:
            order.okx_order_id = ord_id
            self.names[ord_id] = order.cl_ord_id
        return order.okx_order_id == ord_id

    def move(self, order: OrderInfo, state: OrderState) -> bool:
        """Change the state where the table allows it; False for a late or repeated report."""
        inferred = order.inferred or order.order_state is REJECTED
        if state not in MOVES[REJECTED if inferred else order.order_state]:
            return False
        before = order.exposure
        if inferred:
            self.ended.pop(order.cl_ord_id, None)
            self.open[order.cl_ord_id] = order
        order.order_state, order.inferred = state, False
        self.changed[order.cl_ord_id] = None
        if state is CANCELED and order.cancel_state is not CancelState.NONE:
            order.cancel_state = CancelState.CONFIRMED
        self.exposure[order.side] += order.exposure - before
        return True

    def learn(self, order: OrderInfo, report: OrderReport) -> None:
        """Note the order's size and how much of it has filled, which never shrinks."""
        before = order.exposure
        order.volume = report.sz
        order.u_time_ms = max(order.u_time_ms, report.u_time_ms)
        if report.acc_fill_sz > order.acc_fill_sz:
            order.acc_fill_sz = report.acc_fill_sz
            order.acc_cost = None if report.avg_px is None else report.avg_px * report.acc_fill_sz
            self.waiting[order.cl_ord_id] = None
        self.exposure[order.side] += order.exposure - before

    def grow(self, order: OrderInfo, fill: Fill) -> None:
        """Note that an order has filled further than was reported, by this fill."""
        match = fill.trade_id
        if match is None or order.contains(match):
            return
        growth = min(fill.sz - order.missing, order.volume - order.acc_fill_sz)
        if growth > 0:
            before = order.exposure
            order.acc_fill_sz += growth
            order.acc_cost = None
            self.waiting[order.cl_ord_id] = None
            self.exposure[order.side] += order.exposure - before

    def hold(self, order: OrderInfo, fill: Fill) -> None:
        """Keep a reported fill until everything before it is booked.

        An order's fills are booked in the order of their growing trade ids, so one at or below
        the last is contained in what is booked; so is one that does not fit into what is missing.
        """
        match = fill.trade_id
        if match is None or order.contains(match):
            return
        if fill.sz <= order.missing:
            order.held[match] = fill

    def book(self, order: OrderInfo, fill: Fill) -> None:
        """Count a fill, once."""
        before = order.exposure
        order.filled_size += fill.sz
        order.filled_cost += fill.px * fill.sz
        order.acc_fill_sz = max(order.acc_fill_sz, order.filled_size)
        if fill.trade_id is not None and fill.trade_id > 0:
            order.last_trade_id = fill.trade_id
        self.changed[order.cl_ord_id] = None
        self.exposure[order.side] += order.exposure - before

    def settle(self) -> None:
        """Move orders that have ended and are wholly booked out of the deque."""
        for name in self.changed:
            order = self.open.get(name)
            if order is None or not order.ended or order.held or order.missing:
                continue
            del self.open[name]
            self.ended[name] = order
        self.changed.clear()
        kept = keep_newest(self.ended, ENDED_KEPT)
        if kept is not self.ended:
            self._forget(islice(self.ended.values(), len(self.ended) - len(kept)))
            self.ended = kept

    def _forget(self, orders: Iterable[OrderInfo]) -> None:
        for order in orders:
            self.forgotten_ms = max(self.forgotten_ms, order.u_time_ms)
            if order.okx_order_id is not None:
                self.names.pop(order.okx_order_id, None)


def in_execution_order(fills: Iterable[Fill]) -> list[Fill]:
    """Sort fills as they happened: by their growing trade ids.

    Times alone would not do: the exchange's clock may be put back between two matches. They show
    only where those come in that no trade id orders: what the risk engine made has negative numbers
    of another series, and a derived fill has none.
    """
    numbered: list[Fill] = []
    others: list[Fill] = []
    for fill in fills:
        (numbered if (fill.trade_id or 0) > 0 else others).append(fill)
    numbered.sort(key=lambda fill: fill.trade_id or 0)
    if not others:
        return numbered
    others.sort(key=_by_time)
    return list(merge(numbered, others, key=_by_time))


def _by_time(fill: Fill) -> tuple[int, int]:
    return fill.time_ms, abs(fill.trade_id or 0)
