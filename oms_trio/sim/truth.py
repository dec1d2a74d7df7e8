"""What really happened on the simulated exchange: the log that tests compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import msgspec

from oms_trio.sim.values import Fill, Order, text


@attrs.frozen
class Happened:
    """One change of one order, with the match that made it when there was one."""

    order: Order
    fill: Fill | None


@attrs.define
class Truth:
    """Append-only log of every change of every order.

    It is unbounded: whoever wants the truth wants all of it, and a run of a million changes still
    fits into memory. ``keep=False`` is for a simulator that runs for days.
    """

    keep: bool = True
    sink: Callable[[bytes], object] | None = None
    """Takes each change as a JSON line before anybody is told of it, as a file that is not
    buffered does: what the exchange has said outlives a SIGKILL of it."""
    _log: list[Happened] = attrs.field(factory=list, init=False)

    def __len__(self) -> int:
        return len(self._log)

    def __iter__(self) -> Iterator[Happened]:
        return iter(self._log)

    def record(self, order: Order, fill: Fill | None) -> None:
        """Note one change."""
        entry = Happened(order, fill)
        if self.sink is not None:
            self.sink(msgspec.json.encode(_line(entry)) + b"\n")
        if self.keep:
            self._log.append(entry)

    def fills(self) -> list[Fill]:
        """Return every match in the order in which it happened."""
        return [entry.fill for entry in self._log if entry.fill is not None]

    def orders(self) -> list[Order]:
        """Return the latest value of every order, in the order of creation."""
        latest = {entry.order.ord_id: entry.order for entry in self._log}
        return list(latest.values())

    def dump(self, start: int = 0) -> bytes:
        """Return the log from line ``start`` on as JSON lines; equal runs give equal bytes."""
        return b"".join(msgspec.json.encode(_line(entry)) + b"\n" for entry in self._log[start:])


def _line(entry: Happened) -> dict[str, object]:
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
            "execType": fill.exec_type,
        }
    return line
