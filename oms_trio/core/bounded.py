"""Dicts that remember the newest entries only."""

from __future__ import annotations

from itertools import islice
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep_newest(entries: dict[K, V], keep: int) -> dict[K, V]:
    """Return the newest ``keep`` entries once there are an eighth more, else all of them.

    Deleting the oldest one by one would be slow in the long run: a dict finds its first key by
    walking over what was deleted before it.
    """
    surplus = len(entries) - keep
    return dict(islice(entries.items(), surplus, None)) if surplus > keep // 8 else entries
