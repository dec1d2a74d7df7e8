"""The simulated exchange on a port or on any stream: REST and WebSockets."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import cast

import attrs
import h11
import structlog
import trio
from trio_websocket import ConnectionClosed, wrap_server_stream

from oms_trio.testing.okx_server import control
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.rate_limits import Quota
from oms_trio.testing.okx_server.rest import router
from oms_trio.testing.okx_server.ws.connection import ServerConnection
from oms_trio.testing.okx_server.ws.private_session import PrivateSession
from oms_trio.testing.okx_server.ws.public_session import PublicSession
from oms_trio.testing.okx_server.ws.websocket import WebSocketSession, serve_websocket

log = structlog.get_logger()

PRIVATE_PATH = "/ws/v5/private"
PUBLIC_PATH = "/ws/v5/public"
_SESSIONS: Mapping[str, Callable[[SimulatedExchange, ServerConnection], WebSocketSession]] = {
    PRIVATE_PATH: PrivateSession,
    PUBLIC_PATH: PublicSession,
}

RECEIVE_SIZE = 65_536
STALL_POLL_S = 0.05
"""How often a stalled REST call checks whether the stall was ended early."""

MAX_BODY = 1 << 20
"""The maximum size of a body: a batch of twenty orders has a few kilobytes."""


async def serve(
    exchange: SimulatedExchange,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
    tick_s: float = 0.25,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an exchange on a TCP port, and let its market move; ends by cancellation only.

    ``task_status`` gets the port, a free one if ``port`` is 0. ``OSError`` escapes if it is taken.
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


async def drive(exchange: SimulatedExchange, tick_s: float = 0.25) -> None:
    """Move the market and the exchange's timers every ``tick_s``; ends by cancellation only."""
    while True:
        await trio.sleep(tick_s)
        exchange.tick()


async def handle_stream(exchange: SimulatedExchange, stream: trio.abc.Stream) -> None:
    """Serve one connection, REST with keep-alive or one WebSocket, and close it.

    A client or its network causes no exception.
    """
    try:
        connection = _Http(exchange, stream)
        with exchange.faults.attached(connection), connection.scope:
            await connection.run()
    except* (
        trio.BrokenResourceError,
        trio.ClosedResourceError,
        h11.ProtocolError,
        ConnectionClosed,  # the client left during the WebSocket handshake
    ) as lost:
        log.debug("sim_connection_lost", why=repr(lost.exceptions[0]))
    finally:
        await trio.aclose_forcefully(stream)


@attrs.define(eq=False)
class _Http:
    """The HTTP side of one connection."""

    exchange: SimulatedExchange
    stream: trio.abc.Stream
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _http: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.SERVER), init=False)
    _in_control_call: bool = attrs.field(default=False, init=False)
    _received: bytearray = attrs.field(factory=bytearray, init=False)
    """What was received, because a WebSocket reads its handshake again; cleared by an answer."""

    def cut(self) -> None:
        """Lose the connection, unless it carries the control call that demands the cut."""
        if not self._in_control_call:
            self.scope.cancel()

    def announce_upgrade(self, after_s: float) -> None:
        """Do nothing: this fault and those below are for WebSockets only."""

    def become_half_open(self) -> None:
        """Do nothing."""

    def close(self, code: int) -> None:
        """Do nothing."""

    def send_raw(self, frame: str | bytes) -> None:
        """Do nothing."""

    async def run(self) -> None:
        """Answer requests until the client closes, or become a WebSocket."""
        event = await self._next_event()
        if self._is_dropped(event):
            return
        while isinstance(event, h11.Request):
            if _header(event, b"upgrade").lower() == "websocket":
                await self._become_websocket(event)
                return
            await self._answer(event, await self._body())
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()
            self._received.clear()
            event = await self._next_event()

    def _is_dropped(self, first: h11.Event | type[h11.PAUSED]) -> bool:
        """Whether a new connection is dropped; control calls never are."""
        self.exchange.faults.expire(self.exchange.clock())
        is_control = isinstance(first, h11.Request) and _is_control(first)
        return self.exchange.faults.refuse_connections and not is_control

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
        exchange = self.exchange
        method, target = request.method.decode("ascii"), request.target.decode("ascii")
        if _is_control(request):
            self._in_control_call = True
            response = control.handle(exchange, method, target, body, is_local=self._is_local())
            self._in_control_call = False
            await self._send(response)
            return
        headers = {key.decode("ascii"): value.decode("latin-1") for key, value in request.headers}
        # A stalled request takes effect late; one during a silence is lost.
        exchange.faults.expire(exchange.clock())
        while exchange.faults.stall:
            await trio.sleep(
                min(exchange.faults.remaining_s("stall", exchange.clock()), STALL_POLL_S)
            )
            exchange.faults.expire(exchange.clock())
        if exchange.faults.silence:
            await trio.sleep_forever()
        response = router.handle(exchange, method, target, headers, body)
        if response.is_lost:
            self.scope.cancel()
        await trio.sleep(response.delay_s)
        await self._send(response)

    def _is_local(self) -> bool:
        """Whether the client is on this machine, or in this process."""
        stream = self.stream
        if isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        if not isinstance(stream, trio.SocketStream):
            return True
        try:
            return ip_address(stream.socket.getpeername()[0]).is_loopback
        except OSError:
            return False

    async def _send(self, response: router.RestResponse) -> None:
        head = h11.Response(
            status_code=response.status,
            headers=[
                (b"content-type", response.content_type.encode()),
                (b"content-length", str(len(response.body)).encode()),
            ],
        )
        parts = (head, h11.Data(data=response.body), h11.EndOfMessage())
        await self.stream.send_all(b"".join(self._http.send(part) or b"" for part in parts))

    async def _become_websocket(self, request: h11.Request) -> None:
        path = request.target.decode("ascii").partition("?")[0]
        new_session = _SESSIONS.get(path)
        if new_session is None:
            await self._send(router.RestResponse(404, b""))
            return
        exchange = self.exchange
        quota = Quota(exchange.connections_per_s, 1000)
        if quota.count and not exchange.limits.admit("connections", quota, exchange.true_ms):
            await self._send(router.RestResponse(429, b""))
            return
        async with trio.open_nursery() as nursery:
            replayed = _ReplayedStream(bytes(self._received), self.stream)
            handshake = await wrap_server_stream(
                nursery, replayed, receive_buffer_size=RECEIVE_SIZE
            )
            await serve_websocket(exchange, await handshake.accept(), new_session)
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class _ReplayedStream(trio.abc.Stream):
    """A stream whose first bytes have been read already, and are read once more."""

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


def _is_control(request: h11.Request) -> bool:
    return request.target.startswith(control.PREFIX.encode())


def _header(request: h11.Request, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in request.headers if key == name), "")
