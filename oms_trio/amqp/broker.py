"""Opens RabbitMQ: aiormq on asyncio, in a separate thread that an anyio portal runs.

Only this file, ``connection``, ``consuming`` and ``publishing`` use asyncio. Each of the two connections
(``ConnectionRole``) is kept by one coroutine that connects, declares what it needs, works until the
connection ends, closes everything and starts again: no state survives a lost connection, so none
can be restored incompletely.

The threads share nothing but two queues of calls, one in each direction.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import Final

import aiormq
import anyio.from_thread
import attrs
import structlog
import trio

from oms_trio.amqp import connection as wire
from oms_trio.amqp import failures
from oms_trio.amqp.call_queue import CallQueue
from oms_trio.amqp.consuming import ActionConsumer
from oms_trio.amqp.model import ActionQueueInUse, BrokerError, BrokerMisconfigured, Outgoing
from oms_trio.amqp.publishing import ConfirmedPublisher
from oms_trio.amqp.rabbit import ConnectionRole, PendingConfirm, RabbitBroker
from oms_trio.amqp.settings import BrokerSettings

log = structlog.get_logger()

BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
OWNER_WAIT_S = 25.0
"""How long a start waits for another service's connection to end. The broker keeps the connection of a
dead machine until two heartbeats are missing."""


@attrs.define(eq=False)
class _AsyncioSide:
    """The two connections and their work; every method runs in the asyncio thread."""

    _settings: BrokerSettings
    _tls: ssl.SSLContext | None
    _to_trio: CallQueue
    _consumer: ActionConsumer
    _publisher: ConfirmedPublisher
    _broker: RabbitBroker = attrs.field(init=False)
    _stop: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    def attach(self, broker: RabbitBroker) -> None:
        self._broker = broker
        self._consumer.attach(broker)
        self._publisher.attach(broker)

    async def main(self) -> None:
        """Keep both connections until ``stop``.

        Raises:
            BrokerError: a first connect failed, or a queue or exchange exists with other properties.
        """
        keepers = [
            asyncio.create_task(self._keep(ConnectionRole.CONSUME, self._consumer.run)),
            asyncio.create_task(self._keep(ConnectionRole.PUBLISH, self._publisher.run)),
        ]
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait([*keepers, stopped], return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set() and self._consumer.connected:
            # Let it send the acknowledgements requested so far.
            await asyncio.wait(keepers[:1], timeout=wire.CLOSE_S)
        for task in (*keepers, stopped):
            task.cancel()
        collecting = self._publisher.collecting
        await asyncio.wait([*keepers, stopped, *collecting], timeout=2 * wire.CLOSE_S)
        ended = [task for task in keepers if task.done() and not task.cancelled()]
        for error in [task.exception() for task in ended]:
            if error is not None:
                raise error

    def stop(self) -> None:
        self._stop.set()
        self._consumer.stop()

    def set_wanted(self, wanted: bool) -> None:  # noqa: FBT001  # as in the protocol
        self._consumer.set_wanted(wanted)

    def settle(self, tags: Sequence[int], *, requeue: bool) -> None:
        self._consumer.settle(tags, requeue=requeue)

    def publish(self, messages: Sequence[Outgoing], confirm: PendingConfirm) -> None:
        self._publisher.publish(messages, confirm)

    def dead_letter(self, tag: int, reason: str, confirm: PendingConfirm) -> None:
        message = self._consumer.unsettled(tag)
        if message is None:
            self._to_trio.call_soon(partial(self._broker.finished, confirm, None))
            return
        then = partial(self._consumer.settle, (tag,), requeue=False)
        self._publisher.dead_letter(message, reason, confirm, then)

    async def _keep(
        self, role: ConnectionRole, work: Callable[[aiormq.Connection], Awaitable[BrokerError]]
    ) -> None:
        """Open a connection again whenever it is lost; ends by cancellation.

        Raises:
            BrokerError: the first connect failed, or a queue or exchange exists with other properties,
                which a retry does not change.
        """
        clock = asyncio.get_running_loop().time
        owner_deadline = clock() + OWNER_WAIT_S
        was_connected = False
        attempt = 0
        while True:
            began = clock()
            try:
                async with wire.connected(
                    self._settings, self._tls, f"oms-trio-{role.value}"
                ) as connection:
                    lost = await work(connection)
                was_connected = True
            except BrokerError as error:
                lost = error
            if self._stop.is_set():
                return
            if isinstance(lost, ActionQueueInUse):
                # A predecessor may be ending, or our own previous connection.
                final = not was_connected and clock() > owner_deadline
            else:
                final = not was_connected or isinstance(lost, BrokerMisconfigured)
            if final:
                raise lost if was_connected else failures.at_first_connect(lost, self._settings)
            self._to_trio.call_soon(partial(self._broker.connection_lost, role))
            attempt = 0 if clock() - began > BACKOFF_MAX_S else attempt + 1
            # The jitter keeps services from reconnecting to a broker at the same time.
            ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(attempt, 10))
            delay = ceiling * random.uniform(0.5, 1)  # noqa: S311  # no secret
            log.warning(
                "broker_connection_lost",
                connection=role.value,
                why=str(lost),
                retry_in_s=round(delay, 3),
            )
            await asyncio.sleep(delay)


@asynccontextmanager
async def open_broker(settings: BrokerSettings) -> AsyncIterator[RabbitBroker]:
    """Connect, declare our exchanges and queues, and keep the connections until the block ends.

    Leaving the block takes 2 s at most, even when the broker does not answer. Unacknowledged deliveries
    then return to the queue. Within the block any call can raise ``BrokerMisconfigured``, when somebody
    else has deleted one of our queues or exchanges and declared it differently.

    Raises:
        BrokerUnreachable: no AMQP answer from the host and port.
        BrokerAccessRejected: wrong user or password, or no permission for the virtual host.
        BrokerMisconfigured: a queue or exchange exists with other properties, another service consumes
            the same actions, or the CA file cannot be read.
    """
    uvloop = find_spec("uvloop") is not None
    # libuv would start a kernel thread per loop that polls for its submissions (io_uring's SQPOLL).
    # Under load it occupies a whole core (measured: 6.7 s of 7 s), without any use to us.
    os.environ.setdefault("UV_USE_IO_URING", "0")
    opened = anyio.from_thread.start_blocking_portal("asyncio", {"use_uvloop": uvloop})
    tls = settings.tls_context()
    token = trio.lowlevel.current_trio_token()
    portal = await trio.to_thread.run_sync(opened.__enter__)
    try:
        to_trio = CallQueue(token.run_sync_soon)

        def make() -> tuple[asyncio.AbstractEventLoop, _AsyncioSide]:
            consumer = ActionConsumer(settings, to_trio)
            publisher = ConfirmedPublisher(settings, to_trio)
            side = _AsyncioSide(settings, tls, to_trio, consumer, publisher)
            return asyncio.get_running_loop(), side

        loop, side = await trio.to_thread.run_sync(portal.call, make)
        broker = RabbitBroker(side, CallQueue(loop.call_soon_threadsafe))
        side.attach(broker)
        main = portal.start_task_soon(side.main)
        main.add_done_callback(
            lambda done: to_trio.call_soon(
                partial(broker.ended, None if done.cancelled() else done.exception())
            )
        )
        try:
            await broker.wait_connected()
            yield broker
        finally:
            broker.close()
    finally:
        # A thread that does not end in time is abandoned: it is a daemon, and its socket is aborted.
        with trio.CancelScope(shield=True), trio.move_on_after(4 * wire.CLOSE_S):
            await trio.to_thread.run_sync(opened.__exit__, None, None, None, abandon_on_cancel=True)
