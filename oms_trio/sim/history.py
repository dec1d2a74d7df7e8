"""What the state was a little while ago: the exchange's REST may lag behind its WebSocket.

Every change keeps what it replaced, so the past is the present with the latest changes undone.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import attrs

from oms_trio.sim.book import Book
from oms_trio.sim.ledger import Ledger
from oms_trio.sim.values import Order, Position

KEPT_NS = 60 * 10**9
"""The longest lag that can be shown; older changes cannot be undone any more."""


@attrs.frozen
class Change:
    """One change of one order, with what was before it."""

    at_ns: int
    after: Order
    before: Order | None
    namesake: str
    """The order id that the client id led to before."""
    by_fill: bool
    cash_bal: Decimal
    u_time_ms: int
    position: Position | None


@attrs.define
class History:
    """The changes of the last minute, oldest first: bounded by what happens in a minute."""

    _changes: deque[Change] = attrs.field(factory=deque, init=False)

    def record(self, change: Change) -> None:
        """Keep a change, and drop those that are too old to be undone."""
        while self._changes and change.at_ns - self._changes[0].at_ns > KEPT_NS:
            self._changes.popleft()
        self._changes.append(change)

    def before(self, cutoff_ns: int, book: Book, ledger: Ledger) -> tuple[Book, Ledger]:
        """Return copies of book and ledger without the changes made after ``cutoff_ns``."""
        book, ledger = book.copy(), attrs.evolve(ledger)
        for change in reversed(self._changes):
            if change.at_ns <= cutoff_ns:
                break
            book.undo(change.after, change.before, change.namesake, by_fill=change.by_fill)
            ledger.cash_bal = change.cash_bal
            ledger.u_time_ms = change.u_time_ms
            ledger.position = change.position
        return book, ledger
