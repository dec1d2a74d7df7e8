"""A session on a network connection: TLS, trio-websocket and the clock around ``OkxSession``.

No task runs in here: the task that iterates an ``OkxConnection`` drives its session, and that keeps it
alive. Two connections can be open at once, for the handover before an upgrade of the exchange.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from urllib.parse import SplitResult, urlsplit

import attrs
import structlog
import trio
import trio_websocket
import wsproto

from oms_trio.okx.eager_websocket import EagerWebSocketConnection, wrap_client_stream
from oms_trio.okx.errors import ProtocolError, SessionLostError
from oms_trio.okx.session import Event, OkxSession, Send
from oms_trio.settings.clock import Clock

log = structlog.get_logger()

StreamOpener = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens the transport to a host and port; TLS is added on top of it where the URL asks for TLS."""

RECEIVE_BUFFER: Final = 65536
"""Bytes read from the transport at once."""

# While this queue is full, trio-websocket answers no protocol ping and sees no close frame
# (python-trio/trio-websocket#82; its default is 1). The consumer only decodes and passes on, so
# the size is for bursts: a sweep that fills 300 orders makes about as many frames.
_MESSAGE_QUEUE: Final = 1024

# The largest frames are pages of positions, of some tens of kB.
_MAX_MESSAGE: Final = 1 << 20

_CONNECT_TIMEOUT_S: Final = 10.0

# Pings and subscriptions are tiny: a transport that does not accept one is permanently blocked.
_SEND_TIMEOUT_S: Final = 10.0

# For the closing handshake; the exchange sends nothing of interest in it.
_CLOSE_TIMEOUT_S: Final = 1.0

# A slow consumer may come back after the deadline while frames wait here: they are read before the
# connection counts as silent.
_RECEIVE_S: Final = 0.05

_DEFAULT_PORTS: Final = {"wss": 443, "ws": 80}


@attrs.frozen
class ReceivedEvent:
    """One event, the text of its frame, and the time of its arrival (Unix nanoseconds, our clock)."""

    at_ns: int
    text: str
    event: Event


class OkxConnection:
    """An open connection with its session: iterate it for events, ``send`` requests.

    Iteration logs in and subscribes first, and ends only by an error: a ``SessionError``, or a
    ``ProtocolError`` for an unreadable frame. One task iterates; any task may send after the event
    ``Ready``.
    """

    def __init__(
        self,
        connection: EagerWebSocketConnection,
        session: OkxSession,
        clock: Clock,
        offset_ns: int,
    ) -> None:
        self._connection = connection
        self._session = session
        self._clock = clock
        self._offset_ns = offset_ns
        self._started = False
        self._send_interrupted = False
        self._messages: deque[str | bytes] = deque()  # of one burst
        self._events: deque[ReceivedEvent] = deque()  # of one frame, so a handful at most

    def __repr__(self) -> str:
        return f"<OkxConnection {self._session!r}>"

    async def send(self, text: str) -> None:
        """Send one frame.

        A cancelled send may have sent half a frame, so the connection cannot be used after it.

        Raises:
            SessionLostError: the connection has ended; whether the frame arrived is unknown.
        """
        if self._send_interrupted:
            raise SessionLostError("an earlier send was interrupted")
        try:
            with _translated():
                await self._connection.send_message(text)
        except trio.Cancelled:
            self._send_interrupted = True
            raise

    def __aiter__(self) -> OkxConnection:
        return self

    async def __anext__(self) -> ReceivedEvent:
        if not self._started:
            self._started = True
            timestamp_s = (self._clock() + self._offset_ns) // 1_000_000_000
            await self._send_control(self._session.start(trio.current_time(), timestamp_s))
        while not self._events:
            await self._receive()
        return self._events.popleft()

    async def _receive(self) -> None:
        """Process one frame, or let the session check its deadline."""
        if not self._messages:
            deadline = max(self._session.deadline, trio.current_time() + _RECEIVE_S)
            with trio.move_on_at(deadline), _translated():
                self._messages.extend(await self._connection.get_messages())
        if self._send_interrupted:
            raise SessionLostError("a send was interrupted")
        now = trio.current_time()
        message = self._messages.popleft() if self._messages else None
        outputs: tuple[Send | Event, ...]
        if message is None:
            outputs = self._session.timeout(now)
        elif isinstance(message, bytes):
            raise ProtocolError("$", "a binary frame")
        else:
            outputs = self._session.receive(message, now)
            self._events.extend(
                ReceivedEvent(self._clock(), message, output)
                for output in outputs
                if not isinstance(output, Send)
            )
        for output in outputs:
            if isinstance(output, Send):
                await self._send_control(output)

    async def _send_control(self, control: Send) -> None:
        with _translated(), trio.fail_after(_SEND_TIMEOUT_S):
            await self.send(control.text)


