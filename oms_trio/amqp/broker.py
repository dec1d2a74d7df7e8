"""RabbitMQ's other side: aiormq on asyncio, in a thread of its own behind an anyio portal.

The only file that knows asyncio. Two connections (see ``Link``), each kept by one coroutine
that connects, declares what it needs, works until something ends it, tears everything down and
starts anew: no state survives a lost link, so none can be half restored.

Between the threads go calls in two mailboxes, one each way, and nothing else is shared.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import random
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Final

import aiormq
import aiormq.abc
import anyio.from_thread
import attrs
import structlog
import trio

from oms_trio.amqp import failures
from oms_trio.amqp.mailbox import Mailbox
from oms_trio.amqp.model import (
    BrokerError,
    BrokerUnavailable,
    Delivery,
    Outgoing,
)
from oms_trio.amqp.rabbit import Link, RabbitBroker, Request
from oms_trio.amqp.settings import BrokerSettings
from oms_trio.amqp.topology import Topology, incoming, outgoing

log = structlog.get_logger()

REASON_HEADER: Final = "x-oms-reason"
"""Header of a dead letter that says why it became one."""

HEARTBEAT_S: Final = 10
ANSWER_S: Final = 10.0
"""How long the broker may take to connect us, to answer a call, and to confirm a message."""
BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
CLOSE_S: Final = 0.5
"""How long each step of a farewell may take; then the socket is cut."""

_tags: Final = itertools.count(1)


class _Connection(aiormq.Connection):
    """aiormq's connection, quicker to notice that nobody is there any more."""

    HEARTBEAT_GRACE_MULTIPLIER = 2


@attrs.define
class _Transport(aiormq.TransportFactory):
    """Opens the socket, and can cut it when a farewell is not answered."""

    _settings: BrokerSettings
    _tls: ssl.SSLContext | None
    _writer: asyncio.StreamWriter | None = attrs.field(default=None, init=False)

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
            try:
                reader, self._writer = await asyncio.open_connection(
                    str(address[0]),
                    port,
                    ssl=self._tls,
                    server_hostname=host if self._tls else None,
                )
            except OSError as error:
                refusal = error
            else:
                return reader, self._writer
        raise refusal

    def cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


