"""The account as it was a little earlier, because REST may lag behind the WebSocket.

Every change keeps what it replaced: the past is the present with the latest changes undone.
"""

from __future__ import annotations

from collections import deque

import attrs

from oms_trio.testing.okx_server.account.bills import Bills
from oms_trio.testing.okx_server.account.ledger import Ledger
from oms_trio.testing.okx_server.account.position_history import PositionHistory, PositionRecord
from oms_trio.testing.okx_server.matching.order_book import OrderBook
from oms_trio.testing.okx_server.values import ExchangeOrder

KEPT_NS = 60 * 10**9
"""The longest lag that can be shown; older changes can no longer be undone."""


@attrs.frozen
class AccountRecords:
    """Everything that REST reads of the account, at one time."""

    book: OrderBook
    ledger: Ledger
    position_history: PositionHistory
    bills: Bills


@attrs.frozen
class OrderUndo:
    """One change of one order, and what it replaced."""

    after: ExchangeOrder
    before: ExchangeOrder | None
    latest_ord_id: str
    """The ``ordId`` that its ``clOrdId`` led to before."""
    by_fill: bool


@attrs.frozen
class AccountBefore:
    """Cash, position and the latest row of its history, as they were before a change."""

    ledger: Ledger
    position_record: PositionRecord | None


@attrs.frozen
class UndoEntry:
    """One change: of an order and the account, or of the account alone (``order`` is None)."""

    at_ns: int
    before: AccountBefore
    order: OrderUndo | None = None
    is_billed: bool = False
    opened_position: bool = False


@attrs.define
class UndoLog:
    """The changes of the last minute, oldest first."""

    _changes: deque[UndoEntry] = attrs.field(factory=deque, init=False)

    def record(self, change: UndoEntry) -> None:
        """Add a change, and drop those that are too old to be undone."""
        while self._changes and change.at_ns - self._changes[0].at_ns > KEPT_NS:
            self._changes.popleft()
        self._changes.append(change)

    def before(self, cutoff_ns: int, present: AccountRecords) -> AccountRecords:
        """Return copies of the records without the changes made after ``cutoff_ns``."""
        if not self._changes or self._changes[-1].at_ns <= cutoff_ns:
            return present
        book, bills, ledger = present.book.copy(), present.bills.copy(), present.ledger
        position_history = present.position_history.copy()
        for change in reversed(self._changes):
            if change.at_ns <= cutoff_ns:
                break
            if change.order is not None:
                undone = change.order
                book.undo(undone.after, undone.before, undone.latest_ord_id, by_fill=undone.by_fill)
            if change.is_billed:
                bills.undo()
            position_history.undo(change.before.position_record, opened=change.opened_position)
            ledger = change.before.ledger
        book.sort()
        return AccountRecords(
            book, attrs.evolve(ledger, lever=present.ledger.lever), position_history, bills
        )
