"""A session over a real connection: TLS, trio-websocket and the clock around ``Session``.

There is no task of ours in here: whoever iterates a ``OkxConnection`` drives its session, and so keeps it
alive. Two links can be open at once, for the change-over ahead of an upgrade.
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

from oms_trio.okx import connection as wire
from oms_trio.okx.errors import ProtocolError, SessionLostError
from oms_trio.okx.session import Event, Send, Session
from oms_trio.settings.clock import Clock

log = structlog.get_logger()

StreamOpener = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens the transport to a host and port; TLS, where the URL asks for it, goes on top."""

RECEIVE_BUFFER: Final = 65536
"""Bytes taken from the transport at once."""

# While this queue is full trio-websocket answers no protocol ping and sees no close frame
# (python-trio/trio-websocket#82; its default is 1). The consumer only decodes and hands over, so
# this is for bursts: a sweep of 300 orders makes about as many frames.
_MESSAGE_QUEUE: Final = 1024

# The largest frames, pages of positions, have some tens of kB.
_MAX_MESSAGE: Final = 1 << 20

_CONNECT_TIMEOUT_S: Final = 10.0

# Pings and subscriptions are tiny: a transport that does not take one is blocked for good.
_SEND_TIMEOUT_S: Final = 10.0

# For the closing handshake, in which the exchange has nothing more to tell.
_CLOSE_TIMEOUT_S: Final = 1.0

# A consumer that was slow may come back after the deadline, with frames waiting here: they are
# looked at before the silence is believed.
_LISTEN_S: Final = 0.05

_DEFAULT_PORTS: Final = {"wss": 443, "ws": 80}


@attrs.frozen
class ReceivedEvent:
    """One event, the frame that told it, and when it came (Unix nanoseconds, our clock)."""

    at_ns: int
    text: str
    event: Event


