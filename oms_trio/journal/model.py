"""What the journal holds: inputs, messages to publish, snapshots."""

from __future__ import annotations

import attrs


@attrs.frozen
class Record:
    """One input of the trade-state task, as it came in, and what came of it.

    ``kind`` names how ``raw`` is decoded, ``context`` carries what the decoding needs beside it.
    ``at_ns`` is Unix time, ``mono_ns`` monotonic time of the process that recorded it.
    ``outputs`` are the effects, so that another release can be held against them.
    """

    kind: str
    raw: bytes
    at_ns: int
    mono_ns: int
    context: str = ""
    outputs: bytes = b""


@attrs.frozen
class Message:
    """One message for the broker; ``message_id`` is the same whenever it is sent.

    ``cause`` is the value of its header ``x-oms-cause``; empty: no header.
    """

    message_id: str
    routing_key: str
    body: bytes
    cause: str = ""


@attrs.frozen
class Entry:
    """One input with all that it caused: they become durable together or not at all."""

    seq: int
    record: Record
    outbox: tuple[Message, ...] = ()


@attrs.frozen
class Snapshot:
    """The trading state after the input ``seq``; ``digest`` is that of the state."""

    seq: int
    blob: bytes
    digest: str
