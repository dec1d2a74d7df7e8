"""Removes from the broker's frames what aiormq cannot decode.

RabbitMQ passes on a message's properties as their publisher wrote them. aiormq decodes all of them, and
ends the connection because of a ``timestamp`` in nanoseconds, a string that is not UTF-8, or headers
nested too deeply, so that one message would block its queue permanently. Every content header is
therefore reduced to the few properties that we use, before aiormq reads it.

Pure: bytes in, bytes out. Nothing here recurses, and nothing raises.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Final

import attrs

FLAW: Final = "oms-flaw"
"""Header with the reason why a message is unusable, whatever its body."""
DEATH_REASON: Final = "oms-death-reason"
"""Header with the reason of the newest entry of RabbitMQ's ``x-death`` (``expired``, ...)."""
DEATH_QUEUE: Final = "oms-death-queue"
"""Header with the queue of that entry, from which the message was dead-lettered."""

_FRAME: Final = struct.Struct(">BHI")
_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_FRAME_END: Final = 0xCE
_FIXED_PART: Final = 12
"""Size of class, weight and body size, which precede the properties in a content header."""

_CONTENT_TYPE, _HEADERS, _MESSAGE_ID, _TIMESTAMP = 1 << 15, 1 << 13, 1 << 7, 1 << 6
_MORE_FLAGS: Final = 1
# Sizes of the properties in the order of their flags: a short string, a table, or bytes.
_SHORT, _TABLE, _OCTET, _EIGHT = -1, -2, 1, 8
_PROPERTIES: Final = (
    (_CONTENT_TYPE, _SHORT),
    (1 << 14, _SHORT),  # content_encoding
    (_HEADERS, _TABLE),
    (1 << 12, _OCTET),  # delivery_mode
    (1 << 11, _OCTET),  # priority
    (1 << 10, _SHORT),  # correlation_id
    (1 << 9, _SHORT),  # reply_to
    (1 << 8, _SHORT),  # expiration
    (_MESSAGE_ID, _SHORT),
    (_TIMESTAMP, _EIGHT),
    (1 << 5, _SHORT),  # type
    (1 << 4, _SHORT),  # user_id
    (1 << 3, _SHORT),  # app_id
    (1 << 2, _SHORT),  # cluster_id
)
_LAST_SECOND: Final = (1 << 32) - 1
"""aiormq takes a greater timestamp for milliseconds, and most of those are not a valid date."""

# Table values by the letter of their type, as RabbitMQ uses them. Long values begin with their size.
_VALUE_SIZES: Final = dict(
    zip(b"tbBsuIiflLdDTV", (1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 5, 8, 0), strict=True)
)
_LONG_VALUES: Final = frozenset(b"SAFx")


