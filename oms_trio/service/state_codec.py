"""The whole trading state as JSON: written for snapshots and digests, read back from any release's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from functools import cache
from hashlib import sha256
from typing import Final, NewType, get_args, get_type_hints

import attrs
import msgspec

from oms_trio.core.state import TradeState
from oms_trio.journal.model import StateSnapshot
from oms_trio.service import earlier_formats
from oms_trio.service.earlier_formats import RETIRED

FINGERPRINT_DIGITS: Final = 12
"""Hexadecimal digits of a fingerprint: it only has to distinguish releases of one program."""


def snapshot_of(state: TradeState, seq: int) -> StateSnapshot:
    """Encode the state after record ``seq``, with its digest."""
    blob = encode_state(state)
    return StateSnapshot(seq, blob, _digest_of(blob))


def digest(state: TradeState) -> str:
    """Return a hash of the whole state, after the fingerprint of its schema and a colon.

    Equal digests mean equal states. Different ones mean different states if their schemas are the
    same; another schema is that of another release.
    """
    return _digest_of(encode_state(state))


def _digest_of(blob: bytes) -> str:
    return f"{schema_fingerprint(TradeState)}:{sha256(blob).hexdigest()}"


def same_schema(digest: str, other: str) -> bool:
    """Whether two digests are of states with one schema, so that they can be compared.

    Digests of early releases name no schema.
    """
    return digest.rpartition(":")[0] == other.rpartition(":")[0]


@cache
def schema_fingerprint(root: type) -> str:
    """Return a hash of an attrs class with all classes and enums that its fields reach.

    Fields count in their order and with their types as they are written in the source, because
    that does not depend on the version of the interpreter.
    """
    found: dict[str, str] = {}
    waiting: list[object] = [root]
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if isinstance(kind, NewType):
            found[kind.__name__] = kind.__supertype__.__name__
        if isinstance(kind, type) and (name := kind.__qualname__) not in found:
            if attrs.has(kind):
                found[name] = " ".join(_fields(kind))
                waiting += get_type_hints(kind).values()
            elif issubclass(kind, Enum):
                found[name] = " ".join(repr(member) for member in kind)
    lines = "\n".join(f"{name}: {content}" for name, content in sorted(found.items()))
    return sha256(lines.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def _fields(cls: type[attrs.AttrsInstance]) -> Iterator[str]:
    for field in attrs.fields(cls):
        yield f"{field.name}={getattr(field.type, '__qualname__', field.type)}"


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
    """Whether all that is in ``theirs`` is in ``ours`` as well; both are decoded JSON."""
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
