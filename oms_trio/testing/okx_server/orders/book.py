"""The orders the exchange still knows, and the rules by which they are found and forgotten."""

from __future__ import annotations

import attrs

from oms_trio.testing.okx_server.values import Fill, Order, State

UNFILLED_KEPT_MS = 2 * 3_600_000
"""A cancelled order without a fill is gone from REST after this."""

ENDED_KEPT_MS = 90 * 86_400_000
"""Filled orders stay in the archive for three months, in the history for seven days."""

FILLS_KEPT_MS = 90 * 86_400_000

SWEEP_MS = 60_000
"""How often the book is swept: the limits above are hours, and a sweep looks at every order."""


@attrs.define
class Book:
    """Orders by id and by client id, and the fills, oldest first.

    A client id leads to the *latest* order of that name; it is unique among pending orders only,
    which is exactly what makes blind resending dangerous.
    """

    _open: dict[str, Order] = attrs.field(factory=dict, init=False)
    _ended: dict[str, Order] = attrs.field(factory=dict, init=False)
    _latest: dict[str, str] = attrs.field(factory=dict, init=False)
    _fills: list[Fill] = attrs.field(factory=list, init=False)
    _swept_ms: int = attrs.field(default=0, init=False)

    @property
    def pending(self) -> list[Order]:
        """Open orders, oldest first."""
        return list(self._open.values())

    @property
    def ended(self) -> list[Order]:
        """Filled and cancelled orders that REST still tells of, by the time they ended."""
        return list(self._ended.values())

    @property
    def fills(self) -> list[Fill]:
        """Every match still told of, oldest first."""
        return list(self._fills)

    def store(self, order: Order, fill: Fill | None = None) -> None:
        """Keep the new value of an order, and the match that made it."""
        if order.is_open:
            self._open[order.ord_id] = order
        else:
            self._open.pop(order.ord_id, None)
            self._ended[order.ord_id] = order
        if order.cl_ord_id:
            newest = self._latest.get(order.cl_ord_id, "")
            self._latest[order.cl_ord_id] = max(newest, order.ord_id, key=_age)
        if fill is not None:
            self._fills.append(fill)

    def find(self, ord_id: str, cl_ord_id: str) -> Order | None:
        """Return the order meant; ``ord_id`` wins when both are given."""
        key = ord_id or self._latest.get(cl_ord_id, "")
        return self._open.get(key) or self._ended.get(key)

    def is_pending(self, cl_ord_id: str) -> bool:
        """Whether an open order has this client id."""
        return self._latest.get(cl_ord_id, "") in self._open

    def namesake(self, cl_ord_id: str) -> str:
        """Return the order id that a client id leads to, "" for none."""
        return self._latest.get(cl_ord_id, "")

    def copy(self) -> Book:
        """Return a book that can change without this one."""
        book = Book()
        book._open, book._ended = dict(self._open), dict(self._ended)
        book._latest, book._fills = dict(self._latest), list(self._fills)
        return book

    def undo(self, after: Order, before: Order | None, namesake: str, *, by_fill: bool) -> None:
        """Take back the latest ``store``: the order was ``before``, its name led to another.

        ``sort`` must follow the last one.
        """
        self._open.pop(after.ord_id, None)
        self._ended.pop(after.ord_id, None)
        if before is not None:
            self._open[before.ord_id] = before
        if after.cl_ord_id:
            self._latest[after.cl_ord_id] = namesake
        if by_fill:
            self._fills.pop()

    def sort(self) -> None:
        """Put open orders in the order of creation again, after orders were taken back."""
        self._open = {name: self._open[name] for name in sorted(self._open, key=_age)}

    def forget(self, now_ms: int) -> bool:
        """Drop what REST no longer tells of, once a minute; return whether it was done."""
        if now_ms - self._swept_ms < SWEEP_MS:
            return False
        self._swept_ms = now_ms
        for order in self.ended:
            unfilled = order.state is State.CANCELED and not order.acc_fill_sz
            kept_ms = UNFILLED_KEPT_MS if unfilled else ENDED_KEPT_MS
            if now_ms - order.u_time_ms > kept_ms:
                del self._ended[order.ord_id]
                if self._latest.get(order.cl_ord_id) == order.ord_id:
                    del self._latest[order.cl_ord_id]
        self._fills = [fill for fill in self._fills if now_ms - fill.ts_ms <= FILLS_KEPT_MS]
        return True


def _age(ord_id: str) -> int:
    return int(ord_id or 0)
