"""What a state is made of: a fingerprint of its classes, their fields and the types of these.

Two releases whose states have one shape can be compared by digests; with different shapes their
digests differ though nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import cache
from hashlib import sha256
from typing import Final, NewType, get_args, get_type_hints

import attrs

DIGITS: Final = 12
"""Hexadecimal digits of a fingerprint: it only has to tell the releases of one program apart."""


@cache
def shape_of(root: type) -> str:
    """Return the fingerprint of an attrs class with all classes and enums that its fields reach.

    Fields count in their order and with their types as they are written in the source, because
    that does not depend on the version of the interpreter.
    """
    seen: dict[str, str] = {}
    waiting: list[object] = [root]
    while waiting:
        found = waiting.pop()
        waiting += get_args(found)
        if isinstance(found, NewType):
            seen[found.__name__] = found.__supertype__.__name__
        if isinstance(found, type) and (name := found.__qualname__) not in seen:
            if attrs.has(found):
                seen[name] = " ".join(_fields(found))
                waiting += get_type_hints(found).values()
            elif issubclass(found, Enum):
                seen[name] = " ".join(repr(member) for member in found)
    lines = "\n".join(f"{name}: {told}" for name, told in sorted(seen.items()))
    return sha256(lines.encode()).hexdigest()[:DIGITS]


def same_shape(digest: str, other: str) -> bool:
    """Say whether two digests were taken of states of one shape, so that they can be compared.

    Digests of early releases tell of no shape.
    """
    return digest.rpartition(":")[0] == other.rpartition(":")[0]


def _fields(cls: type[attrs.AttrsInstance]) -> Iterator[str]:
    for field in attrs.fields(cls):
        if field.repr:
            yield f"{field.name}={getattr(field.type, '__qualname__', field.type)}"
