"""RabbitMQ's Trio side: the methods that the service calls. ``AsyncioSide`` carries them out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Final, Protocol

import attrs
import trio

from oms_trio.amqp.call_queue import CallQueue
from oms_trio.amqp.model import HELD_S, BrokerUnavailable, Delivery, Outgoing

# Linux's monotonic clock stops while the machine is suspended, but messages go on ageing.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Return the time in seconds of a clock that never stops; the same in all threads."""
    return time.clock_gettime(_CLOCK)


class ConnectionRole(Enum):
    """What each of our two connections to RabbitMQ is for.

    A broker that is short of memory or disk stops reading from connections that publish. On a single
    connection acknowledgements would then wait for the executions before them.
    """

    CONSUME = "consume"
    PUBLISH = "publish"


@attrs.define(eq=False)
class PendingConfirm:
    """The confirmation of something published; ``failure`` is the reason why there is none."""

    done: bool = False
    failure: str | None = None


class AsyncioSide(Protocol):
    """The calls of the Trio side; each runs in the asyncio thread and returns at once."""

    def set_wanted(self, wanted: bool) -> None:  # noqa: FBT001  # its only argument
        """Start or stop consuming."""

    def settle(self, tags: Sequence[int], *, requeue: bool) -> None:
        """Acknowledge these deliveries, or return them to the queue."""

    def publish(self, messages: Sequence[Outgoing], confirm: PendingConfirm) -> None:
        """Publish; finish ``confirm`` when all are confirmed or one has failed."""

    def dead_letter(self, tag: int, reason: str, confirm: PendingConfirm) -> None:
        """Publish the delivery to the dead letters and acknowledge it."""

    def stop(self) -> None:
        """Close the connections."""


@attrs.define(eq=False)
class RabbitBroker:
    """A ``model.Broker``; its other methods are called by the asyncio side, in order.

    Everything here runs in the Trio thread. Deliveries wait in ``_ready``, with the time (``uptime``) of
    their arrival in this process, and in ``_expired`` until they are received: at most as many as the
    broker prefetches, because none of them is acknowledged yet.
    """

    _asyncio_side: AsyncioSide
    _to_asyncio: CallQueue
    _ready: deque[tuple[float, Delivery]] = attrs.field(factory=deque, init=False)
    _expired: deque[Delivery] = attrs.field(factory=deque, init=False)
    _wanted: bool = attrs.field(default=False, init=False)
    _unroutable: int = attrs.field(default=0, init=False)
    _up: set[ConnectionRole] = attrs.field(factory=set, init=False)
    _ended: bool = attrs.field(default=False, init=False)
    _failure: BaseException | None = attrs.field(default=None, init=False)
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    # Separate, so that a confirm does not wake the task that waits for actions, nor vice versa.
    _arrived: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)

    @property
    def connected(self) -> bool:
        """See ``Broker.connected``."""
        return len(self._up) == len(ConnectionRole)

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
        """Take recent deliveries, and return those that have waited here for too long."""
        oldest = uptime() - HELD_S
        fresh = [delivery for since, delivery in self._ready if since >= oldest]
        stale = [delivery.tag for since, delivery in self._ready if since < oldest]
        self._ready.clear()
        if stale:
            self._call(partial(self._asyncio_side.settle, stale, requeue=True))
        return fresh

    def consume(self, wanted: bool) -> None:  # noqa: FBT001  # as in the protocol
        """See ``Broker.consume``."""
        self._wanted = wanted
        self._call(partial(self._asyncio_side.set_wanted, wanted))
        if not wanted and self._ready:
            tags = [delivery.tag for _, delivery in self._ready]
            self._ready.clear()
            self._call(partial(self._asyncio_side.settle, tags, requeue=True))

    def ack(self, tags: Sequence[int]) -> None:
        """See ``Broker.ack``."""
        self._call(partial(self._asyncio_side.settle, tuple(tags), requeue=False))

    async def dead_letter(self, tag: int, reason: str) -> None:
        """See ``Broker.dead_letter``."""
        failure: str | None = ""
        while failure is not None:
            await self.wait_publishable()
            failure = await self._failure_of(partial(self._asyncio_side.dead_letter, tag, reason))

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See ``Broker.publish``."""
        failure = await self._failure_of(partial(self._asyncio_side.publish, tuple(messages)))
        if failure is not None:
            raise BrokerUnavailable(failure)

    async def wait_publishable(self) -> None:
        """See ``Broker.wait_publishable``."""
        await self._until(lambda: ConnectionRole.PUBLISH in self._up)

    async def wait_connected(self) -> None:
        """Wait until both connections are open.

        Raises:
            BrokerError: the first connect failed.
        """
        await self._until(lambda: self.connected)

    def add_delivery(self, delivery: Delivery, at: float) -> None:
        """Add a delivery that arrived ``at`` this time, or return it when consuming has stopped."""
        if delivery.expired:
            self._expired.append(delivery)
        elif self._wanted:
            self._ready.append((at, delivery))
        else:
            self._call(partial(self._asyncio_side.settle, (delivery.tag,), requeue=True))
            return
        self._arrived.unpark_all()

    def add_unroutable(self, count: int) -> None:
        """Count messages that no queue has taken."""
        self._unroutable += count

    def connection_up(self, role: ConnectionRole) -> None:
        """Record that a connection is open."""
        self._up.add(role)
        self._changed.unpark_all()

    def connection_lost(self, role: ConnectionRole) -> None:
        """Record the loss of a connection, and of the deliveries that were not received yet."""
        self._up.discard(role)
        if role is ConnectionRole.CONSUME:
            self._ready.clear()
            self._expired.clear()

    def finished(self, confirm: PendingConfirm, failure: str | None) -> None:
        """Finish a pending confirm, with the reason if it failed."""
        confirm.done = True
        confirm.failure = failure
        self._changed.unpark_all()

    def ended(self, failure: BaseException | None) -> None:
        """Make every call fail from now on: with ``failure``, or as closed."""
        self._ended = True
        self._failure = failure
        self._up.clear()
        self._ready.clear()
        self._expired.clear()
        self._changed.unpark_all()
        self._arrived.unpark_all()

    def close(self) -> None:
        """Make every call fail from now on, and close the connections."""
        self._to_asyncio.call_soon(self._asyncio_side.stop)
        self.ended(None)

    def _call(self, call: Callable[[], None]) -> None:
        # The connections are closing: nothing can be sent, and our deliveries will be repeated.
        if not self._ended:
            self._to_asyncio.call_soon(call)

    async def _failure_of(self, call: Callable[[PendingConfirm], None]) -> str | None:
        """Make a call and wait for its confirmation; return why it failed, or None."""
        confirm = PendingConfirm()
        self._call(partial(call, confirm))
        await self._until(lambda: confirm.done)
        return confirm.failure

    async def _until(
        self, condition: Callable[[], bool], lot: trio.lowlevel.ParkingLot | None = None
    ) -> None:
        """Wait for a condition; there is no checkpoint between its check and the return."""
        if condition():
            await trio.lowlevel.checkpoint()
        while not condition():
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise trio.ClosedResourceError("the broker was closed")
            await (self._changed if lot is None else lot).park()
