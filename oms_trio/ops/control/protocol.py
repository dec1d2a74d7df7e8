"""What is said over the control socket: one line of JSON each way, then the end.

{"ask": "status"}     -> {"ok": true, "status": {...}}
{"ask": "pause"}      -> {"ok": true}                   applied, and durable
{"ask": "anything"}   -> {"ok": false, "error": "..."}
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

SOCKET: Final = "control.sock"
LINE_MAX: Final = 4096
STATUS: Final = "status"

_NAME_MAX: Final = 100  # Linux takes 107 bytes in a socket's address


class Request(msgspec.Struct, frozen=True):
    """A question or a command."""

    ask: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it."""

    ok: bool
    error: str = ""
    status: msgspec.Raw = msgspec.Raw()


@contextmanager
def socket_address(folder: Path) -> Iterator[str]:
    """Give an address for the folder's socket that is short enough, however deep the folder is."""
    direct = str(folder / SOCKET)
    if len(os.fsencode(direct)) <= _NAME_MAX:
        yield direct
        return
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)


def listen(folder: Path) -> socket.socket:
    """Open the folder's socket, for this user (and root) alone.

    Whoever holds the folder's lock may replace the socket of a process that was killed.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before bind: the file appears with these permissions and never had others.
        os.fchmod(listener.fileno(), 0o600)
        (folder / SOCKET).unlink(missing_ok=True)
        with socket_address(folder) as address:
            listener.bind(address)
        listener.listen(16)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
