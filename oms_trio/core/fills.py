"""Which fills may be booked now, and which wait for one that was not reported yet.

What is booked of an order must add up to its ``accFillSz``. When a report shows a gap, the fills
of the order are requested, and until the gap is closed *no* fill of any order is booked: the
missing one may be earlier than all of them, and trades follow the order of execution. Gaps
are rare (a lost push) and last one REST round trip.

    missing        what is done
    0              book the held fills, in execution order over all orders
    above 0        request the order's fills; when the exchange does not list them after some tries,
                   and its reads do not lag, one fill for the gap is derived from avgPx x accFillSz

A query may be newer than the pushes. What one shows of a single order beyond them is left for the
order's own push: another order's push may be on its way that comes before it. A snapshot shows the
fills of all orders at one time, so it counts up to that time.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from oms_trio.core.model import Fill, OrderReport
from oms_trio.core.orders import OrderInfo, Orders, in_execution_order

ZERO = Decimal(0)

GAP_TRIES = 6
"""Answers without the missing fill before one is derived."""

GAP_PAUSE_NS = 500_000_000
GAP_LATER_NS = 2_000_000_000
"""Pauses between questions: the first ``GAP_TRIES``, and from then on."""

GAP_PATIENCE_NS = 10_000_000_000
"""A query whose answer did not come by then (the session was lost) is repeated."""


def take_report(orders: Orders, order: OrderInfo, report: OrderReport) -> None:
    """Note what a report shows: size, state, growth and the fill it is about."""
    orders.learn(order, report)
    orders.move(order, report.state)
    order.resolve()
    if report.fill is not None and report.acc_fill_sz > order.filled_size:
        orders.hold(order, report.fill)


def take_fills(orders: Orders, order: OrderInfo, fills: Iterable[Fill]) -> None:
    """Close the gap of an order, as far as it has one, with fills from a query."""
    for fill in in_execution_order(fills):
        orders.hold(order, fill)


def take_all_fills(orders: Orders, fills: Iterable[Fill]) -> None:
    """Note the fills of all orders up to the time at which they were requested.

    The orders themselves were requested before, one page after the other, so each of them may
    have grown since its report; a fill that is newer than the report shows it. (One that is not
    is contained in the report, though it may have been booked without its name.)
    """
    complete = True
    for fill in in_execution_order(fills):
        order = orders.find(None, fill.ord_id)
        if order is None:
            # Just sent, and not yet named by its answer: what came after its fill waits for it.
            complete = False
            continue
        if complete and fill.time_ms > order.u_time_ms:
            orders.grow(order, fill)
        orders.hold(order, fill)


def take_fills_answer(
    orders: Orders, order: OrderInfo, fills: tuple[Fill, ...], at_ns: int, *, overdue: bool
) -> None:
    """Note all that the exchange lists of an order's fills; derive what it does not.

    Only an answer that shows a match as young as the youngest we know of this order proves that it
    has no more of them. ``overdue``: the order grew longer ago than any read lags.
    """
    take_fills(orders, order, fills)
    if not order.missing:
        return
    order.gap_asked += 1
    patient = order.gap_asked >= GAP_TRIES
    order.gap_due_ns = at_ns + (GAP_LATER_NS if patient else GAP_PAUSE_NS)
    shown = max((fill.trade_id or 0 for fill in fills), default=0)
    if patient and (overdue or shown >= max(order.held, default=shown + 1)):
        order.derived = _derive(order)


def _derive(order: OrderInfo) -> Fill:
    """Make one fill of what the exchange cannot name, just before what it can."""
    assert order.okx_order_id is not None
    held = in_execution_order(order.held.values())
    missing = order.missing
    known = order.filled_cost + sum((fill.px * fill.sz for fill in held), ZERO)
    return Fill(
        ord_id=order.okx_order_id,
        trade_id=None,
        px=order.ref_px if order.acc_cost is None else (order.acc_cost - known) / missing,
        sz=missing,
        time_ms=held[0].time_ms if held else order.u_time_ms,
    )


def release(orders: Orders) -> list[Fill]:
    """Take out all held fills in execution order, or none while any order has a gap."""
    waiting = [order for name in orders.waiting if (order := orders.find(name)) is not None]
    if any(order.missing for order in waiting):
        return []
    orders.waiting.clear()
    fills: list[Fill] = []
    for order in waiting:
        fills.extend(order.held.values())
        if order.derived is not None:
            fills.append(order.derived)
        order.held.clear()
        order.derived = None
        order.gap_asked = 0
        order.gap_due_ns = 0
    return in_execution_order(fills)


def gaps(orders: Orders, now_ns: int) -> list[OrderInfo]:
    """Return the orders whose fills are to be requested now, and note that they are."""
    due = []
    for name in orders.waiting:
        order = orders.find(name)
        if order is None or not order.missing or order.okx_order_id is None:
            continue
        if now_ns >= order.gap_due_ns:
            order.gap_due_ns = now_ns + GAP_PATIENCE_NS
            due.append(order)
    return due
