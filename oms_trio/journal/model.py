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
    """One input with all that it caused: they become durable together or not at all.

    ``action_name`` is the name by which ``Journal.knows_action`` finds the action that the input
    was (``core.identity.order_name``); empty: there is nothing to find.
    """

    seq: int
    record: Record
    outbox: tuple[Message, ...] = ()
    action_name: str = ""


@attrs.frozen
class StateSnapshot:
    """The trading state after the input ``seq``; ``digest`` is that of the state."""

    seq: int
    blob: bytes
    digest: str


@attrs.frozen
class Account:
    """Whose trading a journal records: the exchange's ``uid``, the REST host, live or demo."""

    uid: str
    host: str
    demo: bool

    def __str__(self) -> str:
        return f"{self.uid} ({'demo' if self.demo else 'live'} trading at {self.host})"

    def is_same(self, other: Account) -> bool:
        """Whether both are one account: an exchange may have several hosts in one domain."""
        return (
            self.uid == other.uid
            and self.demo == other.demo
            and _domain(self.host) == _domain(other.host)
        )


def _domain(host: str) -> str:
    """Return the last two labels of a host's name; an address is no name, and stays whole."""
    labels = host.rsplit(".", 2)
    return host if ":" in host or labels[-1].isdecimal() else ".".join(labels[-2:])
