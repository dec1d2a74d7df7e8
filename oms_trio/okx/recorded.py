"""Answers of REST as they are recorded: raw bodies, and the core's inputs read from them. Pure.

The journal keeps the bodies and replay reads them again, so an input is a function of its record
and of settings. A record is made of whole answers only: a query that failed makes no record.
"""

from __future__ import annotations

import msgspec

from oms_trio.core.inputs import FillsAnswer, LookupAnswer, Snapshot
from oms_trio.core.model import ClOrdId, Fill, OrderReport, OrdId
from oms_trio.okx import bodies
from oms_trio.okx.rows import FillRecord


class SnapshotBodies(msgspec.Struct, frozen=True):
    """All answers that make one ``Snapshot``; paged ones by page, as they were asked for."""

    request: int
    asked_at_ns: int
    """When the first question left (our clock)."""
    instrument: str
    balance: str
    pending: tuple[str, ...]
    history: tuple[str, ...]
    """Orders that were created since the watermark and have ended."""
    position: str
    fills: tuple[str, ...]
    looked_up: dict[str, str] = {}
    """``GET /trade/order`` by clOrdId: only in records of the first release."""
    mark_price: str = ""
    """Empty in records of releases that did not ask for it."""


class FillsBodies(msgspec.Struct, frozen=True):
    """All fills of one order, by page."""

    ord_id: str
    fills: tuple[str, ...]


class LookupBody(msgspec.Struct, frozen=True):
    """One order looked up by our name; ``asked_at_ns`` is when the question left (our clock)."""

    cl_ord_id: str
    asked_at_ns: int
    order: str


def decode_snapshot(record: SnapshotBodies, *, at_ns: int, inst_id: str, tag: str) -> Snapshot:
    """Read a recorded snapshot: orders and fills of our instrument and with our tag.

    An order that was looked up by our own name for it is ours even with another tag: to call it
    missing would let its action be sent a second time.

    Raises:
        ProtocolError: a body is not of its documented shape.
        InstrumentUnfitError: the instrument cannot be traded now.
    """
    balance = bodies.balance(record.balance)
    looked_up = {
        ClOrdId(cl_ord_id): bodies.order(body, inst_id)
        for cl_ord_id, body in record.looked_up.items()
    }
    # What was asked later knows more and replaces what was asked before.
    orders: dict[OrdId, OrderReport] = {}
    for page in (*record.pending, *record.history):
        for report in bodies.orders(page, inst_id):
            if report.tag == tag:
                orders[report.ord_id] = report
    orders.update((report.ord_id, report) for report in looked_up.values() if report is not None)
    return Snapshot(
        at_ns=at_ns,
        asked_at_ns=record.asked_at_ns,
        request=record.request,
        instrument=bodies.instrument(record.instrument, inst_id),
        cash_bal=None if balance is None else balance.cash_bal,
        cash_u_time_ms=0 if balance is None else balance.u_time_ms,
        position=bodies.position(record.position, inst_id),
        orders=tuple(orders.values()),
        fills=_in_order([row for row in _records(record.fills, inst_id) if row.tag == tag]),
        mark_px=bodies.mark_price(record.mark_price, inst_id) if record.mark_price else None,
    )


def decode_fills(record: FillsBodies, *, at_ns: int, inst_id: str) -> FillsAnswer:
    """Read the recorded fills of one order."""
    ord_id = OrdId(record.ord_id)
    rows = [row for row in _records(record.fills, inst_id) if row.fill.ord_id == ord_id]
    return FillsAnswer(at_ns, ord_id, _in_order(rows))


def decode_lookup(record: LookupBody, *, at_ns: int, inst_id: str) -> LookupAnswer:
    """Read a recorded look-up."""
    return LookupAnswer(
        at_ns=at_ns,
        asked_at_ns=record.asked_at_ns,
        cl_ord_id=ClOrdId(record.cl_ord_id),
        report=bodies.order(record.order, inst_id),
    )


def _records(pages: tuple[str, ...], inst_id: str) -> list[FillRecord]:
    return [row for page in pages for row in bodies.fills(page, inst_id)]


def _in_order(rows: list[FillRecord]) -> tuple[Fill, ...]:
    """Sort into execution order; pages come newest first, and ties in time go by ``tradeId``."""
    fills = {row.fill.trade_id: row.fill for row in rows}
    return tuple(sorted(fills.values(), key=lambda fill: (fill.time_ms, fill.trade_id or 0)))
