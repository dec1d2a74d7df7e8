"""What went over the wires of a run, as one running hash, and as text for whoever looks closer."""

from __future__ import annotations

from hashlib import sha256
from typing import TextIO

import attrs
import trio


@attrs.define(eq=False)
class Tape:
    """Takes every chunk with its virtual time; equal runs give equal digests.

    ``trace`` gets the same as lines: comparing those of two runs shows where they part.
    """

    trace: TextIO | None = None
    chunks: int = 0
    _chained: bytes = b""

    def note(self, wire: str, data: bytes) -> None:
        """Add what went over a wire now; ``wire`` names it with the direction."""
        self.chunks += 1
        head = f"{trio.current_time()!r} {wire} {len(data)}\n".encode()
        self._chained = sha256(self._chained + head + data).digest()
        if self.trace is not None:
            self.trace.write(f"{head.decode().rstrip()} {data!r}\n")

    @property
    def digest(self) -> str:
        """The hash over all of it so far."""
        return self._chained.hex()
