"""Recordings as JSON lines, also those of other programs.

One object per line. Names and units differ between recorders, so several are accepted:

    time       time ts timestamp t at received    ISO 8601, or Unix s, ms, us, ns by magnitude
    direction  direction dir d                    in recv rx < | out send sent tx >   (default: in)
    frame      frame msg message data raw text payload    text or JSON
    action     action body                        25 bytes as hex, with message_id and redelivered
    session    session link                       up | down, with why

A line that is itself a frame (``arg``, ``event`` or ``op`` at the top level) was received; its
time is that of its newest row, else that of the previous line.
"""

from __future__ import annotations

import binascii
from typing import Any, Final

import attrs
import msgspec

from oms_trio.replay.times import parse_time

_TIME: Final = ("time", "ts", "timestamp", "t", "at", "at_ns", "received", "time_ns", "ts_ns")
_DIRECTION: Final = ("direction", "dir", "d")
_FRAME: Final = ("frame", "msg", "message", "data", "raw", "text", "payload")
_ACTION: Final = ("action", "body")
_SESSION: Final = ("session", "link")
_OUT: Final = frozenset({"out", "send", "sent", "tx", ">", ">>"})
_FRAME_KEYS: Final = frozenset({"arg", "event", "op"})
_ROW_TIMES: Final = ("pTime", "uTime", "ts")

_json: Final = msgspec.json.Encoder().encode
_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


class UnreadableLineError(ValueError):
    """The line is not part of a recording."""


@attrs.frozen
class FrameLine:
    """A frame that was received, or sent (``out``)."""

    at_ns: int | None
    text: str
    out: bool


@attrs.frozen
class ActionLine:
    """An action as the broker delivered it."""

    at_ns: int | None
    body: bytes
    message_id: str | None
    redelivered: bool


@attrs.frozen
class SessionLine:
    """A session came up or was lost."""

    at_ns: int | None
    up: bool
    why: str


RecordedLine = FrameLine | ActionLine | SessionLine


def read_line(text: bytes) -> RecordedLine:
    """Read one line.

    Raises:
        UnreadableLineError: it is not a JSON object, or has no frame, action or session.
    """
    try:
        line = _object(text)
        at_ns = _time(line)
        if _FRAME_KEYS & line.keys():
            return FrameLine(at_ns or _time_of_push(line), text.decode().strip(), out=False)
        if (session := _first(line, _SESSION)) is not None:
            return SessionLine(at_ns, session == "up", str(line.get("why", "")))
        if (action := _first(line, _ACTION)) is not None:
            body = binascii.unhexlify(str(action))
            redelivered = bool(line.get("redelivered", False))
            return ActionLine(at_ns, body, line.get("message_id"), redelivered)
        content = _first(line, _FRAME)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnreadableLineError(str(error)) from None
    if content is None:
        raise UnreadableLineError("no frame, action or session in it")
    frame = content if isinstance(content, str) else _json(content).decode()
    return FrameLine(at_ns, frame, out=str(_first(line, _DIRECTION)).lower() in _OUT)


def write_frame(at_ns: int, text: str, *, out: bool) -> bytes:
    """Write a frame as ``read_line`` reads it."""
    return _json({"time": at_ns, "direction": "out" if out else "in", "frame": text}) + b"\n"


def write_session(at_ns: int, why: str | None) -> bytes:
    """Write that a session came up (``why`` is None) or was lost."""
    change = {"session": "up"} if why is None else {"session": "down", "why": why}
    return _json({"time": at_ns, **change}) + b"\n"


def _first(line: dict[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401 - any JSON
    return next((line[name] for name in names if line.get(name) is not None), None)


def _time(line: dict[str, Any]) -> int | None:
    value = _first(line, _TIME)
    return None if value is None else parse_time(value)


def _time_of_push(frame: dict[str, Any]) -> int | None:
    """Return the exchange's time of the newest row of a push."""
    rows = frame.get("data")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    times = [value for row in rows if (value := _first(row, _ROW_TIMES))]
    return max((parse_time(value) for value in times), default=None)
