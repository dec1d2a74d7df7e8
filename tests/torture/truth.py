"""The exchange's log, read back: orders, fills, and every price of the position."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class Placed:
    """An order as the exchange took it; ``px`` is None for a market order."""

    at_ms: int
    ord_id: str
    cl_ord_id: str
    tag: str
    side: str
    px: Fraction | None
    sz: Fraction
    reach: Fraction
    """Contracts in the order's direction after it and all open orders of its side have filled."""
    cash: Fraction
    """The most that the account held in the seconds before."""

    @property
    def state_id(self) -> int:
        """The state id that the name contains."""
        return int(self.cl_ord_id[3:11], 16)

    @property
    def sign(self) -> int:
        """+1 for a buy."""
        return 1 if self.side == "buy" else -1


@attrs.frozen
class Matched:
    """One fill."""

    trade_id: int
    ord_id: str
    px: Fraction
    sz: Fraction


LAG_MS = 30_000
"""An account's balance may be known this late: a push of it comes at least every 5 s, but not
while the session is away."""


@attrs.define
class ExchangeLog:
    """Everything that the exchange did."""

    orders: dict[str, Placed] = attrs.Factory(dict)
    fills: list[Matched] = attrs.Factory(list)
    priced: dict[int, set[float]] = attrs.Factory(dict)
    """By the trade id that led to a position: every ``uplRatio`` that it had."""
    position: Fraction = Fraction(0)
    _open: dict[str, tuple[int, Fraction]] = attrs.Factory(dict)
    _cash: list[tuple[int, Fraction]] = attrs.Factory(list)

    @classmethod
    def read(cls, path: Path) -> ExchangeLog:
        """Read the file as far as it has whole lines."""
        log = cls()
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                log._take(json.loads(line))
        return log

    def _take(self, line: dict[str, Any]) -> None:
        if report := line.get("position"):
            self.priced.setdefault(report["tradeId"], set()).add(float(report["uplRatio"]))
            return
        self._cash.append((line["at"], Fraction(line["cash"])))
        ord_id = line["ordId"]
        sign = 1 if line["side"] == "buy" else -1
        if fill := line.get("fill"):
            matched = Matched(fill["tradeId"], ord_id, Fraction(fill["px"]), Fraction(fill["sz"]))
            self.fills.append(matched)
            self.position += sign * matched.sz
        if line["state"] in {"live", "partially_filled"}:
            self._open[ord_id] = (sign, Fraction(line["sz"]) - Fraction(line["accFillSz"]))
        else:
            self._open.pop(ord_id, None)
        if ord_id not in self.orders:
            self.orders[ord_id] = self._placed(line, sign)

    def _placed(self, line: dict[str, Any], sign: int) -> Placed:
        same_side = sum((left for side, left in self._open.values() if side == sign), Fraction(0))
        recent = [cash for at_ms, cash in self._cash if at_ms >= line["at"] - LAG_MS]
        return Placed(
            at_ms=line["at"],
            ord_id=line["ordId"],
            cl_ord_id=line["clOrdId"],
            tag=line["tag"],
            side=line["side"],
            px=Fraction(line["px"]) if line["px"] else None,
            sz=Fraction(line["sz"]),
            reach=sign * self.position + same_side,
            cash=max(recent),
        )
