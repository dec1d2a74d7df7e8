"""What the state was a little while ago: the exchange's REST may lag behind its WebSocket.

Every change keeps what it replaced, so the past is the present with the latest changes undone.
"""

from __future__ import annotations

from collections import deque

import attrs

from oms_trio.testing.okx_server.account.bills import Bills
from oms_trio.testing.okx_server.account.ledger import Ledger
from oms_trio.testing.okx_server.account.position_history import Life, Lives
from oms_trio.testing.okx_server.orders.book import Book
from oms_trio.testing.okx_server.values import Order

KEPT_NS = 60 * 10**9
"""The longest lag that can be shown; older changes cannot be undone any more."""


@attrs.frozen
class Records:
    """All that REST reads of the account, as it was at one time."""

    book: Book
    ledger: Ledger
    lives: Lives
    bills: Bills


@attrs.frozen
class OrderStep:
    """One change of one order, with what was before it."""

    after: Order
    before: Order | None
    namesake: str
    """The order id that the client id led to before."""
    by_fill: bool


@attrs.frozen
class Before:
    """Cash, position and its latest life, as they were before a change."""

    ledger: Ledger
    life: Life | None


@attrs.frozen
class Change:
    """One change of an order (``order``), of the account alone (None), or of both."""

    at_ns: int
    before: Before
    order: OrderStep | None = None
    is_billed: bool = False
    opened_life: bool = False


@attrs.define
class History:
    """The changes of the last minute, oldest first: bounded by what happens in a minute."""

    _changes: deque[Change] = attrs.field(factory=deque, init=False)

    def record(self, change: Change) -> None:
        """Keep a change, and drop those that are too old to be undone."""
        while self._changes and change.at_ns - self._changes[0].at_ns > KEPT_NS:
            self._changes.popleft()
        self._changes.append(change)

    def before(self, cutoff_ns: int, present: Records) -> Records:
        """Return copies of the records without the changes made after ``cutoff_ns``."""
        if not self._changes or self._changes[-1].at_ns <= cutoff_ns:
            return present
        book, lives, bills = present.book.copy(), present.lives.copy(), present.bills.copy()
        ledger = present.ledger
        for change in reversed(self._changes):
            if change.at_ns <= cutoff_ns:
                break
            if change.order is not None:
                step = change.order
                book.undo(step.after, step.before, step.namesake, by_fill=step.by_fill)
            if change.is_billed:
                bills.undo()
            lives.undo(change.before.life, opened=change.opened_life)
            ledger = change.before.ledger
        book.sort()
        return Records(book, attrs.evolve(ledger, lever=present.ledger.lever), lives, bills)
