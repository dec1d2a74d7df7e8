"""Serves the control socket; its file permissions are the access control."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable

import msgspec
import structlog
import trio

from oms_trio.core.events import Verb
from oms_trio.ops.bounded_server import BoundedStream, serve_bounded
from oms_trio.ops.control.protocol import LINE_MAX, STATUS, ControlAnswer, ControlRequest

log = structlog.get_logger()

TIMEOUT_S = 15.0
"""For one request and its answer; longer than a command waits for the disk."""

REQUEST_S = 2.0
"""For the request, which is one line from a program on this machine."""

AT_ONCE = 16
"""Connections at a time; more wait in the socket's backlog."""


EncodedStatus = Callable[[], bytes | None]
RunCommand = Callable[[Verb, str], Awaitable[None]]


async def serve_control(
    listener: socket.socket, *, status: EncodedStatus, command: RunCommand, failure: type[Exception]
) -> None:
    """Answer until cancelled. An error of a client ends its connection, nothing else.

    ``status`` returns the status as JSON, None before there is one. ``command`` carries out a
    command, or raises ``failure`` with one line for the operator.
    """

    async def handle(stream: BoundedStream) -> None:
        with trio.move_on_after(TIMEOUT_S):
            try:
                await _serve(stream, status, command, failure)
            except trio.BrokenResourceError:
                log.debug("control_client_left")

    await serve_bounded(listener, handle, AT_ONCE)


async def _serve(
    stream: BoundedStream, status: EncodedStatus, command: RunCommand, failure: type[Exception]
) -> None:
    line = bytearray()
    with trio.move_on_after(REQUEST_S) as timeout:
        while not line.endswith(b"\n") and len(line) <= LINE_MAX:
            part = await stream.receive_some(LINE_MAX)
            if not part:
                break
            line += part
    if timeout.cancelled_caught:
        return
    answer = await _answer(bytes(line), _client(stream), status, command, failure)
    await stream.send_all(msgspec.json.encode(answer) + b"\n")


async def _answer(
    line: bytes, client: str, status: EncodedStatus, command: RunCommand, failure: type[Exception]
) -> ControlAnswer:
    try:
        ask = msgspec.json.decode(line, type=ControlRequest).ask
        if ask == STATUS:
            encoded = status()
            if encoded is None:
                return ControlAnswer(ok=False, error="the service is starting")
            return ControlAnswer(ok=True, status=msgspec.Raw(encoded))
        verb = Verb(ask)
    except (msgspec.DecodeError, ValueError) as error:
        return ControlAnswer(ok=False, error=str(error))
    try:
        await command(verb, client)
    except failure as error:
        return ControlAnswer(ok=False, error=str(error))
    return ControlAnswer(ok=True)


def _client(stream: BoundedStream) -> str:
    """Name the client by the user and process id that the kernel reports."""
    raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return f"uid {uid} (pid {pid})"