@attrs.define
class FrameFilter:
    """Reduces the content headers in a broker's stream of bytes, however it is split.

    All other frames pass unchanged. Bytes that do not begin a frame are not AMQP: from there on
    everything passes, and aiormq reports the error.
    """

    _rest: bytes = b""
    _passing: float = 0
    """How many of the next bytes pass unread."""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that are complete now."""
        data = self._rest + data if self._rest else data
        done: list[bytes] = []
        at = 0
        while at < len(data):
            if self._passing:
                end = int(min(at + self._passing, len(data)))
                done.append(data[at:end])
                self._passing -= end - at
                at = end
                continue
            if len(data) - at < _FRAME.size:
                break
            kind, channel, size = _FRAME.unpack_from(data, at)
            if kind != _HEADER:
                known = kind in (_METHOD, _BODY, _HEARTBEAT)
                self._passing = _FRAME.size + size + 1 if known else math.inf
                continue
            begin, end = at + _FRAME.size, at + _FRAME.size + size
            if len(data) <= end:
                break
            payload = data[begin:end]
            if data[end] == _FRAME_END:
                payload = reduced(payload)
            done += (_FRAME.pack(kind, channel, len(payload)), payload, data[end : end + 1])
            at = end + 1
        self._rest = data[at:]
        return b"".join(done)

    def end(self) -> bytes:
        """Return the remaining bytes at the end of the stream."""
        rest, self._rest = self._rest, b""
        return rest


def reduced(payload: bytes) -> bytes:
    """Reduce a content header to what we use and aiormq can decode.

    These are ``content_type``, ``message_id`` and ``timestamp``, unchanged if they are valid, and of the
    headers only our own ``FLAW``, ``DEATH_REASON`` and ``DEATH_QUEUE``.
    """
    try:
        found = _properties(payload)
    except (IndexError, ValueError, struct.error):
        return _content_header(payload, {}, {FLAW: b"the AMQP properties cannot be read"})
    notes = _death(found.get(_HEADERS, b""))
    kept: dict[int, bytes] = {}
    for flag in (_CONTENT_TYPE, _MESSAGE_ID):
        if flag in found:
            if _is_text(found[flag][1:]):
                kept[flag] = found[flag]
            elif flag == _MESSAGE_ID:
                # The id identifies the action, which must not be traded as another one.
                notes[FLAW] = b"the AMQP message_id is not UTF-8"
    if _TIMESTAMP in found and int.from_bytes(found[_TIMESTAMP]) <= _LAST_SECOND:
        kept[_TIMESTAMP] = found[_TIMESTAMP]
    return _content_header(payload, kept, notes)


def _content_header(payload: bytes, kept: dict[int, bytes], notes: dict[str, bytes]) -> bytes:
    if notes:
        entries = b"".join(
            bytes([len(name)]) + name.encode() + b"S" + len(value).to_bytes(4) + value
            for name, value in notes.items()
        )
        kept = {**kept, _HEADERS: len(entries).to_bytes(4) + entries}
    flags = sum(kept)
    parts = [kept[flag] for flag in sorted(kept, reverse=True)]
    return payload[:_FIXED_PART] + flags.to_bytes(2) + b"".join(parts)


def _properties(payload: bytes) -> dict[int, bytes]:
    """Split the properties, each as encoded on the wire.

    Raises:
        IndexError, ValueError, struct.error: they do not match their flags.
    """
    (flags,) = struct.unpack_from(">H", payload, _FIXED_PART)
    if flags & _MORE_FLAGS:
        raise ValueError("AMQP 0-9-1 has no more property flags")
    found: dict[int, bytes] = {}
    at = _FIXED_PART + 2
    for flag, size in _PROPERTIES:
        if flags & flag:
            if size == _SHORT:
                end = at + 1 + payload[at]
            elif size == _TABLE:
                end = at + 4 + int.from_bytes(payload[at : at + 4])
            else:
                end = at + size
            if end > len(payload):
                raise ValueError("a property exceeds the header")
            found[flag] = payload[at:end]
            at = end
    return found


def _death(headers: bytes) -> dict[str, bytes]:
    """Return queue and reason of the last time a message was dead-lettered, from ``x-death``."""
    try:
        for name, kind, value in _entries(headers[4:]):
            # An array of tables, the newest first.
            if (name, kind, value[4:5]) == (b"x-death", ord("A"), b"F"):
                size = int.from_bytes(value[5:9])
                entry = {
                    key: text[4:]
                    for key, what, text in _entries(value[9 : 9 + size])
                    if what == ord("S")
                }
                reason, queue = entry.get(b"reason", b""), entry.get(b"queue", b"")
                if reason and queue and _is_text(reason) and _is_text(queue):
                    return {DEATH_REASON: reason, DEATH_QUEUE: queue}
    except (IndexError, ValueError):
        pass  # not written by RabbitMQ
    return {}


def _entries(table: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield name, type and undecoded value (with its size, if it has one) of each entry.

    Raises:
        IndexError, ValueError: it is not a table.
    """
    at = 0
    while at < len(table):
        begin = at + 1 + table[at]
        kind = table[begin]
        name, begin = table[at + 1 : begin], begin + 1
        if kind in _LONG_VALUES:
            at = begin + 4 + int.from_bytes(table[begin : begin + 4])
        elif kind in _VALUE_SIZES:
            at = begin + _VALUE_SIZES[kind]
        else:
            raise ValueError(f"a table value has the unknown type {kind}")
        yield name, kind, table[begin:at]


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
