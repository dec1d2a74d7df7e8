"""What a run reports when an invariant does not hold."""

from __future__ import annotations

import attrs


@attrs.frozen
class Violation:
    """A broken invariant (its number in docs/simulation.md, or a word) and one line about it."""

    invariant: str
    what: str
