"""What a run has found."""

from __future__ import annotations

import attrs


@attrs.frozen
class Violation:
    """A broken invariant (its number, or a word) and one line about it."""

    invariant: str
    what: str
