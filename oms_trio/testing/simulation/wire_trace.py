"""Everything on the wires of a run, as one hash and on request as text."""

from __future__ import annotations

from hashlib import sha256
from typing import TextIO

import attrs
import trio


@attrs.define(eq=False)
class WireTrace:
    """Hashes every chunk with its virtual time; equal runs give equal digests.

    ``lines`` gets the same as text: those of two runs differ first where their behaviour does.
    """

    lines: TextIO | None = None
    chunks: int = 0
    _chained: bytes = b""

    def note(self, wire: str, data: bytes) -> None:
        """Add what is sent on a wire now; ``wire`` names the connection and the direction."""
        self.chunks += 1
        head = f"{trio.current_time()!r} {wire} {len(data)}\n".encode()
        self._chained = sha256(self._chained + head + data).digest()
        if self.lines is not None:
            self.lines.write(f"{head.decode().rstrip()} {data!r}\n")

    @property
    def digest(self) -> str:
        """The hash over everything so far."""
        return self._chained.hex()
