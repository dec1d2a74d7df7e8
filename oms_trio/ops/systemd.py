"""What systemd is told of this process (``sd_notify``): ready, alive, stopping, one line of status."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final, final

_ABSTRACT: Final = "\0"

BEATS_PER_WATCHDOG: Final = 3
"""A beat may come late or get lost; systemd acts when none has come for the whole period."""


@final
class Notifier:
    """Sends to the socket of ``NOTIFY_SOCKET``; does nothing where there is none.

    A message that cannot be delivered is dropped: trading does not depend on who listens.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = _ABSTRACT + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_UNIX, kind)
        self.watchdog_s = watchdog_s
        """How long systemd waits for a beat before it kills the service; None: it does not."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Notifier:
        """Read what systemd has put into the environment."""
        period = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(period) / 1e6 if ours and period.isdecimal() and int(period) else None
        return cls(environ.get("NOTIFY_SOCKET", ""), watchdog_s)

    @property
    def beat_s(self) -> float:
        """The longest time between two beats; infinity when nobody waits for them."""
        return float("inf") if self.watchdog_s is None else self.watchdog_s / BEATS_PER_WATCHDOG

    def tell(self, *assignments: str) -> None:
        """Send assignments such as ``READY=1`` in one message; never waits."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(assignments).encode(), self._address)

    def close(self) -> None:
        """Let the socket go."""
        if self._socket is not None:
            self._socket.close()
