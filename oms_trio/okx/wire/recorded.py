"""Answers of REST as the journal records them: raw bodies, and the core's inputs decoded from them. Pure.

Replay decodes the recorded bodies again, so an input is a function of its record and the settings.
A record contains only complete answers: a failed query is not recorded.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from oms_trio.core.events import ExchangeSnapshot, FillsAnswer, Listing, LookupAnswer
from oms_trio.core.model import CAUSE_OF_CATEGORY, ClOrdId, ExchangeMs, Fill, Funding, OrdId
from oms_trio.core.orders import in_execution_order
from oms_trio.okx.wire import bodies
from oms_trio.okx.wire.frames import FillRecord
from oms_trio.okx.wire.liquidation import CLOSES, missing_from, orders_from


class SnapshotBodies(msgspec.Struct, frozen=True):
    """All answers that make up one ``ExchangeSnapshot``; page by page, in the sequence of the requests."""

    request: int
    asked_at_ns: int
    """When the first request was sent (our clock)."""
    instrument: str
    balance: str
    pending: tuple[str, ...]
    history: tuple[str, ...]
    """Orders that have ended since the watermark, and other orders on the same pages."""
    position: str
    fills: tuple[str, ...]
    looked_up: dict[str, str] = {}
    """``GET /trade/order`` by clOrdId: only in records of the first release."""
    mark_price: str = ""
    """Empty in records of releases that did not query it."""
    bills: tuple[str, ...] = ()
    """Funding, liquidation and ADL since the watermark; earlier releases did not query them."""
    offset_ns: int = 0
    """The exchange's clock minus ours, as measured with this snapshot."""


class ListingBodies(msgspec.Struct, frozen=True):
    """What the exchange lists now: pending orders by page, queried before the position."""

    request: int
    asked_at_ns: int
    pending: tuple[str, ...]
    position: str


class FillsBodies(msgspec.Struct, frozen=True):
    """All fills of one order, by page."""

    ord_id: str
    fills: tuple[str, ...]


class LookupBody(msgspec.Struct, frozen=True):
    """One order looked up by our name; ``asked_at_ns`` is when the request was sent (our clock)."""

    cl_ord_id: str
    asked_at_ns: int
    order: str


def decode_snapshot(record: SnapshotBodies, *, inst_id: str, tag: str) -> ExchangeSnapshot:
    """Decode a recorded snapshot: orders and fills of our instrument that have our tag.

    It includes the exchange's own orders on our position, which have no tag. An order that was looked
    up by our name is ours even with another tag: if it were missing, its action could be sent twice.

    Raises:
        ProtocolError: a body does not have its documented shape.
        InstrumentNotTradableError: the instrument cannot be traded now.
    """
    balance = bodies.balance(record.balance)
    rows = [row for page in record.fills for row in bodies.fills(page, inst_id)]
    bills = [bill for page in record.bills for bill in bodies.bills(page, inst_id)]
    closes = [row for row in rows if row.sub_type in CLOSES]
    closes += missing_from(closes, [bill for bill in bills if isinstance(bill, FillRecord)])
    # A later answer is newer, and replaces an earlier one.
    orders = {order.ord_id: order for order in orders_from(_without_repeats(closes))}
    listed = [
        report
        for page in (*record.pending, *record.history)
        for report in bodies.orders(page, inst_id)
    ]
    for report in listed:
        if report.tag == tag or report.category in CAUSE_OF_CATEGORY:
            orders[report.ord_id] = report
    for body in record.looked_up.values():
        if (found := bodies.order(body, inst_id)) is not None:
            orders[found.ord_id] = found
    ours = [row for row in rows if row.tag == tag and row.sub_type not in CLOSES]
    return ExchangeSnapshot(
        asked_at_ns=record.asked_at_ns,
        request=record.request,
        instrument=bodies.instrument(record.instrument, inst_id),
        cash_bal=None if balance is None else balance.cash_bal,
        cash_u_time_ms=0 if balance is None else balance.u_time_ms,
        position=bodies.position(record.position, inst_id),
        orders=tuple(orders.values()),
        fills=_in_order(ours + closes),
        mark_px=bodies.mark_price(record.mark_price, inst_id) if record.mark_price else None,
        offset_ns=record.offset_ns,
        funding=_funding_of([bill for bill in bills if isinstance(bill, Funding)]),
        newest_trade_id=max((row.fill.trade_id for row in rows if row.fill.trade_id), default=None),
        seen_ms=ExchangeMs(max((report.u_time_ms for report in listed), default=0)),
    )


def decode_listing(record: ListingBodies, *, inst_id: str, tag: str) -> Listing:
    """Decode a recorded listing: the pending orders with our tag, and the position."""
    return Listing(
        asked_at_ns=record.asked_at_ns,
        request=record.request,
        orders=tuple(
            report
            for page in record.pending
            for report in bodies.orders(page, inst_id)
            if report.tag == tag
        ),
        position=bodies.position(record.position, inst_id),
    )


def decode_fills(record: FillsBodies, *, inst_id: str) -> FillsAnswer:
    """Decode the recorded fills of one order."""
    ord_id = OrdId(record.ord_id)
    rows = [row for page in record.fills for row in bodies.fills(page, inst_id)]
    return FillsAnswer(ord_id, _in_order([row for row in rows if row.fill.ord_id == ord_id]))


def decode_lookup(record: LookupBody, *, inst_id: str) -> LookupAnswer:
    """Decode a recorded look-up."""
    return LookupAnswer(
        asked_at_ns=record.asked_at_ns,
        cl_ord_id=ClOrdId(record.cl_ord_id),
        report=bodies.order(record.order, inst_id),
    )


def _without_repeats(records: list[FillRecord]) -> list[FillRecord]:
    """Drop repeats: pages overlap, and order and ``tradeId`` identify a fill."""
    unique: dict[Hashable, FillRecord] = {}
    for record in records:
        fill = record.fill
        unique[fill.ord_id, record.bill_id if fill.trade_id is None else fill.trade_id] = record
    return list(unique.values())


def _in_order(records: list[FillRecord]) -> tuple[Fill, ...]:
    """Sort by execution; pages are newest first.

    A fill of an ordinary order without a ``tradeId`` is left out: it could repeat another one.
    """
    fills = [
        record.fill
        for record in _without_repeats(records)
        if record.fill.trade_id is not None or record.sub_type in CLOSES
    ]
    return tuple(in_execution_order(fills))


def _funding_of(bills: list[Funding]) -> tuple[Funding, ...]:
    unique = {bill.bill_id: bill for bill in bills}
    return tuple(sorted(unique.values(), key=lambda bill: (bill.time_ms, bill.bill_id)))
