"""Asks a running service over its control socket."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import trio

from oms_trio.ops.control.protocol import Answer, Request, socket_address

PATIENCE_S = 20.0


class ControlError(Exception):
    """No service answered, or it said no; one line for the operator."""


async def ask(folder: Path, what: str) -> bytes:
    """Ask the service whose state is in ``folder``; returns the status it gives, if any.

    Raises:
        ControlError: saying why there is no good answer.
    """
    try:
        with trio.fail_after(PATIENCE_S), trio.socket.socket(socket.AF_UNIX) as connection:
            with socket_address(folder) as address:
                await connection.connect(address)
            stream = trio.SocketStream(connection)
            await stream.send_all(msgspec.json.encode(Request(what)) + b"\n")
            said = b"".join([part async for part in stream])
    except PermissionError:
        raise ControlError(f"only the user of the service and root may control {folder}") from None
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise ControlError(
            f"no service runs on {folder}: name its state folder with --state-dir"
        ) from None
    except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise ControlError(f"the service did not answer: {str(error) or 'too slow'}") from error
    try:
        answer = msgspec.json.decode(said, type=Answer)
    except msgspec.DecodeError:
        raise ControlError("the service ended before it answered") from None
    if not answer.ok:
        raise ControlError(answer.error)
    return bytes(answer.status)
