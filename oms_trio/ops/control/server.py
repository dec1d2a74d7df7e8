"""Answers on the control socket. Who may open it may steer: its permissions are the access control."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable

import msgspec
import structlog
import trio

from oms_trio.core.events import Verb
from oms_trio.ops.bounded_server import Connection, serve_bounded
from oms_trio.ops.control.protocol import LINE_MAX, STATUS, Answer, Request

log = structlog.get_logger()

PATIENCE_S = 15.0
"""For one question and its answer; longer than a command waits for the disk."""

ASK_S = 2.0
"""For the question, which is one line of a program on this machine."""

AT_ONCE = 16
"""Connections open at once; more wait in the socket's backlog."""


EncodedStatus = Callable[[], bytes | None]
RunCommand = Callable[[Verb, str], Awaitable[None]]


async def serve_control(
    listener: socket.socket, *, status: EncodedStatus, command: RunCommand, failure: type[Exception]
) -> None:
    """Answer until cancelled. What a client does wrong ends its connection.

    ``status`` returns the status as JSON, None before there is one; ``command`` carries out what a
    client commands, or raises a ``failure`` whose one line is answered.
    """

    async def handle(stream: Connection) -> None:
        with trio.move_on_after(PATIENCE_S):
            try:
                await _serve(stream, status, command, failure)
            except trio.BrokenResourceError:
                log.debug("control_client_left")

    await serve_bounded(listener, handle, AT_ONCE)


async def _serve(
    stream: Connection, status: EncodedStatus, command: RunCommand, failure: type[Exception]
) -> None:
    line = bytearray()
    with trio.move_on_after(ASK_S) as patience:
        while not line.endswith(b"\n") and len(line) <= LINE_MAX:
            part = await stream.receive_some(LINE_MAX)
            if not part:
                break
            line += part
    if patience.cancelled_caught:
        return
    answer = await _answer(bytes(line), _who(stream), status, command, failure)
    await stream.send_all(msgspec.json.encode(answer) + b"\n")


async def _answer(
    line: bytes, who: str, status: EncodedStatus, command: RunCommand, failure: type[Exception]
) -> Answer:
    try:
        ask = msgspec.json.decode(line, type=Request).ask
        if ask == STATUS:
            encoded = status()
            if encoded is None:
                return Answer(ok=False, error="the service is starting")
            return Answer(ok=True, status=msgspec.Raw(encoded))
        verb = Verb(ask)
    except (msgspec.DecodeError, ValueError) as error:
        return Answer(ok=False, error=str(error))
    try:
        await command(verb, who)
    except failure as error:
        return Answer(ok=False, error=str(error))
    return Answer(ok=True)


def _who(stream: Connection) -> str:
    """Name the other side by what the kernel knows of it."""
    raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return f"uid {uid} (pid {pid})"