class OkxConnection:
    """An open connection with its session: iterate it for what it tells, ``send`` ops.

    Iteration logs in and subscribes first, and ends only by an error: a ``SessionError``, or a
    ``ProtocolError`` for a frame that cannot be read. One task iterates; any task may send once
    ``Ready`` was told.
    """

    def __init__(
        self,
        connection: wire.Connection,
        session: Session,
        clock: Clock,
        offset_ns: int,
    ) -> None:
        self._connection = connection
        self._session = session
        self._clock = clock
        self._offset_ns = offset_ns
        self._begun = False
        self._torn = False
        self._messages: deque[wire.Message] = deque()  # of one burst
        self._told: deque[ReceivedEvent] = deque()  # of one frame, so a handful at most

    def __repr__(self) -> str:
        return f"<Link {self._session!r}>"

    async def send(self, text: str) -> None:
        """Send one frame.

        A send that is cancelled may leave half a frame behind, so the link is over after it.

        Raises:
            SessionLostError: the link is over; whether the frame has arrived is unknown.
        """
        if self._torn:
            raise SessionLostError("an earlier send was cut off")
        try:
            with _translated():
                await self._connection.send_message(text)
        except trio.Cancelled:
            self._torn = True
            raise

    def __aiter__(self) -> OkxConnection:
        return self

    async def __anext__(self) -> ReceivedEvent:
        if not self._begun:
            self._begun = True
            timestamp_s = (self._clock() + self._offset_ns) // 1_000_000_000
            await self._send_control(self._session.start(trio.current_time(), timestamp_s))
        while not self._told:
            await self._listen()
        return self._told.popleft()

    async def _listen(self) -> None:
        """Take one frame, or let the session look at the clock."""
        if not self._messages:
            deadline = max(self._session.deadline, trio.current_time() + _LISTEN_S)
            with trio.move_on_at(deadline), _translated():
                self._messages.extend(await self._connection.get_messages())
        if self._torn:
            raise SessionLostError("a send was cut off")
        now = trio.current_time()
        message = self._messages.popleft() if self._messages else None
        outputs: tuple[Send | Event, ...]
        if message is None:
            outputs = self._session.timeout(now)
        elif isinstance(message, bytes):
            raise ProtocolError("$", "a binary frame")
        else:
            outputs = self._session.receive(message, now)
            self._told.extend(
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
async def open_link(
    url: str,
    session: Session,
    clock: Clock,
    *,
    offset_ns: int = 0,
    open_stream: StreamOpener = trio.open_tcp_stream,
    ssl_context: ssl.SSLContext | None = None,
    connect_timeout_s: float = _CONNECT_TIMEOUT_S,
) -> AsyncIterator[OkxConnection]:
    """Connect to the private WebSocket at ``url`` and hold the connection open for the block.

    ``offset_ns`` is the exchange's clock minus ours. Certificates are verified, by the system's
    authorities unless ``ssl_context`` brings others. What the block raises comes out unchanged.

    Raises:
        SessionLostError: no connection, or it broke; every error of network, TLS and WebSocket
            comes out as this, never in an exception group (python-trio/trio-websocket#188).
        ValueError: a URL that is neither ``wss://`` nor ``ws://`` to this machine.
    """
    address = _address(url)
    raised: BaseException | None = None
    left = False
    try:
        async with trio.open_nursery() as nursery:
            try:
                with _translated(), trio.fail_after(connect_timeout_s):
                    stream = await _open_transport(address, open_stream, ssl_context)
                    connection = await _shake_hands(nursery, stream, address)
                try:
                    yield OkxConnection(connection, session, clock, offset_ns)
                    left = True
                    with trio.move_on_after(_CLOSE_TIMEOUT_S):
                        await connection.aclose()
                finally:
                    # After a loss trio-websocket leaves the transport open. Closing it by force
                    # waits for nothing; unshielded it would replace an error by Cancelled.
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(stream)
            except BaseException as error:
                raised = error
                raise
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        theirs = set(map(id, _leaves(raised)))
        crashes = [leaf for leaf in _leaves(group) if id(leaf) not in theirs]
        ours = group.subgroup(lambda leaf: id(leaf) in theirs)
        if crashes and (ours is None or isinstance(raised, SessionLostError)):
            # trio-websocket's reader has crashed, and the block has raised nothing of its own
            # or only lost the session by it: the crash is what tells why.
            if not all(isinstance(crash, Exception) for crash in crashes):
                raise
            why = "; ".join(map(_why, crashes))
            if not left:
                raise SessionLostError(why) from group
            log.debug("okx_close_failed", why=why)
            return
        if len(list(_leaves(ours))) < len(theirs):  # what the nursery cancelled is gone
            raised = ours
    if raised is not None:
        raise raised


def _address(url: str) -> SplitResult:
    address = urlsplit(url)
    if address.scheme not in _DEFAULT_PORTS or not address.hostname:
        raise ValueError(f"not a WebSocket URL: {url}")
    if address.scheme == "ws" and not _is_loopback(address.hostname):
        raise ValueError(f"ws:// is for this machine only, use wss:// for {address.hostname}")
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
        https_compatible=True,  # servers close TCP without a TLS goodbye, like web servers
    )
    try:
        await tls.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(tls)
        raise
    return tls


async def _shake_hands(
    nursery: trio.Nursery, stream: trio.abc.Stream, address: SplitResult
) -> wire.Connection:
    target = address.path or "/"
    if address.query:
        target += f"?{address.query}"
    try:
        return await wire.shake_hands(
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
            return f"the server answers HTTP {status} instead of a WebSocket"
        case trio.TooSlowError():
            return "timed out"
        case trio.BrokenResourceError(__cause__=cause) if cause is not None:
            return f"connection broken: {cause}"
        case _:
            return f"{type(error).__name__}: {error}"


def _leaves(error: BaseException | None) -> Iterator[BaseException]:
    """Find the errors in an error that may be a group, or none at all."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    elif error is not None:
        yield error
