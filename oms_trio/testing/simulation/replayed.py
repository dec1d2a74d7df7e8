"""A run's journal read once from its first record: state, outputs, and what the agent was owed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from itertools import chain
from typing import Any

import attrs

from oms_trio.core.book import Book
from oms_trio.core.effects import Publication, PublishClosure
from oms_trio.core.events import Event, ExchangeSnapshot, PositionUpdate
from oms_trio.core.model import Cause, Fill, PositionReport, Rules
from oms_trio.core.orders import OrderInfo
from oms_trio.core.state import TradeState
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Record
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import DecodeContext, encode_effects


@attrs.frozen
class Closed:
    """A closure, and the position reports that had come in before it."""

    message_id: str
    pushed: int
    asked: int


@attrs.frozen
class Booked:
    """A fill as it was booked."""

    ord_id: str
    trade_id: int | None
    sign: int
    sz: Decimal
    px: Decimal
    cause: Cause


class NotingBook(Book):
    """A book that remembers in which order it took fills.

    It writes itself like any other book, because the digest is made of what states write.
    """

    __qualname__ = Book.__qualname__

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Booked] = []

    def take(self, order: OrderInfo, fill: Fill, *more: Any) -> list[Publication]:  # noqa: ANN401 - as the book's
        """See ``Book.take``."""
        cause = getattr(order, "cause", Cause.AGENT)
        sign = order.side.sign
        self.taken.append(Booked(fill.ord_id, fill.trade_id, sign, fill.sz, fill.px, cause))
        return super().take(order, fill, *more)


@attrs.define
class Replay:
    """What a journal says."""

    state: TradeState
    booked: list[Booked]
    """Fills in the order in which they were booked."""
    digests: dict[int, str] = attrs.Factory(dict)
    """The state's digest behind the records that were asked for."""
    differing: list[int] = attrs.Factory(list)
    """Records whose effects are others than those recorded."""
    pushed: list[PositionReport] = attrs.Factory(list)
    """Positions as pushes told them, in the order in which they came."""
    asked: list[PositionReport] = attrs.Factory(list)
    """Positions as REST told them."""
    closed: list[Closed] = attrs.Factory(list)
    digest: str = ""
    """A hash over all records: journals of equal runs are equal."""

    def note(self, event: Event) -> None:
        """Keep what an input tells of the position."""
        match event:
            case PositionUpdate(report=report):
                self.pushed.append(report)
            case ExchangeSnapshot(position=report) if report is not None:
                self.asked.append(report)
            case _:
                pass


def replay(
    journal: Journal,
    rules: Rules,
    scope: DecodeContext,
    wanted: set[int],
    archive: Mapping[int, Record] | None = None,
) -> Replay:
    """Feed every record to a new state; ``wanted`` names records whose digest is to be kept.

    ``archive`` has the records that the journal has forgotten.
    """
    book = NotingBook()
    found = Replay(TradeState(rules, book=book), book.taken)
    whole = sha256()
    if 0 in wanted:
        found.digests[0] = found.state.digest()
    first = journal.first_seq
    forgotten = ((seq, record) for seq, record in sorted((archive or {}).items()) if seq < first)
    for seq, record in chain(forgotten, journal.tail(first - 1)):
        whole.update(repr(record).encode())
        arrival = journaled_inputs.read(record.kind, record.raw, record.context, scope)
        effects = tuple(
            chain.from_iterable(found.state.apply(event, record.at_ns) for event in arrival.events)
        )
        for event in arrival.events:
            found.note(event)
        for effect in effects:
            if isinstance(effect, PublishClosure):
                closed = Closed(effect.message_id, len(found.pushed), len(found.asked))
                found.closed.append(closed)
        if encode_effects(effects) != record.outputs:
            found.differing.append(seq)
        if seq in wanted:
            found.digests[seq] = found.state.digest()
    found.digest = whole.hexdigest()
    return found
