"""The content of the journal: inputs, messages to publish, snapshots, and its account."""

from __future__ import annotations

import attrs


@attrs.frozen
class Record:
    """One input of the trade-state task, as it was received, and its effects.

    ``kind`` selects the decoder of ``raw``, and ``context`` holds what else it needs. ``at_ns`` is Unix
    time, ``mono_ns`` the monotonic time of the process that recorded it. ``outputs`` are the effects,
    with which another release can be compared.
    """

    kind: str
    raw: bytes
    at_ns: int
    mono_ns: int
    context: str = ""
    outputs: bytes = b""


@attrs.frozen
class Message:
    """One message for the broker; ``message_id`` is the same each time it is sent.

    ``cause`` is the value of the header ``x-oms-cause``; empty: no header.
    """

    message_id: str
    routing_key: str
    body: bytes
    cause: str = ""


@attrs.frozen
class Entry:
    """One input with everything that it caused: they become durable together or not at all.

    ``action_name`` is the name (``core.identity.order_name``) with which ``Journal.knows_action`` finds
    the action; empty: the input is not an action with a message id.
    """

    seq: int
    record: Record
    outbox: tuple[Message, ...] = ()
    action_name: str = ""


@attrs.frozen
class StateSnapshot:
    """The encoded trading state after the input ``seq``, and its digest."""

    seq: int
    blob: bytes
    digest: str


@attrs.frozen
class Account:
    """The account of a journal: the exchange's ``uid``, the REST host, live or demo trading."""

    uid: str
    host: str
    demo: bool

    def __str__(self) -> str:
        return f"{self.uid} ({'demo' if self.demo else 'live'} trading at {self.host})"

    def is_same(self, other: Account) -> bool:
        """Whether both are the same account: an exchange may have several hosts in one domain."""
        return (
            self.uid == other.uid
            and self.demo == other.demo
            and _domain(self.host) == _domain(other.host)
        )


def _domain(host: str) -> str:
    """Return the last two labels of a host name; an IP address is returned unchanged."""
    labels = host.rsplit(".", 2)
    return host if ":" in host or labels[-1].isdecimal() else ".".join(labels[-2:])
