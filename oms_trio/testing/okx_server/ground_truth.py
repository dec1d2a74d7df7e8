"""The ground truth: a log of what really happened on the exchange, for tests to compare with.

Times ending in ``_ns`` are true times, which no fault changes; those ending in ``_ms`` are read
from the exchange's clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from operator import attrgetter, itemgetter

import attrs
import msgspec

from oms_trio.testing.okx_server.values import (
    ZERO,
    ExchangeFill,
    ExchangeOrder,
    OrderCategory,
    text,
)

MARKS_KEPT = 500_000
"""How many changes of the mark price are kept: more than a day at four a second."""


@attrs.frozen
class AccountSnapshot:
    """The account at one instant: contracts (signed), money in USDT, prices in USDT per BTC."""

    at_ns: int
    now_ms: int
    pos: Decimal
    avg_px: Decimal | None
    """None when flat."""
    cash_bal: Decimal
    mark_px: Decimal


@attrs.frozen
class OrderRecord:
    """One change of an order, the match that caused it if one did, and the account after it."""

    order: ExchangeOrder
    fill: ExchangeFill | None
    after: AccountSnapshot


@attrs.frozen
class FundingRecord:
    """One funding fee; ``amount`` in USDT is below 0 when paid."""

    bill_id: str
    rate: Decimal
    amount: Decimal
    after: AccountSnapshot


def _no_account() -> AccountSnapshot:
    return AccountSnapshot(0, 0, ZERO, None, ZERO, ZERO)


@attrs.define
class GroundTruth:
    """An append-only log of every change of every order and of every funding fee.

    It is unbounded: tests need all of it, and a run of a million changes still fits into memory.
    ``keep=False`` is for an exchange that runs for days.
    """

    keep: bool = True
    sink: Callable[[bytes], object] | None = None
    """Gets each entry as a JSON line before any client is notified: with an unbuffered file, what
    the exchange has published survives a SIGKILL of its process."""
    read_account: Callable[[], AccountSnapshot] = attrs.field(default=_no_account, init=False)
    """Returns the present account; set by the engine."""
    _log: list[OrderRecord | FundingRecord] = attrs.field(factory=list, init=False)
    _marks: deque[tuple[int, Decimal]] = attrs.field(
        factory=lambda: deque(maxlen=MARKS_KEPT), init=False
    )

    def __len__(self) -> int:
        return len(self._log)

    def __iter__(self) -> Iterator[OrderRecord]:
        """Iterate over the changes of orders, earliest first."""
        return (entry for entry in self._log if isinstance(entry, OrderRecord))

    # Written by the engine.

    def record(self, order: ExchangeOrder, fill: ExchangeFill | None) -> None:
        """Record a change of an order, after cash and position were changed by it."""
        self._keep(OrderRecord(order, fill, self.read_account()))

    def record_funding(self, bill_id: str, rate: Decimal, amount: Decimal) -> None:
        """Record a funding fee, after it was settled."""
        self._keep(FundingRecord(bill_id, rate, amount, self.read_account()))

    def record_mark(self, at_ns: int, mark_px: Decimal) -> None:
        """Record the mark price, if it has changed."""
        if self.keep and (not self._marks or self._marks[-1][1] != mark_px):
            self._marks.append((at_ns, mark_px))

    # Read by tests.

    def fills(self) -> list[ExchangeFill]:
        """Return every match in the order of occurrence."""
        return [entry.fill for entry in self if entry.fill is not None]

    def movements(self) -> list[ExchangeFill | FundingRecord]:
        """Return everything that changed cash or position, in the order of occurrence.

        This is what an oracle replays: fills of every client and of the risk engine
        (``ExchangeFill.category``), and funding fees between them.
        """
        moved = (entry if isinstance(entry, FundingRecord) else entry.fill for entry in self._log)
        return [movement for movement in moved if movement is not None]

    def orders(self) -> list[ExchangeOrder]:
        """Return the latest value of every order, in the order of creation."""
        latest = {entry.order.ord_id: entry.order for entry in self}
        return list(latest.values())

    def accepted(self) -> list[OrderRecord]:
        """Return the first entry of every order; its ``after`` is the account that accepted it."""
        first: dict[str, OrderRecord] = {}
        for entry in self:
            first.setdefault(entry.order.ord_id, entry)
        return list(first.values())

    def at(self, at_ns: int) -> AccountSnapshot | None:
        """Return the account at a true time, None before the first entry.

        Its mark price is that of the time, not that of the latest entry.
        """
        place = bisect_right(self._log, at_ns, key=attrgetter("after.at_ns"))
        if not place:
            return None
        last = self._log[place - 1].after
        return attrs.evolve(last, at_ns=at_ns, mark_px=self.mark_px_at(at_ns) or last.mark_px)

    def mark_px_at(self, at_ns: int) -> Decimal | None:
        """Return the mark price at a true time, None if it is no longer known."""
        place = bisect_right(self._marks, at_ns, key=itemgetter(0))
        return self._marks[place - 1][1] if place else None

    def by_others(self, tag: str) -> list[tuple[int, Decimal]]:
        """Return the position that orders without ``tag`` have made, at each of its changes.

        These are pairs of true time and signed contracts: 0 while the fills with ``tag`` explain
        the whole position. What the risk engine closes is not counted.
        """
        foreign = ZERO
        changes = []
        for entry in self:
            if (
                entry.fill is not None
                and entry.order.tag != tag
                and entry.order.category is OrderCategory.NORMAL
            ):
                foreign += entry.fill.side.sign * entry.fill.sz
                changes.append((entry.after.at_ns, foreign))
        return changes

    def open_at(self, at_ns: int) -> list[ExchangeOrder]:
        """Return the orders that were open at a true time, as they were then."""
        place = bisect_right(self._log, at_ns, key=attrgetter("after.at_ns"))
        latest = {
            entry.order.ord_id: entry.order
            for entry in self._log[:place]
            if isinstance(entry, OrderRecord)
        }
        return [order for order in latest.values() if order.is_open]

    def dump(self, start: int = 0) -> bytes:
        """Return the log as JSON lines, from line ``start`` on; equal runs give equal bytes."""
        return b"".join(_line(entry) for entry in self._log[start:])

    def _keep(self, entry: OrderRecord | FundingRecord) -> None:
        if self.sink is not None:
            self.sink(_line(entry))
        if self.keep:
            self._log.append(entry)


def _line(entry: OrderRecord | FundingRecord) -> bytes:
    line = _funding(entry) if isinstance(entry, FundingRecord) else _change(entry)
    after = entry.after
    line["after"] = {
        "now": after.now_ms,
        "pos": text(after.pos),
        "avgPx": "" if after.avg_px is None else text(after.avg_px),
        "cashBal": text(after.cash_bal),
        "markPx": text(after.mark_px),
    }
    return msgspec.json.encode(line) + b"\n"


def _funding(entry: FundingRecord) -> dict[str, object]:
    fee = {"billId": entry.bill_id, "rate": text(entry.rate), "balChg": text(entry.amount)}
    return {"funding": fee}


def _change(entry: OrderRecord) -> dict[str, object]:
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
