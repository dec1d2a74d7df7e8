"""Which rows of a list REST returns: cursor and time filters, and the page when more match."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import attrs

from oms_trio.testing.okx_server.orders.admission import Refused, read_whole

MAX_LIMIT = 100

Row = TypeVar("Row")


@attrs.frozen
class Page:
    """The paging part of a query: cursors exclude their own row, times include their own."""

    after: int | None = None
    before: int | None = None
    begin: int | None = None
    end: int | None = None
    limit: int = MAX_LIMIT

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Page:
        """Read a query's parameters.

        Raises:
            Refused: 51000 for what is no number.
        """
        numbers = {}
        for name in ("after", "before", "begin", "end", "limit"):
            value = query.get(name, "")
            numbers[name] = read_whole(value)
            if value and numbers[name] is None:
                raise Refused("51000", f"Parameter {name} error")
        limit = numbers.pop("limit")
        return cls(**numbers, limit=min(MAX_LIMIT, MAX_LIMIT if limit is None else max(1, limit)))

    def rows(
        self,
        oldest_first: Sequence[Row],
        *,
        cursor: Callable[[Row], int],
        time_ms: Callable[[Row], int],
        wanted: Callable[[Row], bool] = lambda _: True,
        begin_keeps_newest: bool = False,
        before_keeps_newest: bool = False,
        keeps_ties: bool = False,
    ) -> list[Row]:
        """Return this page of the rows that are ``wanted``, newest first.

        When more match than fit, a lower bound alone (``before``, or ``begin``) keeps the rows
        nearest to it, everything else the newest. The exceptions: the ``begin`` of fills and the
        ``before`` of past positions keep the newest too, and past positions that share their
        cursor are never parted (``keeps_ties``).
        """

        def matches(row: Row) -> bool:
            return (
                (self.begin is None or time_ms(row) >= self.begin)
                and (self.end is None or time_ms(row) <= self.end)
                and (self.after is None or cursor(row) < self.after)
                and (self.before is None or cursor(row) > self.before)
                and wanted(row)
            )

        lower = (self.before is not None and not before_keeps_newest) or (
            self.begin is not None and not begin_keeps_newest
        )
        upper = self.after is not None or self.end is not None
        keeps_oldest = lower and not upper
        ordered = oldest_first if keeps_oldest else reversed(oldest_first)
        # Most pages are the newest rows of a long list: the rest is not even looked at.
        kept = list(islice(filter(matches, ordered), self.limit))
        if keeps_ties and kept:
            first, last = sorted((cursor(kept[0]), cursor(kept[-1])))
            return [
                row
                for row in reversed(oldest_first)
                if matches(row) and first <= cursor(row) <= last
            ]
        return kept[::-1] if keeps_oldest else kept
