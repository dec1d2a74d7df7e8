"""The simulated exchange on a port, or on any stream: REST and WebSocket side by side."""

from __future__ import annotations

import ssl
from typing import cast

import attrs
import h11
import structlog
import trio
from trio_websocket import ConnectionClosed, wrap_server_stream

from oms_trio.sim import rest
from oms_trio.sim.exchange import Exchange
from oms_trio.sim.private_ws import run_private

log = structlog.get_logger()

PRIVATE_PATH = "/ws/v5/private"
RECEIVE_SIZE = 65_536
MAX_BODY = 1 << 20
"""A batch of twenty orders is a few kilobytes: a body above this is no client of ours."""

CLOSE_PATIENCE_S = 1.0


async def serve(
    exchange: Exchange,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
    tick_s: float = 0.25,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an exchange on a TCP port and let its market move; ends by cancellation only.

    ``task_status`` gets the port, which is a free one when ``port`` is 0. ``OSError`` escapes
    when it is taken.
    """

    async def handler(stream: trio.abc.Stream) -> None:
        await handle_stream(exchange, stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive, exchange, tick_s)
        listeners = await trio.open_tcp_listeners(port, host=host)
        bound: int = listeners[0].socket.getsockname()[1]
        if ssl_context is None:
            nursery.start_soon(trio.serve_listeners, handler, listeners)
        else:
            secured = [
                trio.SSLListener(listener, ssl_context, https_compatible=True)
                for listener in listeners
            ]
            nursery.start_soon(trio.serve_listeners, handler, secured)
        task_status.started(bound)


async def drive(exchange: Exchange, tick_s: float = 0.25) -> None:
    """Move the market and the exchange's timers every ``tick_s``; ends by cancellation only."""
    while True:
        await trio.sleep(tick_s)
        exchange.tick()


async def handle_stream(exchange: Exchange, stream: trio.abc.Stream) -> None:
    """Serve one connection, REST with keep-alive or one WebSocket, and close it.

    Nothing that a client or its network does escapes.
    """
    try:
        if exchange.faults.refuse_connections:
            return
        connection = _Http(exchange, stream)
        with exchange.faults.watching(connection), connection.scope:
            await connection.run()
    except* (
        trio.BrokenResourceError,
        trio.ClosedResourceError,
        h11.ProtocolError,
        ConnectionClosed,  # the client left between its request to upgrade and our answer
    ) as lost:
        log.debug("sim_connection_lost", why=repr(lost.exceptions[0]))
    finally:
        await trio.aclose_forcefully(stream)


@attrs.define(eq=False)
class _Http:
    """The HTTP side of one connection."""

    exchange: Exchange
    stream: trio.abc.Stream
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _http: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.SERVER), init=False)
    _received: bytearray = attrs.field(factory=bytearray, init=False)
    """The handshake's bytes, which a WebSocket wants to read again; emptied by the first answer."""

    def cut(self) -> None:
        """Lose the connection."""
        self.scope.cancel()

    def announce_upgrade(self, after_s: float) -> None:
        """Do nothing: only WebSockets are told of upgrades."""

    async def run(self) -> None:
        """Answer requests until the client closes, or become a WebSocket."""
        while True:
            event = await self._next_event()
            if not isinstance(event, h11.Request):
                return
            if _header(event, b"upgrade").lower() == "websocket":
                await self._become_websocket(event)
                return
            await self._answer(event, await self._body())
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()
            self._received.clear()

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return cast("h11.Event | type[h11.PAUSED]", event)
            data = await self.stream.receive_some(RECEIVE_SIZE)
            self._received += data
            self._http.receive_data(bytes(data))

    async def _body(self) -> bytes:
        body = b""
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise h11.RemoteProtocolError("body too large", 413)
        return body

    async def _answer(self, request: h11.Request, body: bytes) -> None:
        response = rest.handle(
            self.exchange,
            request.method.decode("ascii"),
            request.target.decode("ascii"),
            {name.decode("ascii"): value.decode("latin-1") for name, value in request.headers},
            body,
        )
        if self.exchange.faults.stalled:
            await trio.sleep_forever()
        await self._send(response.status, response.body)

    async def _send(self, status: int, body: bytes) -> None:
        head = h11.Response(
            status_code=status,
            headers=[
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
            ],
        )
        parts = (head, h11.Data(data=body), h11.EndOfMessage())
        await self.stream.send_all(b"".join(self._http.send(part) or b"" for part in parts))

    async def _become_websocket(self, request: h11.Request) -> None:
        path = request.target.decode("ascii").partition("?")[0]
        if path != PRIVATE_PATH:
            await self._send(404, b"")
            return
        async with trio.open_nursery() as nursery:
            replayed = _ReplayedStream(bytes(self._received), self.stream)
            handshake = await wrap_server_stream(
                nursery, replayed, receive_buffer_size=RECEIVE_SIZE
            )
            await run_private(self.exchange, await handshake.accept())
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class _ReplayedStream(trio.abc.Stream):
    """A stream whose first bytes were read before, and are read again here."""

    _first: bytes
    _stream: trio.abc.Stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._first:
            size = len(self._first) if max_bytes is None else max_bytes
            first, self._first = self._first[:size], self._first[size:]
            return first
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _header(request: h11.Request, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in request.headers if key == name), "")