@asynccontextmanager
async def open_okx_connection(
    url: str,
    session: OkxSession,
    clock: Clock,
    *,
    offset_ns: int = 0,
    open_stream: StreamOpener = trio.open_tcp_stream,
    ssl_context: ssl.SSLContext | None = None,
    connect_timeout_s: float = _CONNECT_TIMEOUT_S,
) -> AsyncIterator[OkxConnection]:
    """Connect to the private WebSocket at ``url`` and keep the connection open for the block.

    ``offset_ns`` is the exchange's clock minus ours. Certificates are verified against the system's
    authorities, or those of ``ssl_context``. Exceptions of the block are raised unchanged.

    Raises:
        SessionLostError: no connection, or it broke; every error of network, TLS and WebSocket is
            raised as this, never in an exception group (python-trio/trio-websocket#188).
        ValueError: the URL is neither ``wss://`` nor ``ws://`` to this machine.
    """
    address = _address(url)
    raised: BaseException | None = None
    block_done = False
    try:
        async with trio.open_nursery() as nursery:
            try:
                with _translated(), trio.fail_after(connect_timeout_s):
                    stream = await _open_transport(address, open_stream, ssl_context)
                    connection = await _wrap(nursery, stream, address)
                try:
                    yield OkxConnection(connection, session, clock, offset_ns)
                    block_done = True
                    with trio.move_on_after(_CLOSE_TIMEOUT_S):
                        await connection.aclose()
                finally:
                    # After a loss trio-websocket leaves the transport open. Closing it forcefully
                    # does not wait; without a shield it would replace an error by Cancelled.
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(stream)
            except BaseException as error:
                raised = error
                raise
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        of_block = set(map(id, _leaves(raised)))
        crashes = [leaf for leaf in _leaves(group) if id(leaf) not in of_block]
        kept = group.subgroup(lambda leaf: id(leaf) in of_block)
        if crashes and (kept is None or isinstance(raised, SessionLostError)):
            # trio-websocket's reader has crashed, and the block has raised nothing of its own,
            # or only lost the session because of it: the crash is the reason to report.
            if not all(isinstance(crash, Exception) for crash in crashes):
                raise
            why = "; ".join(map(_why, crashes))
            if not block_done:
                raise SessionLostError(why) from group
            log.debug("okx_connection_close_failed", why=why)
            return
        if len(list(_leaves(kept))) < len(of_block):  # the nursery has absorbed its own Cancelled
            raised = kept
    if raised is not None:
        raise raised


def _address(url: str) -> SplitResult:
    address = urlsplit(url)
    if address.scheme not in _DEFAULT_PORTS or not address.hostname:
        raise ValueError(f"{url!r} is not a WebSocket URL: it must start with wss:// or ws://")
    if address.scheme == "ws" and not _is_loopback(address.hostname):
        raise ValueError(
            f"ws:// is allowed for this machine only: use wss:// for {address.hostname}"
        )
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _open_transport(
    address: SplitResult, open_stream: StreamOpener, ssl_context: ssl.SSLContext | None
) -> trio.abc.Stream:
    assert address.hostname is not None
    port = address.port or _DEFAULT_PORTS[address.scheme]
    stream = await open_stream(address.hostname, port)
    if address.scheme == "ws":
        return stream
    tls = trio.SSLStream(
        stream,
        ssl_context or ssl.create_default_context(),
        server_hostname=address.hostname,
        https_compatible=True,  # like web servers, they close TCP without a TLS closure alert
    )
    try:
        await tls.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(tls)
        raise
    return tls


async def _wrap(
    nursery: trio.Nursery, stream: trio.abc.Stream, address: SplitResult
) -> EagerWebSocketConnection:
    target = address.path or "/"
    if address.query:
        target += f"?{address.query}"
    try:
        return await wrap_client_stream(
            nursery,
            stream,
            address.netloc,
            target,
            message_queue_size=_MESSAGE_QUEUE,
            max_message_size=_MAX_MESSAGE,
            receive_buffer_size=RECEIVE_BUFFER,
        )
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


@contextmanager
def _translated() -> Iterator[None]:
    """Turn every error of network, TLS and WebSocket into ``SessionLostError``."""
    try:
        yield
    except (
        OSError,
        trio.BrokenResourceError,
        trio.ClosedResourceError,
        trio.TooSlowError,
        trio_websocket.ConnectionClosed,
        trio_websocket.HandshakeError,
        wsproto.utilities.LocalProtocolError,
    ) as error:
        raise SessionLostError(_why(error)) from error


def _why(error: BaseException) -> str:
    match error:
        case trio_websocket.ConnectionClosed(reason=reason) if reason is not None:
            return f"closed with {reason.code} ({reason.reason or reason.name})"
        case trio_websocket.ConnectionRejected(status_code=status):
            return f"the server answered HTTP {status} instead of opening a WebSocket"
        case trio.TooSlowError():
            return "timed out"
        case trio.BrokenResourceError(__cause__=cause) if cause is not None:
            return f"connection broken: {cause}"
        case _:
            return f"{type(error).__name__}: {error}"


def _leaves(error: BaseException | None) -> Iterator[BaseException]:
    """Return the single errors in an error, which may be a group or None."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    elif error is not None:
        yield error
