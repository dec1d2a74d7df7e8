"""Sends requests to a running service over its control socket."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import trio

from oms_trio.ops.control.protocol import ControlAnswer, ControlRequest, socket_address

TIMEOUT_S = 20.0


class ControlError(Exception):
    """No service answered, or it answered with an error; one line for the operator."""


async def ask(folder: Path, what: str) -> bytes:
    """Send a request to the service whose state is in ``folder``; return its status, if any.

    ``what`` is ``status`` or a verb.

    Raises:
        ControlError: the service cannot be reached, or answered with an error.
    """
    try:
        with trio.fail_after(TIMEOUT_S), trio.socket.socket(socket.AF_UNIX) as connection:
            with socket_address(folder) as address:
                await connection.connect(address)
            stream = trio.SocketStream(connection)
            await stream.send_all(msgspec.json.encode(ControlRequest(what)) + b"\n")
            received = b"".join([part async for part in stream])
    except PermissionError:
        raise ControlError(
            f"no permission for {folder}: run this as root or as the user of the service"
        ) from None
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise ControlError(
            f"no service runs in {folder}: name its state folder with --state-dir"
        ) from None
    except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise ControlError(
            f"the service did not answer: {str(error) or f'no answer within {TIMEOUT_S:.0f} s'}"
        ) from error
    try:
        answer = msgspec.json.decode(received, type=ControlAnswer)
    except msgspec.DecodeError:
        raise ControlError("the service ended before it answered") from None
    if not answer.ok:
        raise ControlError(answer.error)
    return bytes(answer.status)
