"""The protocol of the control socket: one line of JSON each way, then the connection is closed.

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


class ControlRequest(msgspec.Struct, frozen=True):
    """``status``, or a verb of ``core.inputs.Verb``."""

    ask: str


class ControlAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer; ``error`` is one line for the operator."""

    ok: bool
    error: str = ""
    status: msgspec.Raw = msgspec.Raw()


@contextmanager
def socket_address(folder: Path) -> Iterator[str]:
    """Give an address for the folder's socket that is short enough for any depth of the folder."""
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
    """Open the folder's socket, for this user and root only.

    The caller holds the folder's lock, so a socket that is already there is of a process that died.
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
