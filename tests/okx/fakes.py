"""A scripted exchange over memory streams, without network and without a clock of its own."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
import trio_websocket
from trio.testing import memory_stream_pair

from oms_trio.okx.session import OkxSession, Ready
from oms_trio.okx.websocket import OkxConnection, StreamOpener
from tests.okx.samples import CREDENTIALS, INST_ID, LOGIN_OK, subscribed

URL = "ws://localhost/ws/v5/private"

Connection = trio_websocket.WebSocketConnection
Handler = Callable[[Connection], Awaitable[None]]


def serving(nursery: trio.Nursery, handler: Handler) -> StreamOpener:
    """Return a stream opener; ``handler`` serves every WebSocket that it opens, in ``nursery``."""

    async def serve(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as inner:
            request = await trio_websocket.wrap_server_stream(inner, stream)
            connection = await request.accept()
            with suppress(trio_websocket.ConnectionClosed):  # the client left before the end
                await handler(connection)
            await connection.aclose()
            inner.cancel_scope.cancel()

    async def open_stream(_host: str, _port: int) -> trio.abc.Stream:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(serve, theirs)
        return ours

    return open_stream


async def welcome(connection: Connection) -> None:
    """Accept the login and the subscription as the exchange does."""
    assert json.loads(await connection.get_message())["op"] == "login"
    await connection.send_message(LOGIN_OK)
    request = json.loads(await connection.get_message())
    for arg in request["args"]:
        await connection.send_message(subscribed(arg["channel"]))


def new_session() -> OkxSession:
    return OkxSession(CREDENTIALS, INST_ID)


async def until_ready(connection: OkxConnection) -> Ready:
    received = await anext(connection)
    assert isinstance(received.event, Ready)
    return received.event


async def everything(connection: OkxConnection, into: list[object] | None = None) -> None:
    """Receive events until the connection ends, which raises an error."""
    async for received in connection:
        if into is not None:
            into.append(received.event)
