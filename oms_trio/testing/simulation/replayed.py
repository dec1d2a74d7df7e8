"""A run's journal, replayed once from its first record for the audit."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from itertools import chain

import attrs

from oms_trio.core.effects import FillBooked, PublishClosure
from oms_trio.core.events import Event, ExchangeSnapshot, PositionUpdate
from oms_trio.core.model import PositionReport, Rules
from oms_trio.core.state import TradeState
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Record
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import DecodeContext, encode_effects
from oms_trio.service.state_codec import digest


@attrs.frozen
class Closed:
    """A closure, with how many position reports had come by push and by REST before it."""

    message_id: str
    pushed: int
    asked: int


@attrs.define
class JournalReplay:
    """What a replay of a journal gives."""

    state: TradeState
    booked: list[FillBooked] = attrs.Factory(list)
    """Fills in the order in which they were booked."""
    digests: dict[int, str] = attrs.Factory(dict)
    """By sequence number: the state's digest after the records that the caller named."""
    differing: list[int] = attrs.Factory(list)
    """Records whose effects differ from the recorded ones."""
    pushed: list[PositionReport] = attrs.Factory(list)
    """Position reports by push, in the order in which they came."""
    asked: list[PositionReport] = attrs.Factory(list)
    """Position reports by REST."""
    closed: list[Closed] = attrs.Factory(list)
    digest: str = ""
    """A hash over all records; equal runs have equal hashes."""

    def note(self, event: Event) -> None:
        """Keep the position report of an input, if it has one."""
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
) -> JournalReplay:
    """Replay every record into a new state.

    ``wanted`` has the sequence numbers after which the digest is kept. ``archive`` has the records
    that compaction has removed from the journal.
    """
    found = JournalReplay(TradeState(rules))
    whole = sha256()
    if 0 in wanted:
        found.digests[0] = digest(found.state)
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
            if isinstance(effect, FillBooked):
                found.booked.append(effect)
            elif isinstance(effect, PublishClosure):
                closed = Closed(effect.message_id, len(found.pushed), len(found.asked))
                found.closed.append(closed)
        if encode_effects(effects) != record.outputs:
            found.differing.append(seq)
        if seq in wanted:
            found.digests[seq] = digest(found.state)
    found.digest = whole.hexdigest()
    return found
