"""RabbitMQ's other side: aiormq on asyncio, in a thread of its own behind an anyio portal.

Only this file, ``connection``, ``consuming`` and ``publishing`` know asyncio. Two connections (see
``Link``), each kept by one coroutine that connects, declares what it needs, works until something
ends it, tears everything down and starts anew: no state survives a lost link, so none can be half
restored.

Between the threads go calls in two mailboxes, one each way, and nothing else is shared.
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
from oms_trio.amqp.call_queue import Mailbox
from oms_trio.amqp.consuming import Consuming
from oms_trio.amqp.model import ActionQueueInUse, BrokerError, BrokerMisconfigured, Outgoing
from oms_trio.amqp.publishing import Publishing
from oms_trio.amqp.rabbit import Link, RabbitBroker, Request
from oms_trio.amqp.settings import BrokerSettings

log = structlog.get_logger()

BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
OWNER_WAIT_S = 25.0
"""How long a start waits for another service's connection to end. That of a machine which has died
lives on at the broker until two heartbeats are missing."""


@attrs.define(eq=False)
class _Loop:
    """The links and what they work on; every method runs in the portal's thread."""

    _settings: BrokerSettings
    _tls: ssl.SSLContext | None
    _to_trio: Mailbox
    _consuming: Consuming
    _publishing: Publishing
    _broker: RabbitBroker = attrs.field(init=False)
    _stop: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    def attach(self, broker: RabbitBroker) -> None:
        self._broker = broker
        self._consuming.attach(broker)
        self._publishing.attach(broker)

    async def main(self) -> None:
        """Keep both links until ``stop``.

        Raises:
            BrokerError: a first connect failed, or what the links need exists otherwise.
        """
        links = [
            asyncio.create_task(self._keep(Link.CONSUME, self._consuming.run)),
            asyncio.create_task(self._keep(Link.PUBLISH, self._publishing.run)),
        ]
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait([*links, stopped], return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set() and self._consuming.standing:
            # Let it write the acknowledgements that were given before.
            await asyncio.wait(links[:1], timeout=wire.CLOSE_S)
        for task in (*links, stopped):
            task.cancel()
        collecting = self._publishing.collecting
        await asyncio.wait([*links, stopped, *collecting], timeout=2 * wire.CLOSE_S)
        ended = [task for task in links if task.done() and not task.cancelled()]
        for error in [task.exception() for task in ended]:
            if error is not None:
                raise error

    def stop(self) -> None:
        self._stop.set()
        self._consuming.stop()

    def set_wanted(self, wanted: bool) -> None:  # noqa: FBT001  # as in the protocol
        self._consuming.set_wanted(wanted)

    def settle(self, tags: Sequence[int], *, requeue: bool) -> None:
        self._consuming.settle(tags, requeue=requeue)

    def publish(self, messages: Sequence[Outgoing], request: Request) -> None:
        self._publishing.publish(messages, request)

    def dead_letter(self, tag: int, reason: str, request: Request) -> None:
        message = self._consuming.unsettled(tag)
        if message is None:
            self._to_trio.post(partial(self._broker.finished, request, None))
            return
        then = partial(self._consuming.settle, (tag,), requeue=False)
        self._publishing.dead_letter(message, reason, request, then)

    async def _keep(
        self, link: Link, work: Callable[[aiormq.Connection], Awaitable[BrokerError]]
    ) -> None:
        """Restore a link for ever once it stood; ends by cancellation.

        Raises:
            BrokerError: it has never stood, or what it needs exists with other properties: then
                trying again does not help.
        """
        clock = asyncio.get_running_loop().time
        patience = clock() + OWNER_WAIT_S
        stood = False
        attempt = 0
        while True:
            began = clock()
            try:
                async with wire.connected(
                    self._settings, self._tls, f"oms-trio-{link.value}"
                ) as connection:
                    lost = await work(connection)
                stood = True
            except BrokerError as error:
                lost = error
            if self._stop.is_set():
                return
            if isinstance(lost, ActionQueueInUse):
                # A predecessor of ours may be on its way out, or our own last connection.
                final = not stood and clock() > patience
            else:
                final = not stood or isinstance(lost, BrokerMisconfigured)
            if final:
                raise lost if stood else failures.at_first_connect(lost, self._settings)
            self._to_trio.post(partial(self._broker.link_lost, link))
            attempt = 0 if clock() - began > BACKOFF_MAX_S else attempt + 1
            # Jitter is no secret: services must not come back to a broker in step.
            ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(attempt, 10))
            delay = ceiling * random.uniform(0.5, 1)  # noqa: S311  # see above
            log.warning(
                "broker_connection_lost", link=link.value, why=str(lost), retry_in_s=round(delay, 3)
            )
            await asyncio.sleep(delay)


@asynccontextmanager
async def open_broker(settings: BrokerSettings) -> AsyncIterator[RabbitBroker]:
    """Connect, declare our exchanges and queues, and hold the links until the block ends.

    Leaving takes 2 s at most, even when the broker does not answer. Unacknowledged deliveries
    then return to the queue. While the block lasts ``BrokerMisconfigured`` can come from every call,
    when something of ours was deleted and declared again by somebody else.

    Raises:
        BrokerUnreachable: no AMQP answer from the host and port.
        BrokerAccessRejected: wrong user or password, or no right to the virtual host.
        BrokerMisconfigured: a queue or exchange exists with other properties, another service
            takes the same actions, or the CA file cannot be read.
    """
    uvloop = find_spec("uvloop") is not None
    # libuv would start a kernel thread per loop that polls for its submissions (io_uring's
    # SQPOLL): under load it takes a whole core (measured: 6.7 s of 7 s), for nothing we need.
    os.environ.setdefault("UV_USE_IO_URING", "0")
    opened = anyio.from_thread.start_blocking_portal("asyncio", {"use_uvloop": uvloop})
    tls = settings.tls_context()
    token = trio.lowlevel.current_trio_token()
    portal = await trio.to_thread.run_sync(opened.__enter__)
    try:
        to_trio = Mailbox(token.run_sync_soon)

        def make() -> tuple[asyncio.AbstractEventLoop, _Loop]:
            parts = Consuming(settings, to_trio), Publishing(settings, to_trio)
            return asyncio.get_running_loop(), _Loop(settings, tls, to_trio, *parts)

        loop, side = await trio.to_thread.run_sync(portal.call, make)
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
        with trio.CancelScope(shield=True), trio.move_on_after(4 * wire.CLOSE_S):
            await trio.to_thread.run_sync(opened.__exit__, None, None, None, abandon_on_cancel=True)