@attrs.define(eq=False)
class _Loop:
    """The links and what they work on; every method runs in the portal's thread."""

    _settings: BrokerSettings
    _tls: ssl.SSLContext | None
    _to_trio: Mailbox
    _broker: RabbitBroker = attrs.field(init=False)
    _stop: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _known: set[Link] = attrs.field(factory=set, init=False)
    """Links that stood once: from then on they are restored for ever."""
    _wanted: bool = attrs.field(default=False, init=False)
    _work: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _consumer: aiormq.Channel | None = attrs.field(default=None, init=False)
    # Both hold at most ``prefetch`` deliveries.
    _unsettled: dict[int, aiormq.abc.DeliveredMessage] = attrs.field(factory=dict, init=False)
    _settlements: deque[tuple[int, bool]] = attrs.field(factory=deque, init=False)
    _publisher: _Publisher | None = attrs.field(default=None, init=False)
    _publishing: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)

    def attach(self, broker: RabbitBroker) -> None:
        self._broker = broker

    async def main(self) -> None:
        """Keep both links until ``stop``.

        Raises:
            BrokerError: a first connect failed.
        """
        links = [
            asyncio.create_task(self._keep(Link.CONSUME, self._consume)),
            asyncio.create_task(self._keep(Link.PUBLISH, self._publish)),
        ]
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait([*links, stopped], return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set() and self._consumer is not None:
            # Let it write the acknowledgements that were given before.
            await asyncio.wait(links[:1], timeout=CLOSE_S)
        for task in (*links, stopped):
            task.cancel()
        await asyncio.wait([*links, stopped, *self._publishing], timeout=2 * CLOSE_S)
        ended = [task for task in links if task.done() and not task.cancelled()]
        for error in [task.exception() for task in ended]:
            if error is not None:
                raise error

    def stop(self) -> None:
        self._stop.set()
        self._work.set()

    def set_wanted(self, wanted: bool) -> None:  # noqa: FBT001  # as in the protocol
        self._wanted = wanted
        self._work.set()

    def settle(self, tags: Sequence[int], *, requeue: bool) -> None:
        for tag in tags:
            message = self._unsettled.pop(tag, None)
            if message is not None and message.delivery_tag is not None:
                self._settlements.append((message.delivery_tag, requeue))
        self._work.set()

    def publish(self, messages: Sequence[Outgoing], request: Request) -> None:
        exchange = self._settings.execution_exchange
        publications = [
            _Publication(
                message.body,
                exchange,
                message.routing_key,
                aiormq.spec.Basic.Properties(
                    content_type="application/json",
                    delivery_mode=2,
                    message_id=message.message_id,
                ),
            )
            for message in messages
        ]
        self._start(publications, request)

    def dead_letter(self, tag: int, reason: str, request: Request) -> None:
        message = self._unsettled.get(tag)
        if message is None:
            self._finish(request)
            return
        was = message.header.properties
        publication = _Publication(
            message.body,
            self._settings.dead_letter_exchange,
            message.routing_key or self._settings.action_routing_key,
            aiormq.spec.Basic.Properties(
                content_type=was.content_type,
                headers={REASON_HEADER: reason},
                delivery_mode=2,
                message_id=was.message_id,
                timestamp=was.timestamp,
            ),
            # Nobody may have to look for a malformed action: without a queue there is no confirm.
            mandatory=True,
        )
        self._start([publication], request, then=partial(self.settle, (tag,), requeue=False))

    async def _keep(
        self, link: Link, work: Callable[[aiormq.Connection], Awaitable[BrokerError]]
    ) -> None:
        """Restore a link for ever once it stood; ends by cancellation or a failed first connect."""
        clock = asyncio.get_running_loop().time
        attempt = 0
        while True:
            began = clock()
            try:
                async with self._connection(link) as connection:
                    lost = await work(connection)
            except BrokerError as error:
                lost = error
            if self._stop.is_set():
                return
            if link not in self._known:
                raise failures.at_first_connect(lost, self._settings)
            self._post_lost(link)
            attempt = 0 if clock() - began > BACKOFF_MAX_S else attempt + 1
            # Jitter is no secret: services must not come back to a broker in step.
            ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(attempt, 10))
            delay = ceiling * random.uniform(0.5, 1)  # noqa: S311  # see above
            log.warning(
                "broker_link_lost", link=link.value, why=str(lost), retry_in_s=round(delay, 3)
            )
            await asyncio.sleep(delay)

    @asynccontextmanager
    async def _connection(self, link: Link) -> AsyncIterator[aiormq.Connection]:
        transport = _Transport(self._settings, self._tls)
        connection = _Connection(
            self._settings.url(heartbeat=str(HEARTBEAT_S), name=f"oms-trio-{link.value}"),
            transport_factory=transport,
        )
        # Not by the URL, where a virtual host with a slash has more than one reading.
        connection.vhost = self._settings.vhost
        try:
            with _border(self._settings):
                async with asyncio.timeout(ANSWER_S):
                    await connection.connect()
            yield connection
        finally:
            # The reason for the end is known already; how the farewell fails adds nothing.
            with suppress(BrokerError), _border(self._settings):
                async with asyncio.timeout(CLOSE_S):
                    await connection.close()
            transport.cut()

    async def _consume(self, connection: aiormq.Connection) -> BrokerError:
        """Bring deliveries and carry settlements until the link is lost."""
        settings = self._settings
        with _border(settings):
            async with asyncio.timeout(ANSWER_S):
                # A delivery is three frames; a buffer for all that may come keeps the socket's
                # reader from stopping between two frames of one batch.
                channel = await _channel(connection, 4 * settings.prefetch)
                await channel.basic_qos(prefetch_count=settings.prefetch)
                await _declare(channel, incoming(settings))
        cancelled = asyncio.Event()
        channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
        self._consumer = channel
        self._work.set()
        self._post_up(Link.CONSUME)
        worker = asyncio.create_task(self._settle_all(channel))
        watcher = asyncio.create_task(cancelled.wait())
        try:
            await asyncio.wait(
                {worker, watcher, channel.closing, connection.closing},
                return_when=asyncio.FIRST_COMPLETED,
            )
            if cancelled.is_set():
                return BrokerUnavailable("the broker cancelled our consumer (queue deleted?)")
            return _reason(settings, worker, channel.closing, connection.closing)
        finally:
            self._consumer = None
            self._unsettled.clear()
            self._settlements.clear()
            worker.cancel()
            watcher.cancel()
            await asyncio.wait({worker, watcher}, timeout=CLOSE_S)
            if worker.done() and not worker.cancelled():
                worker.exception()  # looked at, or asyncio complains: the end's reason is known

    async def _settle_all(self, channel: aiormq.Channel) -> None:
        """Consume while that is wanted, and write settlements; returns after ``stop``.

        Cancelling the consumer comes before giving messages back, or they would return at once.
        """
        consumer_tag: str | None = None
        while True:
            await self._work.wait()
            self._work.clear()
            with _border(self._settings):
                async with asyncio.timeout(ANSWER_S):
                    if self._wanted and consumer_tag is None:
                        answer = await channel.basic_consume(
                            self._settings.action_queue, self._arrived
                        )
                        consumer_tag = answer.consumer_tag
                    elif not self._wanted and consumer_tag is not None:
                        await channel.basic_cancel(consumer_tag)
                        consumer_tag = None
                    while self._settlements:
                        delivery_tag, requeue = self._settlements.popleft()
                        # The last waits for the socket: then nothing is left behind when we stop.
                        last = not self._settlements
                        if requeue:
                            await channel.basic_nack(delivery_tag, requeue=True, wait=last)
                        else:
                            await channel.basic_ack(delivery_tag, wait=last)
            if self._stop.is_set():
                return

    async def _arrived(self, message: aiormq.abc.DeliveredMessage) -> None:
        if message.channel is not self._consumer:
            return
        tag = next(_tags)
        self._unsettled[tag] = message
        was = message.header.properties
        delivery = Delivery(
            tag=tag,
            body=message.body,
            message_id=was.message_id,
            redelivered=bool(message.redelivered),
        )
        self._to_trio.post(partial(self._broker.arrived, delivery))

    async def _publish(self, connection: aiormq.Connection) -> BrokerError:
        """Hold a channel with confirms for ``_start`` until it is lost or a confirm fails."""
        settings = self._settings
        with _border(settings):
            async with asyncio.timeout(ANSWER_S):
                channel = await _channel(connection)
                await _declare(channel, outgoing(settings))
        self._publisher = publisher = _Publisher(channel)
        self._post_up(Link.PUBLISH)
        try:
            await asyncio.wait(
                {publisher.over, channel.closing, connection.closing},
                return_when=asyncio.FIRST_COMPLETED,
            )
            if publisher.over.done():
                return BrokerUnavailable(publisher.over.result())
            return _reason(settings, channel.closing, connection.closing)
        finally:
            self._publisher = None
            publisher.end(_LOST)

    def _start(
        self,
        publications: Sequence[_Publication],
        request: Request,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        if self._publisher is None:
            self._finish(request, "there is no link to the broker")
            return
        channel = self._publisher.channel
        # Begun here, they are on their way before the task that collects their confirms begins.
        confirms = [asyncio.create_task(publication.send(channel)) for publication in publications]
        task = asyncio.create_task(self._collect(self._publisher, confirms, request, then))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _collect(
        self,
        publisher: _Publisher,
        confirms: Sequence[asyncio.Task[object]],
        request: Request,
        then: Callable[[], None],
    ) -> None:
        """Collect the confirms of what is being published, finish the request. Raises nothing.

        Any failure ends the link: its back-off paces the caller's next try, a confirm that comes
        too late cannot be taken for another's, and what a blocked broker has not read yet
        does not pile up in our buffers.
        """
        # One message, the rule, needs no task that waits for all.
        last = confirms[0] if len(confirms) == 1 else asyncio.create_task(_finished(confirms))
        ends: list[asyncio.Future[Any]] = [last, publisher.over]
        # Of a publish that waits for room in its write queue, aiormq forgets to say that the
        # link is lost: it would wait for its deadline.
        await asyncio.wait(ends, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        late = _LOST if publisher.over.done() else _LATE
        unconfirmed = [why for confirm in confirms if (why := _unconfirmed(confirm, late))]
        for task in (last, *confirms):
            task.cancel()
        if not unconfirmed:
            then()
            self._finish(request)
            return
        publisher.end(unconfirmed[0])
        if self._publisher is publisher:
            self._publisher = None
            # Before the request ends: its caller then waits for the next link.
            self._post_lost(Link.PUBLISH)
        self._finish(request, unconfirmed[0])

    def _post_up(self, link: Link) -> None:
        self._known.add(link)
        log.info("broker_link_up", link=link.value, broker=self._settings.address)
        self._to_trio.post(partial(self._broker.link_up, link))

    def _post_lost(self, link: Link) -> None:
        self._to_trio.post(partial(self._broker.link_lost, link))

    def _finish(self, request: Request, failure: str | None = None) -> None:
        self._to_trio.post(partial(self._broker.finished, request, failure))


_LOST: Final = "the link was lost before the confirm"
_LATE: Final = "not confirmed in time (is the broker short of memory or disk?)"


@attrs.frozen(eq=False)
class _Publisher:
    """A channel with confirms, and the end of its link: set by whoever sees it first."""

    channel: aiormq.Channel
    over: asyncio.Future[str] = attrs.Factory(lambda: asyncio.get_running_loop().create_future())

    def end(self, why: str) -> None:
        """Tell all that wait on this link that it is over."""
        if not self.over.done():
            self.over.set_result(why)


@attrs.frozen
class _Publication:
    """One message on its way to an exchange."""

    body: bytes
    exchange: str
    routing_key: str
    properties: aiormq.spec.Basic.Properties
    mandatory: bool = False

    async def send(self, channel: aiormq.Channel) -> object:
        """Publish and wait for the confirm."""
        return await channel.basic_publish(
            self.body,
            exchange=self.exchange,
            routing_key=self.routing_key,
            properties=self.properties,
            mandatory=self.mandatory,
            wait=False,
        )


@asynccontextmanager
async def open_broker(settings: BrokerSettings) -> AsyncIterator[RabbitBroker]:
    """Connect, declare our exchanges and queues, and hold the links until the block ends.

    Leaving takes 2 s at most, even when the broker does not answer. Unacknowledged deliveries
    then return to the queue.

    Raises:
        BrokerUnreachable: no AMQP answer from the host and port.
        BrokerRefused: wrong user or password, or no right to the virtual host.
        BrokerMisconfigured: a queue or exchange exists with other properties, or the CA file
            cannot be read.
    """
    uvloop = importlib.util.find_spec("uvloop") is not None
    # libuv would start a kernel thread per loop that polls for its submissions (io_uring's
    # SQPOLL): under load it takes a whole core (measured: 6.7 s of 7 s), for nothing we need.
    os.environ.setdefault("UV_USE_IO_URING", "0")
    opened = anyio.from_thread.start_blocking_portal("asyncio", {"use_uvloop": uvloop})
    tls = settings.tls_context()
    token = trio.lowlevel.current_trio_token()
    portal = await trio.to_thread.run_sync(opened.__enter__)
    try:
        to_trio = Mailbox(token.run_sync_soon)
        loop, side = await trio.to_thread.run_sync(
            portal.call, lambda: (asyncio.get_running_loop(), _Loop(settings, tls, to_trio))
        )
        broker = RabbitBroker(side, Mailbox(loop.call_soon_threadsafe))
        side.attach(broker)
        main = portal.start_task_soon(side.main)
        main.add_done_callback(
            lambda done: to_trio.post(
                partial(broker.ended, None if done.cancelled() else done.exception())
            )
        )
        try:
            await broker.wait_connected()
            yield broker
        finally:
            broker.close()
    finally:
        # A thread that does not end in time is left behind: it is a daemon, its socket is cut.
        with trio.CancelScope(shield=True), trio.move_on_after(4 * CLOSE_S):
            await trio.to_thread.run_sync(opened.__exit__, None, None, None, abandon_on_cancel=True)


async def _channel(
    connection: aiormq.Connection, frames: int = aiormq.Connection.FRAME_BUFFER_SIZE
) -> aiormq.Channel:
    channel = await connection.channel(frame_buffer_size=frames)
    # The declared type is an abstraction that cannot publish without waiting for the socket.
    assert isinstance(channel, aiormq.Channel)
    return channel


async def _declare(channel: aiormq.Channel, topology: Topology) -> None:
    for exchange in topology.exchanges:
        await channel.exchange_declare(exchange, exchange_type="topic", durable=True)
    for queue in topology.queues:
        await channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        await channel.queue_bind(queue.name, queue.exchange, routing_key=queue.routing_key)


@contextmanager
def _border(settings: BrokerSettings) -> Iterator[None]:
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


def _translated(error: BaseException, settings: BrokerSettings) -> BrokerError:
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
            return failures.exists_otherwise(told)
        case TimeoutError():
            return BrokerUnavailable(f"no answer in {ANSWER_S:.0f} s")
        case ssl.SSLError():
            return BrokerUnavailable(f"TLS failed: {error.reason}")
        case aiormq.AMQPError() | OSError() if told:
            return BrokerUnavailable(told)
    return BrokerUnavailable(f"connection ended ({type(error).__name__})")


def _reason(settings: BrokerSettings, *ends: asyncio.Future[Any]) -> BrokerError:
    """Say why a link ended, by the first of these futures that is done and knows it."""
    for end in ends:
        if end.done() and not end.cancelled():
            error = end.exception()
            if error is not None:
                return _translated(error, settings)
    return BrokerUnavailable("connection ended")


async def _finished(tasks: Sequence[asyncio.Task[object]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


def _unconfirmed(confirm: asyncio.Task[object], late: str) -> str | None:
    """Say why a message counts as not published; None when the broker has confirmed it."""
    if not confirm.done():
        return late
    if confirm.cancelled():
        return _LOST
    match confirm.exception():
        case None:
            return None
        case aiormq.DeliveryError():
            return "the broker refused a message or had no queue for it"
        case _:
            return _LOST
