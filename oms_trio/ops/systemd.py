"""Notifies systemd (``sd_notify``): ready, alive, stopping, and one line of status."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final, final

_ABSTRACT: Final = "\0"

KEEP_ALIVES_PER_WATCHDOG: Final = 3
"""One may be late or get lost; systemd acts when it has received none for the whole period."""


@final
class Notifier:
    """Sends to the socket that ``NOTIFY_SOCKET`` names; does nothing without one.

    A message that cannot be delivered is dropped: trading does not depend on a supervisor.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = _ABSTRACT + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_UNIX, kind)
        self.watchdog_s = watchdog_s
        """How long systemd waits for a keep-alive before it kills the service; None: no limit."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Notifier:
        """Read the variables that systemd sets."""
        period = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(period) / 1e6 if ours and period.isdecimal() and int(period) else None
        return cls(environ.get("NOTIFY_SOCKET", ""), watchdog_s)

    @property
    def keep_alive_s(self) -> float:
        """Seconds between two keep-alives; infinity without a watchdog."""
        return (
            float("inf") if self.watchdog_s is None else self.watchdog_s / KEEP_ALIVES_PER_WATCHDOG
        )

    def notify(self, *assignments: str) -> None:
        """Send assignments such as ``READY=1`` in one message; never waits."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(assignments).encode(), self._address)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
