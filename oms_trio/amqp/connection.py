"""One connection to RabbitMQ: opened, closed, and what its failures mean to us. Asyncio's side."""

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
from oms_trio.amqp.settings import BrokerSettings
from oms_trio.amqp.topology import Topology

# Looked up in this module at every use, so that a test can shorten them for all.
HEARTBEAT_S = 10
ANSWER_S = 10.0
"""How long the broker may take to connect us, to answer a call, and to confirm a message."""
CLOSE_S: Final = 0.5
"""How long each step of a farewell may take; then the socket is cut."""


class _Connection(aiormq.Connection):
    """aiormq's connection, quicker to notice that nobody is there any more."""

    HEARTBEAT_GRACE_MULTIPLIER = 2


class _Reader(asyncio.StreamReader):
    """Gives aiormq the broker's frames without what it cannot decode."""

    def __init__(self) -> None:
        super().__init__()
        self._filter = FrameFilter()

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        super().feed_data(self._filter.feed(bytes(data)))

    def feed_eof(self) -> None:
        # A second time when the connection is lost.
        if rest := self._filter.end():
            super().feed_data(rest)
        super().feed_eof()


class _Protocol(asyncio.StreamReaderProtocol):
    """asyncio's own, which does not say whether the connection is gone."""

    lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        super().connection_lost(exc)


@attrs.define
class Transport(aiormq.TransportFactory):
    """Opens the socket, and can cut it when a farewell is not answered."""

    _settings: BrokerSettings
    _tls: ssl.SSLContext | None
    _open: tuple[asyncio.BaseTransport, _Protocol] | None = attrs.field(default=None, init=False)

    async def create(
        self, *_url: object, **_options: object
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first of the host's addresses that answers.

        Resolving is a step of its own: uvloop's connect, cancelled while it resolves, leaves an
        error that nobody looks at.
        """
        host, port = self._settings.host, self._settings.port
        loop = asyncio.get_running_loop()
        refusal = OSError("the host has no address")
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
                refusal = error
            else:
                self._open = transport, protocol
                return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
        raise refusal

    def cut(self) -> None:
        """Drop the connection, with all that it has not sent yet."""
        if self._open is None:
            return
        transport, protocol = self._open
        # asyncio's own transport forgets its loop once the connection is lost, and fails over
        # that if it was closed before with something still to send.
        if not protocol.lost:
            transport.abort()  # type: ignore[attr-defined]  # of every transport that writes


@asynccontextmanager
async def connected(
    settings: BrokerSettings, tls: ssl.SSLContext | None, name: str
) -> AsyncIterator[aiormq.Connection]:
    """Hold a connection of this name; the broker's pages show it.

    Raises:
        BrokerError: it could not be opened.
    """
    transport = Transport(settings, tls)
    connection = _Connection(
        settings.url(heartbeat=str(HEARTBEAT_S), name=name), transport_factory=transport
    )
    # Not by the URL, where a virtual host with a slash has more than one reading.
    connection.vhost = settings.vhost
    try:
        async with answering(settings):
            await connection.connect()
        yield connection
    finally:
        # The reason for the end is known already; how the farewell fails adds nothing.
        with suppress(BrokerError), border(settings):
            async with asyncio.timeout(CLOSE_S):
                await connection.close()
        transport.cut()


async def open_channel(
    connection: aiormq.Connection, frames: int = aiormq.Connection.FRAME_BUFFER_SIZE
) -> aiormq.Channel:
    """Open a channel with confirms and a buffer for so many frames from the broker."""
    channel = await connection.channel(frame_buffer_size=frames)
    # The declared type is an abstraction that cannot publish without waiting for the socket.
    assert isinstance(channel, aiormq.Channel)
    return channel


async def declare(channel: aiormq.Channel, topology: Topology) -> None:
    """Declare what a link needs, exchanges first."""
    for exchange in topology.exchanges:
        await channel.exchange_declare(exchange, exchange_type="topic", durable=True)
    for queue in topology.queues:
        await channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        for key in queue.routing_keys:
            await channel.queue_bind(queue.name, queue.exchange, routing_key=key)


@asynccontextmanager
async def answering(settings: BrokerSettings) -> AsyncIterator[None]:
    """Give the broker ``ANSWER_S`` for what is asked of it inside, and translate failures."""
    with border(settings):
        async with asyncio.timeout(ANSWER_S):
            yield


@contextmanager
def border(settings: BrokerSettings) -> Iterator[None]:
    """Turn whatever aiormq raises into ours.

    When a link ends under a waiting call, aiormq raises what ended it: its own errors,
    those of sockets, a bare ``Exception`` after a clean end, or ``CancelledError`` without
    anybody having cancelled us. The original is dropped: it may hold the URL with the password.
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
        raise _translated(error, settings)


def reason(settings: BrokerSettings, *ends: asyncio.Future[Any]) -> BrokerError:
    """Say why a link ended, by the first of these futures that is done and knows it."""
    for end in ends:
        if end.done() and not end.cancelled():
            error = end.exception()
            if error is not None:
                return _translated(error, settings)
    return BrokerUnavailable("connection ended")


def _translated(  # noqa: C901 - a table
    error: BaseException, settings: BrokerSettings
) -> BrokerError:
    told = " ".join(str(error).split())
    match error:
        case BrokerError():
            return error
        case aiormq.ProbableAuthenticationError() | aiormq.AuthenticationError():
            return failures.login_refused(settings)
        case aiormq.ChannelAccessRefused():
            return failures.rights_missing(settings, told)
        case aiormq.InvalidFrameError() if "Connection.OpenOk" in told:
            # The answer to opening the virtual host was a close; aiormq drops its reason.
            return failures.vhost_refused(settings)
        case aiormq.ChannelPreconditionFailed() if "inequivalent" in told:
            return failures.exists_otherwise(settings, told)
        case aiormq.ChannelLockedResource() if f"'{settings.owner_queue}'" in told:
            return failures.actions_taken(settings)
        case aiormq.ChannelLockedResource():
            return failures.exclusive_to_another(settings, told)
        case TimeoutError():
            return BrokerUnavailable(f"no answer in {ANSWER_S:.0f} s")
        case ssl.SSLError():
            return BrokerUnavailable(f"TLS failed: {error.reason}")
        case aiormq.AMQPError() | OSError() if told:
            return BrokerUnavailable(told)
    return BrokerUnavailable(f"connection ended ({type(error).__name__})")
