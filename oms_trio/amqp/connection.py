"""One connection to RabbitMQ: opening, closing, and translating its errors. Runs in the asyncio thread."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, SupportsIndex

import aiormq
import aiormq.abc
import attrs

from oms_trio.amqp import failures
from oms_trio.amqp.frames import FrameFilter
from oms_trio.amqp.model import BrokerError, BrokerUnavailable
from oms_trio.amqp.settings import BrokerSettings, Topology

# Always read from this module, so that a test can shorten them everywhere.
HEARTBEAT_S = 10
ANSWER_S = 10.0
"""Time for the broker to accept a connection, to answer a call, and to confirm a message."""
CLOSE_S: Final = 0.5
"""Time for each step of closing; then the socket is aborted."""


class _Connection(aiormq.Connection):
    """aiormq's connection, which detects a dead peer sooner."""

    HEARTBEAT_GRACE_MULTIPLIER = 2


class _Reader(asyncio.StreamReader):
    """Passes the broker's frames to aiormq, without what it cannot decode."""

    def __init__(self) -> None:
        super().__init__()
        self._filter = FrameFilter()

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        super().feed_data(self._filter.feed(bytes(data)))

    def feed_eof(self) -> None:
        # It is called a second time when the connection is lost.
        if rest := self._filter.end():
            super().feed_data(rest)
        super().feed_eof()


class _Protocol(asyncio.StreamReaderProtocol):
    """asyncio's protocol, extended by whether the connection is lost."""

    lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        super().connection_lost(exc)


@attrs.define
class Transport(aiormq.TransportFactory):
    """Opens the socket, and can abort it when closing is not answered."""

    _settings: BrokerSettings
    _tls: ssl.SSLContext | None
    _open: tuple[asyncio.BaseTransport, _Protocol] | None = attrs.field(default=None, init=False)

    async def create(
        self, *_url: object, **_options: object
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first of the host's addresses that answers.

        The name is resolved separately: when uvloop's connect is cancelled while it resolves, it leaves
        an exception that is never retrieved.
        """
        host, port = self._settings.host, self._settings.port
        loop = asyncio.get_running_loop()
        failure = OSError("the host has no address")
        for *_, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            reader = _Reader()
            protocol = _Protocol(reader, loop=loop)
            try:
                transport, _ = await loop.create_connection(
                    lambda protocol=protocol: protocol,
                    str(address[0]),
                    port,
                    ssl=self._tls,
                    server_hostname=host if self._tls else None,
                )
            except OSError as error:
                failure = error
            else:
                self._open = transport, protocol
                return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
        raise failure

    def abort(self) -> None:
        """Close the connection at once, discarding unsent data."""
        if self._open is None:
            return
        transport, protocol = self._open
        # asyncio's own transport drops its loop once the connection is lost, and then fails here if it
        # was closed before with unsent data.
        if not protocol.lost:
            transport.abort()  # type: ignore[attr-defined]  # of every transport that writes


@asynccontextmanager
async def connected(
    settings: BrokerSettings, tls: ssl.SSLContext | None, name: str
) -> AsyncIterator[aiormq.Connection]:
    """Keep a connection open for the block; RabbitMQ's management page shows its name.

    Raises:
        BrokerError: it could not be opened.
    """
    transport = Transport(settings, tls)
    connection = _Connection(
        settings.url(heartbeat=str(HEARTBEAT_S), name=name), transport_factory=transport
    )
    # Not through the URL, where a virtual host with a slash is ambiguous.
    connection.vhost = settings.vhost
    try:
        async with answering(settings):
            await connection.connect()
        yield connection
    finally:
        # The reason of the end is known already; a failure to close adds nothing.
        with suppress(BrokerError), translated(settings):
            async with asyncio.timeout(CLOSE_S):
                await connection.close()
        transport.abort()


async def open_channel(
    connection: aiormq.Connection, frames: int = aiormq.Connection.FRAME_BUFFER_SIZE
) -> aiormq.Channel:
    """Open a channel with confirms and a buffer for ``frames`` frames from the broker."""
    channel = await connection.channel(frame_buffer_size=frames)
    # The declared type is abstract, and cannot publish without waiting for the socket.
    assert isinstance(channel, aiormq.Channel)
    return channel


async def declare(channel: aiormq.Channel, topology: Topology) -> None:
    """Declare exchanges, then queues and their bindings."""
    for exchange in topology.exchanges:
        await channel.exchange_declare(exchange, exchange_type="topic", durable=True)
    for queue in topology.queues:
        await channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        for key in queue.routing_keys:
            await channel.queue_bind(queue.name, queue.exchange, routing_key=key)


@asynccontextmanager
async def answering(settings: BrokerSettings) -> AsyncIterator[None]:
    """Limit the block's calls to ``ANSWER_S``, and translate their errors."""
    with translated(settings):
        async with asyncio.timeout(ANSWER_S):
            yield


@contextmanager
def translated(settings: BrokerSettings) -> Iterator[None]:
    """Translate whatever aiormq raises into a ``BrokerError``.

    When a connection ends during a call, aiormq raises what ended it: its own errors, those of sockets,
    a bare ``Exception`` after a regular close, or ``CancelledError`` although nothing was cancelled. The
    original is dropped, since it may contain the URL with the password.
    """
    error: BaseException | None = None
    try:
        yield
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        error = cancelled
    except Exception as caught:  # noqa: BLE001  # see above
        error = caught
    if error is not None:
        raise _translation(error, settings)


def reason(settings: BrokerSettings, *ends: asyncio.Future[Any]) -> BrokerError:
    """Return why a connection ended: the exception of the first of these futures that has one."""
    for end in ends:
        if end.done() and not end.cancelled():
            error = end.exception()
            if error is not None:
                return _translation(error, settings)
    return BrokerUnavailable("the connection ended")


def _translation(  # noqa: C901 - a table
    error: BaseException, settings: BrokerSettings
) -> BrokerError:
    text = " ".join(str(error).split())
    match error:
        case BrokerError():
            return error
        case aiormq.ProbableAuthenticationError() | aiormq.AuthenticationError():
            return failures.login_rejected(settings)
        case aiormq.ChannelAccessRefused():
            return failures.permissions_missing(settings, text)
        case aiormq.InvalidFrameError() if "Connection.OpenOk" in text:
            # The broker closed instead of opening the virtual host; aiormq drops the reason.
            return failures.vhost_rejected(settings)
        case aiormq.ChannelPreconditionFailed() if "inequivalent" in text:
            return failures.declared_differently(settings, text)
        case aiormq.ChannelLockedResource() if f"'{settings.owner_queue}'" in text:
            return failures.action_queue_in_use(settings)
        case aiormq.ChannelLockedResource():
            return failures.locked_by_another(settings, text)
        case TimeoutError():
            return BrokerUnavailable(f"no answer in {ANSWER_S:.0f} s")
        case ssl.SSLError():
            return BrokerUnavailable(f"TLS failed: {error.reason}")
        case aiormq.AMQPError() | OSError() if text:
            return BrokerUnavailable(text)
    return BrokerUnavailable(f"the connection ended ({type(error).__name__})")
