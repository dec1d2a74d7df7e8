"""The account's orders and fills: how they are found, and how long they are kept."""

from __future__ import annotations

import attrs

from oms_trio.testing.okx_server.values import ExchangeFill, ExchangeOrder, ExchangeOrderState

UNFILLED_KEPT_MS = 2 * 3_600_000
"""After this, REST no longer returns a cancelled order without a fill."""

ENDED_KEPT_MS = 90 * 86_400_000
"""Filled orders stay in the archive for three months, in the history for seven days."""

FILLS_KEPT_MS = 90 * 86_400_000

SWEEP_MS = 60_000
"""How often expired records are dropped: the limits above are hours, a sweep visits all orders."""


@attrs.define
class OrderBook:
    """Orders by ``ordId`` and by ``clOrdId``, and the fills, oldest first.

    A ``clOrdId`` leads to the *latest* order with it: it is unique among pending orders only, which
    is what makes blind resending dangerous.
    """

    _open: dict[str, ExchangeOrder] = attrs.field(factory=dict, init=False)
    _ended: dict[str, ExchangeOrder] = attrs.field(factory=dict, init=False)
    _latest: dict[str, str] = attrs.field(factory=dict, init=False)
    _fills: list[ExchangeFill] = attrs.field(factory=list, init=False)
    _swept_ms: int = attrs.field(default=0, init=False)

    @property
    def pending(self) -> list[ExchangeOrder]:
        """Open orders, oldest first."""
        return list(self._open.values())

    @property
    def ended(self) -> list[ExchangeOrder]:
        """Filled and cancelled orders that REST still returns, by the time of their end."""
        return list(self._ended.values())

    @property
    def fills(self) -> list[ExchangeFill]:
        """Every fill that REST still returns, oldest first."""
        return list(self._fills)

    def store(self, order: ExchangeOrder, fill: ExchangeFill | None = None) -> None:
        """Store the new value of an order, and the match that caused it."""
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

    def find(self, ord_id: str, cl_ord_id: str) -> ExchangeOrder | None:
        """Return the order with this id; ``ord_id`` takes precedence if both are given."""
        key = ord_id or self._latest.get(cl_ord_id, "")
        return self._open.get(key) or self._ended.get(key)

    def find_open(self, name: str) -> ExchangeOrder:
        """Return the open order with this ``ordId`` or ``clOrdId``.

        Raises:
            LookupError: there is no such open order.
        """
        order = self.find(name, "") or self.find("", name)
        if order is None or not order.is_open:
            raise LookupError(f"there is no open order with ordId or clOrdId {name!r}")
        return order

    def is_pending(self, cl_ord_id: str) -> bool:
        """Whether an open order has this client id."""
        return self._latest.get(cl_ord_id, "") in self._open

    def latest_ord_id(self, cl_ord_id: str) -> str:
        """Return the ``ordId`` that a ``clOrdId`` leads to, "" if there is none."""
        return self._latest.get(cl_ord_id, "")

    def copy(self) -> OrderBook:
        """Return an independent copy."""
        book = OrderBook()
        book._open, book._ended = dict(self._open), dict(self._ended)
        book._latest, book._fills = dict(self._latest), list(self._fills)
        return book

    def undo(
        self,
        after: ExchangeOrder,
        before: ExchangeOrder | None,
        latest_ord_id: str,
        *,
        by_fill: bool,
    ) -> None:
        """Undo the latest ``store``: restore the order, and the order that its ``clOrdId`` led to.

        ``sort`` must follow the last ``undo``.
        """
        self._open.pop(after.ord_id, None)
        self._ended.pop(after.ord_id, None)
        if before is not None:
            self._open[before.ord_id] = before
        if after.cl_ord_id:
            self._latest[after.cl_ord_id] = latest_ord_id
        if by_fill:
            self._fills.pop()

    def sort(self) -> None:
        """Restore the order of creation among open orders, after an ``undo``."""
        self._open = {name: self._open[name] for name in sorted(self._open, key=_age)}

    def drop_expired(self, now_ms: int) -> bool:
        """Drop what REST no longer returns, once a minute; return whether this was done now."""
        if now_ms - self._swept_ms < SWEEP_MS:
            return False
        self._swept_ms = now_ms
        for order in self.ended:
            unfilled = order.state is ExchangeOrderState.CANCELED and not order.acc_fill_sz
            kept_ms = UNFILLED_KEPT_MS if unfilled else ENDED_KEPT_MS
            if now_ms - order.u_time_ms > kept_ms:
                del self._ended[order.ord_id]
                if self._latest.get(order.cl_ord_id) == order.ord_id:
                    del self._latest[order.cl_ord_id]
        self._fills = [fill for fill in self._fills if now_ms - fill.ts_ms <= FILLS_KEPT_MS]
        return True


def _age(ord_id: str) -> int:
    return int(ord_id or 0)
