"""The trading state read back from the journal when a process starts."""

from __future__ import annotations

import attrs
import msgspec
import structlog

from oms_trio.core.model import Rules
from oms_trio.core.state import TradeState
from oms_trio.journal.errors import JournalFull, StateError
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import StateSnapshot
from oms_trio.okx.errors import OkxError
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import DecodeContext
from oms_trio.service.state_codec import decode_state, snapshot_of

log = structlog.get_logger()


@attrs.frozen
class Recovered:
    """The trading state as the journal has it, with sequence and time of its last record."""

    state: TradeState
    seq: int
    at_ns: int = 0
    snapshot_seq: int = 0
    """The last record that the newest readable snapshot contains: a start applies those after it."""


def recover(journal: Journal, rules: Rules, context: DecodeContext) -> Recovered:
    """Read the last snapshot and apply the records after it.

    A snapshot of another release that this one cannot read is passed over: an earlier one, or the
    beginning, and the records after that give the same state. The effects are dropped: they were
    carried out, or are in the outbox, or reconciliation finds what became of them.

    Raises:
        StateError: the journal is damaged or was written by another release.
    """
    newest = journal.latest_snapshot()
    state, snapshot_seq = _last_readable(journal, newest) or (TradeState(rules), 0)
    seq = snapshot_seq
    try:
        for number, record in journal.tail(seq):
            seq = number
            journaled = journaled_inputs.read(record.kind, record.raw, record.context, context)
            for event in journaled.events:
                state.apply(event, record.at_ns)
    except (ValueError, msgspec.ValidationError, OkxError) as error:
        raise StateError(
            f"record {seq} of the journal cannot be read ({error}): it was written by another "
            "release or for another instrument; start that one, or choose another state folder"
        ) from error
    if newest is not None and newest.seq != snapshot_seq and _save(journal, state, seq):
        snapshot_seq = seq
    return Recovered(state, seq, journal.last_at_ns, snapshot_seq)


def _save(journal: Journal, state: TradeState, seq: int) -> bool:
    """Save what was recovered without the newest snapshots; returns whether it is saved.

    Compaction takes any snapshot for one that a start can begin with.
    """
    snapshot = snapshot_of(state, seq)
    try:
        journal.save_snapshot(snapshot.seq, snapshot.blob, snapshot.digest)
    except JournalFull as error:
        log.warning("snapshot_skipped", why=str(error))
        return False
    return True


def _last_readable(
    journal: Journal, snapshot: StateSnapshot | None
) -> tuple[TradeState, int] | None:
    """Return the newest state that this release can read, with its sequence."""
    while snapshot is not None:
        try:
            return decode_state(snapshot.blob), snapshot.seq
        except msgspec.DecodeError as error:
            log.warning("snapshot_unreadable", seq=snapshot.seq, why=str(error))
            snapshot = journal.latest_snapshot(snapshot.seq - 1)
    return None
