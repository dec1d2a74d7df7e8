"""Paging: cursor and time filters, and which rows are returned when more match than fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import attrs

from oms_trio.testing.okx_server.orders.request_checks import RequestRejected, read_whole

MAX_LIMIT = 100

Row = TypeVar("Row")


@attrs.frozen
class PageQuery:
    """The paging parameters of a query: cursors exclude their own row, times include it."""

    after: int | None = None
    before: int | None = None
    begin: int | None = None
    end: int | None = None
    limit: int = MAX_LIMIT

    @classmethod
    def of(cls, query: Mapping[str, str]) -> PageQuery:
        """Read a query's parameters.

        Raises:
            RequestRejected: 51000 for a parameter that is not a number.
        """
        numbers = {}
        for name in ("after", "before", "begin", "end", "limit"):
            value = query.get(name, "")
            numbers[name] = read_whole(value)
            if value and numbers[name] is None:
                raise RequestRejected("51000", f"Parameter {name} error")
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
        nearest to it; otherwise the newest are kept. There are exceptions: ``begin`` of fills and
        ``before`` of past positions keep the newest too, and past positions with the same cursor
        are always on one page (``keeps_ties``).
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
        # Most pages are the newest rows of a long list: the rest is not visited.
        kept = list(islice(filter(matches, ordered), self.limit))
        if keeps_ties and kept:
            first, last = sorted((cursor(kept[0]), cursor(kept[-1])))
            return [
                row
                for row in reversed(oldest_first)
                if matches(row) and first <= cursor(row) <= last
            ]
        return kept[::-1] if keeps_oldest else kept
