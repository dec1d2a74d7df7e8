"""What really happened on the simulated exchange: the log that tests compare with.

Times ending in ``_ns`` are those of the true clock, which no fault changes; those ending in
``_ms`` are the exchange's own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from operator import attrgetter, itemgetter

import attrs
import msgspec

from oms_trio.testing.okx_server.values import ZERO, Category, Fill, Order, text

MARKS_KEPT = 500_000
"""Changes of the mark price that can be asked for: more than a day at four a second."""


@attrs.frozen
class Moment:
    """The account at one instant: contracts (signed), money in USDT, prices in USDT per BTC."""

    at_ns: int
    now_ms: int
    pos: Decimal
    avg_px: Decimal | None
    """None when flat."""
    cash_bal: Decimal
    mark_px: Decimal


@attrs.frozen
class Happened:
    """One change of one order, the match that made it when there was one, and what it left."""

    order: Order
    fill: Fill | None
    after: Moment


@attrs.frozen
class Funded:
    """One funding fee: ``amount`` in USDT is below 0 when paid."""

    bill_id: str
    rate: Decimal
    amount: Decimal
    after: Moment


def _nothing() -> Moment:
    return Moment(0, 0, ZERO, None, ZERO, ZERO)


@attrs.define
class Truth:
    """Append-only log of every change of every order, and of every funding fee.

    It is unbounded: whoever wants the truth wants all of it, and a run of a million changes still
    fits into memory. ``keep=False`` is for a simulator that runs for days.
    """

    keep: bool = True
    sink: Callable[[bytes], object] | None = None
    """Takes each entry as a JSON line before anybody is told of it, as a file that is not
    buffered does: what the exchange has said outlives a SIGKILL of it."""
    look: Callable[[], Moment] = attrs.field(default=_nothing, init=False)
    """Returns the account as it is now; the engine sets it."""
    _log: list[Happened | Funded] = attrs.field(factory=list, init=False)
    _marks: deque[tuple[int, Decimal]] = attrs.field(
        factory=lambda: deque(maxlen=MARKS_KEPT), init=False
    )

    def __len__(self) -> int:
        return len(self._log)

    def __iter__(self) -> Iterator[Happened]:
        """Iterate over the changes of orders, earliest first."""
        return (entry for entry in self._log if isinstance(entry, Happened))

    # What the engine writes.

    def record(self, order: Order, fill: Fill | None) -> None:
        """Note one change of an order, after cash and position were changed by it."""
        self._keep(Happened(order, fill, self.look()))

    def record_funding(self, bill_id: str, rate: Decimal, amount: Decimal) -> None:
        """Note one funding fee, after it was settled."""
        self._keep(Funded(bill_id, rate, amount, self.look()))

    def record_mark(self, at_ns: int, mark_px: Decimal) -> None:
        """Note the mark price; what is the same as before is not kept."""
        if self.keep and (not self._marks or self._marks[-1][1] != mark_px):
            self._marks.append((at_ns, mark_px))

    # What is asked of it.

    def fills(self) -> list[Fill]:
        """Return every match in the order in which it happened."""
        return [entry.fill for entry in self if entry.fill is not None]

    def movements(self) -> list[Fill | Funded]:
        """Return all that moved cash or position, in the order in which it happened.

        This is what an oracle replays: matches of ours, of a hand and of the risk engine
        (``Fill.category``), and funding between them.
        """
        moved = (entry if isinstance(entry, Funded) else entry.fill for entry in self._log)
        return [movement for movement in moved if movement is not None]

    def orders(self) -> list[Order]:
        """Return the latest value of every order, in the order of creation."""
        latest = {entry.order.ord_id: entry.order for entry in self}
        return list(latest.values())

    def accepted(self) -> list[Happened]:
        """Return the first entry of every order: ``after`` is the account that took it."""
        first: dict[str, Happened] = {}
        for entry in self:
            first.setdefault(entry.order.ord_id, entry)
        return list(first.values())

    def at(self, at_ns: int) -> Moment | None:
        """Return the account at this true time, None before the first entry.

        The mark price is that of the time, not of the latest entry.
        """
        place = bisect_right(self._log, at_ns, key=attrgetter("after.at_ns"))
        if not place:
            return None
        last = self._log[place - 1].after
        return attrs.evolve(last, at_ns=at_ns, mark_px=self.mark_px_at(at_ns) or last.mark_px)

    def mark_px_at(self, at_ns: int) -> Decimal | None:
        """Return the mark price at this true time, None when it is not known any more."""
        place = bisect_right(self._marks, at_ns, key=itemgetter(0))
        return self._marks[place - 1][1] if place else None

    def by_others(self, tag: str) -> list[tuple[int, Decimal]]:
        """Return what orders without ``tag`` have made of the position, at each change of it.

        Pairs of true time and signed contracts: 0 while our own fills explain the position. What
        the risk engine took is not counted, as it belongs to whoever held the position.
        """
        foreign = ZERO
        changes = []
        for entry in self:
            if (
                entry.fill is not None
                and entry.order.tag != tag
                and entry.order.category is Category.NORMAL
            ):
                foreign += entry.fill.side.sign * entry.fill.sz
                changes.append((entry.after.at_ns, foreign))
        return changes

    def open_at(self, at_ns: int) -> list[Order]:
        """Return the orders that were open at this true time, as they were then."""
        place = bisect_right(self._log, at_ns, key=attrgetter("after.at_ns"))
        latest = {
            entry.order.ord_id: entry.order
            for entry in self._log[:place]
            if isinstance(entry, Happened)
        }
        return [order for order in latest.values() if order.is_open]

    def dump(self, start: int = 0) -> bytes:
        """Return the log from line ``start`` on as JSON lines; equal runs give equal bytes."""
        return b"".join(_line(entry) for entry in self._log[start:])

    def _keep(self, entry: Happened | Funded) -> None:
        if self.sink is not None:
            self.sink(_line(entry))
        if self.keep:
            self._log.append(entry)


def _line(entry: Happened | Funded) -> bytes:
    line = _funding(entry) if isinstance(entry, Funded) else _change(entry)
    after = entry.after
    line["after"] = {
        "now": after.now_ms,
        "pos": text(after.pos),
        "avgPx": "" if after.avg_px is None else text(after.avg_px),
        "cashBal": text(after.cash_bal),
        "markPx": text(after.mark_px),
    }
    return msgspec.json.encode(line) + b"\n"


def _funding(entry: Funded) -> dict[str, object]:
    fee = {"billId": entry.bill_id, "rate": text(entry.rate), "balChg": text(entry.amount)}
    return {"funding": fee}


def _change(entry: Happened) -> dict[str, object]:
    order, fill = entry.order, entry.fill
    line: dict[str, object] = {
        "uTime": order.u_time_ms,
        "ordId": order.ord_id,
        "clOrdId": order.cl_ord_id,
        "tag": order.tag,
        "side": order.side.value,
        "ordType": order.ord_type.value,
        "px": "" if order.px is None else text(order.px),
        "sz": text(order.sz),
        "state": order.state.value,
        "accFillSz": text(order.acc_fill_sz),
        "cancelSource": order.cancel_source,
        "category": order.category.value,
    }
    if fill is not None:
        line["fill"] = {
            "tradeId": fill.trade_id,
            "px": text(fill.px),
            "sz": text(fill.sz),
            "fee": text(fill.fee),
            "pnl": text(fill.pnl),
            "penalty": text(fill.penalty),
            "execType": fill.exec_type,
        }
    return line
