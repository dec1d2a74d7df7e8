"""Recordings as JSON lines: what other people's recorders write, read leniently.

One object a line. Names and units differ between recorders, so several are taken:

    when       time ts timestamp t at received    ISO 8601, or Unix s, ms, us, ns by magnitude
    direction  direction dir d                    in recv rx < | out send sent tx >   (in)
    frame      frame msg message data raw text payload    as text or as JSON
    action     action body                        25 bytes as hex; message_id, redelivered beside
    link       link                               up | down, with why beside

A line that is itself a frame (``arg``, ``event`` or ``op`` at its top) is one that came in; its
time is its own, else that of the line before it.
"""

from __future__ import annotations

import binascii
from typing import Any, Final

import attrs
import msgspec

from oms_trio.replay.times import unix_ns

_WHEN: Final = ("time", "ts", "timestamp", "t", "at", "at_ns", "received", "time_ns", "ts_ns")
_WHICH_WAY: Final = ("direction", "dir", "d")
_WHAT: Final = ("frame", "msg", "message", "data", "raw", "text", "payload")
_ACTION: Final = ("action", "body")
_OUT: Final = frozenset({"out", "send", "sent", "tx", ">", ">>"})
_FRAME_KEYS: Final = frozenset({"arg", "event", "op"})
_ROW_TIMES: Final = ("pTime", "uTime", "ts")

_json: Final = msgspec.json.Encoder().encode
_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


class UnreadableLine(ValueError):  # noqa: N818 - reads as what it tells
    """This line is no line of a recording."""


@attrs.frozen
class FrameLine:
    """A frame that came in, or went out."""

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
class LinkLine:
    """A session came up, or was lost."""

    at_ns: int | None
    up: bool
    why: str


Line = FrameLine | ActionLine | LinkLine


def read_line(text: bytes) -> Line:
    """Read one line.

    Raises:
        UnreadableLine: it is no JSON object, or holds nothing that we know.
    """
    try:
        line = _object(text)
        at_ns = _when(line)
        if _FRAME_KEYS & line.keys():
            return FrameLine(at_ns or _time_of_push(line), text.decode().strip(), out=False)
        if "link" in line:
            return LinkLine(at_ns, line["link"] == "up", str(line.get("why", "")))
        if (action := _first(line, _ACTION)) is not None:
            body = binascii.unhexlify(str(action))
            redelivered = bool(line.get("redelivered", False))
            return ActionLine(at_ns, body, line.get("message_id"), redelivered)
        what = _first(line, _WHAT)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnreadableLine(str(error)) from None
    if what is None:
        raise UnreadableLine("no frame, action or link in it")
    frame = what if isinstance(what, str) else _json(what).decode()
    return FrameLine(at_ns, frame, out=str(_first(line, _WHICH_WAY)).lower() in _OUT)


def write_frame(at_ns: int, text: str, *, out: bool) -> bytes:
    """Write a frame as ``read_line`` reads it."""
    return _json({"time": at_ns, "direction": "out" if out else "in", "frame": text}) + b"\n"


def write_link(at_ns: int, why: str | None) -> bytes:
    """Write that a session came up (``why`` is None) or was lost."""
    told = {"link": "up"} if why is None else {"link": "down", "why": why}
    return _json({"time": at_ns, **told}) + b"\n"


def _first(line: dict[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401 - any JSON
    return next((line[name] for name in names if line.get(name) is not None), None)


def _when(line: dict[str, Any]) -> int | None:
    value = _first(line, _WHEN)
    return None if value is None else unix_ns(value)


def _time_of_push(frame: dict[str, Any]) -> int | None:
    """Return when the exchange says that the newest row of a push came to be."""
    rows = frame.get("data")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    times = [value for row in rows if (value := _first(row, _ROW_TIMES))]
    return max((unix_ns(value) for value in times), default=None)
