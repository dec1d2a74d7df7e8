"""The whole trading state as JSON, for snapshots: written down, and read back from any release's."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from oms_trio.core.state import TradeState
from oms_trio.service import earlier_formats
from oms_trio.service.earlier_formats import RETIRED


def encode_state(state: TradeState) -> bytes:
    """Write the whole state down, to be read back by ``decode_state``."""
    return msgspec.json.encode(state)


def decode_state(blob: bytes) -> TradeState:
    """Read a state back, also of an earlier release: what it did not know yet has its default.

    Raises:
        msgspec.DecodeError: something in it would be lost or read as something else, because a
            release with another state wrote it.
    """
    with suppress(msgspec.ValidationError):
        state = msgspec.json.decode(blob, type=TradeState)
        if encode_state(state) == blob:
            return state
    theirs = msgspec.json.decode(blob)
    if not isinstance(theirs, dict):
        raise msgspec.ValidationError("a state is an object")
    theirs = earlier_formats.state(theirs)
    state = msgspec.json.decode(msgspec.json.encode(theirs), type=TradeState)
    if not _holds(msgspec.json.decode(encode_state(state)), theirs):
        raise msgspec.ValidationError("it has fields that this release does not know")
    return state


def _holds(ours: object, theirs: object) -> bool:
    """Whether all that ``theirs`` says is in ``ours`` as well; both are decoded JSON."""
    match ours, theirs:
        case dict(), dict():
            return all(
                name in RETIRED or (name in ours and _holds(ours[name], theirs[name]))
                for name in theirs
            )
        case list(), list():
            return len(ours) == len(theirs) and all(map(_holds, ours, theirs))
        case _:
            return ours == theirs
