"""An exchange that does as it is told, over memory streams: no network, no time of its own."""

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
    """Make a stream opener behind which ``handler`` serves every WebSocket in ``nursery``."""

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
    """Take the login and the subscription as the exchange does."""
    assert json.loads(await connection.get_message())["op"] == "login"
    await connection.send_message(LOGIN_OK)
    request = json.loads(await connection.get_message())
    for arg in request["args"]:
        await connection.send_message(subscribed(arg["channel"]))


def new_session() -> OkxSession:
    return OkxSession(CREDENTIALS, INST_ID)


async def until_ready(link: OkxConnection) -> Ready:
    heard = await anext(link)
    assert isinstance(heard.event, Ready)
    return heard.event


async def everything(link: OkxConnection, into: list[object] | None = None) -> None:
    """Listen until the link ends, which it does by an error."""
    async for heard in link:
        if into is not None:
            into.append(heard.event)
