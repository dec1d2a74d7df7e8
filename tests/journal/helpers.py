"""Entries to append, derived from their sequence, so that reading can be checked against writing."""

from __future__ import annotations

from collections.abc import Sequence

from oms_trio.journal.model import Entry, Message, Record

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000


def record(seq: int, size: int = 20) -> Record:
    """Make the record of this sequence; successive records are one second apart."""
    return Record(
        kind="orders" if seq % 2 else "tick",
        raw=(f"{seq}:".encode() + b"\x00\xff" * size)[: max(size, 12)],
        at_ns=START_NS + seq * SECOND_NS,
        mono_ns=seq * SECOND_NS,
        context=f"ctx-{seq}",
    )


def message(seq: int, part: int = 0) -> Message:
    """Make a message that the input of this sequence caused."""
    return Message(f"m-{seq}-{part}", "execution.update", f'{{"state_id":{seq}}}'.encode())


def entries(first: int, last: int, size: int = 20) -> list[Entry]:
    """Make the entries of these sequences, each with a message."""
    return [Entry(seq, record(seq, size), (message(seq),)) for seq in range(first, last + 1)]


def sequences(found: Sequence[tuple[int, Record]]) -> list[int]:
    """Return the sequences, after checking that each record is as it was written."""
    for seq, value in found:
        assert value == record(seq, len(value.raw))
    return [seq for seq, _ in found]
