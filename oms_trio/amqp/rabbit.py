"""RabbitMQ's Trio side: what the service calls; it knows nothing of the loop that does the work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Final, Protocol

import attrs
import trio

from oms_trio.amqp.call_queue import Mailbox
from oms_trio.amqp.model import HELD_S, BrokerUnavailable, Delivery, Outgoing

# Linux's monotonic clock stands still while the machine is suspended; messages age all the same.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Return seconds that pass for the broker too, whatever stops us; the same in all threads."""
    return time.clock_gettime(_CLOCK)


class Link(Enum):
    """Our two connections.

    A broker short of memory or disk stops reading from connections that publish. On one
    connection for both, acknowledgements would wait behind the executions.
    """

    CONSUME = "consume"
    PUBLISH = "publish"


@attrs.define(eq=False)
class Request:
    """Something that the broker has to confirm; ``failure`` says why it did not."""

    done: bool = False
    failure: str | None = None


class LoopSide(Protocol):
    """What the Trio side asks of the loop; each call runs in the loop's thread and returns."""

    def set_wanted(self, wanted: bool) -> None:  # noqa: FBT001  # the one thing it says
        """Start or stop consuming."""

    def settle(self, tags: Sequence[int], *, requeue: bool) -> None:
        """Acknowledge these deliveries, or give them back to the queue."""

    def publish(self, messages: Sequence[Outgoing], request: Request) -> None:
        """Publish; finish the request when all is confirmed or one has failed."""

    def dead_letter(self, tag: int, reason: str, request: Request) -> None:
        """Publish the delivery to the dead letters and acknowledge it."""

    def stop(self) -> None:
        """End the links."""


@attrs.define(eq=False)
class RabbitBroker:
    """See ``model.Broker`` for the public methods; the loop posts the others, in its order.

    Everything here runs in the Trio thread. Deliveries wait in ``_ready``, with the time (``uptime``)
    at which they came into this process, and in ``_expired`` until they are received: at most what
    the broker sends ahead, because none of them is acknowledged yet.
    """

    _loop: LoopSide
    _to_loop: Mailbox
    _ready: deque[tuple[float, Delivery]] = attrs.field(factory=deque, init=False)
    _expired: deque[Delivery] = attrs.field(factory=deque, init=False)
    _wanted: bool = attrs.field(default=False, init=False)
    _unroutable: int = attrs.field(default=0, init=False)
    _up: set[Link] = attrs.field(factory=set, init=False)
    _ended: bool = attrs.field(default=False, init=False)
    _failure: BaseException | None = attrs.field(default=None, init=False)
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    # A lot of its own: a confirm must not wake up who waits for actions, nor the other way round.
    _arrived: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)

    @property
    def connected(self) -> bool:
        """See ``Broker.connected``."""
        return len(self._up) == len(Link)

    @property
    def unroutable(self) -> int:
        """See ``Broker.unroutable``."""
        return self._unroutable

    async def receive(self) -> tuple[Delivery, ...]:
        """See ``Broker.receive``."""
        batch: tuple[Delivery, ...] = ()
        while not batch:
            await self._until(lambda: bool(self._ready or self._expired), self._arrived)
            batch = (*self._fresh(), *self._expired)
            self._expired.clear()
        return batch

    def _fresh(self) -> list[Delivery]:
        """Take what came just now, and give back what has waited here for long."""
        oldest = uptime() - HELD_S
        fresh = [delivery for since, delivery in self._ready if since >= oldest]
        stale = [delivery.tag for since, delivery in self._ready if since < oldest]
        self._ready.clear()
        if stale:
            self._post(partial(self._loop.settle, stale, requeue=True))
        return fresh

    def consume(self, wanted: bool) -> None:  # noqa: FBT001  # as in the protocol
        """See ``Broker.consume``."""
        self._wanted = wanted
        self._post(partial(self._loop.set_wanted, wanted))
        if not wanted and self._ready:
            tags = [delivery.tag for _, delivery in self._ready]
            self._ready.clear()
            self._post(partial(self._loop.settle, tags, requeue=True))

    def ack(self, tags: Sequence[int]) -> None:
        """See ``Broker.ack``."""
        self._post(partial(self._loop.settle, tuple(tags), requeue=False))

    async def dead_letter(self, tag: int, reason: str) -> None:
        """See ``Broker.dead_letter``."""
        failure: str | None = ""
        while failure is not None:
            await self.wait_publishable()
            failure = await self._failure_of(partial(self._loop.dead_letter, tag, reason))

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See ``Broker.publish``."""
        failure = await self._failure_of(partial(self._loop.publish, tuple(messages)))
        if failure is not None:
            raise BrokerUnavailable(failure)

    async def wait_publishable(self) -> None:
        """See ``Broker.wait_publishable``."""
        await self._until(lambda: Link.PUBLISH in self._up)

    async def wait_connected(self) -> None:
        """Wait until both links stand.

        Raises:
            BrokerError: the first connect failed.
        """
        await self._until(lambda: self.connected)

    def arrived(self, delivery: Delivery, at: float) -> None:
        """Take over what came ``at`` this time, or send it back when nobody wants it any more."""
        if delivery.expired:
            self._expired.append(delivery)
        elif self._wanted:
            self._ready.append((at, delivery))
        else:
            self._post(partial(self._loop.settle, (delivery.tag,), requeue=True))
            return
        self._arrived.unpark_all()

    def returned(self, count: int) -> None:
        """Note messages that no queue has taken."""
        self._unroutable += count

    def session_up(self, link: Link) -> None:
        """Note that a link stands."""
        self._up.add(link)
        self._changed.unpark_all()

    def link_lost(self, link: Link) -> None:
        """Note that a link is gone, and with it what was not received yet."""
        self._up.discard(link)
        if link is Link.CONSUME:
            self._ready.clear()
            self._expired.clear()

    def finished(self, request: Request, failure: str | None) -> None:
        """Note how a request ended."""
        request.done = True
        request.failure = failure
        self._changed.unpark_all()

    def ended(self, failure: BaseException | None) -> None:
        """Let every call fail from now on: with the failure that ended the loop, else as closed."""
        self._ended = True
        self._failure = failure
        self._up.clear()
        self._ready.clear()
        self._expired.clear()
        self._changed.unpark_all()
        self._arrived.unpark_all()

    def close(self) -> None:
        """Let every call fail, and the loop end its links."""
        self._to_loop.post(self._loop.stop)
        self.ended(None)

    def _post(self, call: Callable[[], None]) -> None:
        # The loop is gone or going: nothing can be sent, and what we hold comes again.
        if not self._ended:
            self._to_loop.post(call)

    async def _failure_of(self, call: Callable[[Request], None]) -> str | None:
        """Let the loop carry out a request; return why it failed, if it did."""
        request = Request()
        self._post(partial(call, request))
        await self._until(lambda: request.done)
        return request.failure

    async def _until(
        self, condition: Callable[[], bool], lot: trio.lowlevel.ParkingLot | None = None
    ) -> None:
        """Wait for a condition on our state; no checkpoint lies between it and the return."""
        if condition():
            await trio.lowlevel.checkpoint()
        while not condition():
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise trio.ClosedResourceError("the broker was closed")
            await (self._changed if lot is None else lot).park()
