"""A broker within the process: for the demo, the simulation and tests.

It behaves like RabbitMQ in prefetch, redelivery, expiry, dead letters, outages and lost confirms. It has
no threads and no randomness, and reads only Trio's clock, so a simulation with a jumping clock repeats
exactly.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence

import attrs
import trio

from oms_trio.amqp.model import (
    EXPIRED_PREFETCH,
    HELD_S,
    BrokerUnavailable,
    Delivery,
    Outgoing,
)


@attrs.frozen
class DeadLetter:
    """A dead-lettered message, and why (``expired`` when it was not delivered in time)."""

    body: bytes
    message_id: str | None
    reason: str


@attrs.frozen
class _Queued:
    body: bytes
    message_id: str | None
    expires_at: float
    redelivered: bool = False
    expired: bool = False


@attrs.define
class MemoryBroker:
    """A ``model.Broker``; its other methods are for agents and tests.

    ``message_ttl_s`` applies while a message waits in the queue, not after its delivery. An outage
    (``set_available(False)``) concerns only our connection: agents go on publishing actions.
    """

    prefetch: int = 64
    message_ttl_s: float = math.inf
    _available: bool = attrs.field(default=True, init=False)
    _wanted: bool = attrs.field(default=False, init=False)
    _blocked: bool = attrs.field(default=False, init=False)
    _unroutable: int = attrs.field(default=0, init=False)
    _lost_confirms: int = attrs.field(default=0, init=False)
    # Like RabbitMQ's queues these have no bound; the agent's rate and the TTL limit them.
    _queue: deque[_Queued] = attrs.field(factory=deque, init=False)
    _expired: deque[_Queued] = attrs.field(factory=deque, init=False)
    _dead_letters: list[DeadLetter] = attrs.field(factory=list, init=False)
    _subscribers: list[trio.MemorySendChannel[Outgoing]] = attrs.field(factory=list, init=False)
    # These hold at most ``prefetch`` live messages and ``EXPIRED_PREFETCH`` expired ones.
    _unsettled: dict[int, _Queued] = attrs.field(factory=dict, init=False)
    _ready: deque[tuple[float, Delivery]] = attrs.field(factory=deque, init=False)
    """Deliveries with the time at which they were fetched."""
    _expired_ready: deque[Delivery] = attrs.field(factory=deque, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _tags: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)

    @property
    def connected(self) -> bool:
        """See ``Broker.connected``."""
        return self._available

    @property
    def unroutable(self) -> int:
        """See ``Broker.unroutable``."""
        return self._unroutable

    async def receive(self) -> tuple[Delivery, ...]:
        """See ``Broker.receive``."""
        await trio.lowlevel.checkpoint()
        while True:
            oldest = trio.current_time() - HELD_S
            if stale := [delivery.tag for since, delivery in self._ready if since < oldest]:
                self._requeue(stale)
                self._pump()
            if self._ready or self._expired_ready:
                break
            changed = self._changed
            with trio.move_on_at(self._queue[0].expires_at if self._queue else math.inf):
                await changed.wait()
            if not changed.is_set():
                self._pump()
        batch = (*(delivery for _, delivery in self._ready), *self._expired_ready)
        self._ready.clear()
        self._expired_ready.clear()
        return batch

    def consume(self, wanted: bool) -> None:  # noqa: FBT001  # as in the protocol
        """See ``Broker.consume``."""
        self._wanted = wanted
        if not wanted:
            self._requeue([delivery.tag for _, delivery in self._ready])
        self._pump()

    def ack(self, tags: Sequence[int]) -> None:
        """See ``Broker.ack``."""
        for tag in tags:
            self._unsettled.pop(tag, None)
        self._pump()

    async def dead_letter(self, tag: int, reason: str) -> None:
        """See ``Broker.dead_letter``."""
        await trio.lowlevel.checkpoint()
        message = self._unsettled.get(tag)
        if message is not None:
            self._dead_letters.append(DeadLetter(message.body, message.message_id, reason))
            self.ack([tag])

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See ``Broker.publish``."""
        await trio.lowlevel.checkpoint()
        while self._blocked and self._available:
            await self._changed.wait()
        if not self._available:
            raise BrokerUnavailable("outage")
        for message in messages:
            for subscriber in tuple(self._subscribers):
                try:
                    subscriber.send_nowait(message)
                except trio.BrokenResourceError:
                    self._subscribers.remove(subscriber)
            if not self._subscribers:
                self._unroutable += 1
        if self._lost_confirms:
            self._lost_confirms -= 1
            raise BrokerUnavailable("confirm lost")

    async def wait_publishable(self) -> None:
        """See ``Broker.wait_publishable``."""
        await trio.lowlevel.checkpoint()
        while not self._available:
            await self._changed.wait()

    def publish_action(self, body: bytes, message_id: str | None = None) -> None:
        """Publish an action, as an agent does."""
        self._queue.append(_Queued(body, message_id, trio.current_time() + self.message_ttl_s))
        self._pump()

    def subscribe(self) -> trio.MemoryReceiveChannel[Outgoing]:
        """Return a channel that receives every message published from now on; close it to unsubscribe."""
        send, receive = trio.open_memory_channel[Outgoing](math.inf)
        self._subscribers.append(send)
        return receive

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The messages that were dead-lettered so far."""
        self._pump()
        return list(self._dead_letters)

    @property
    def depth(self) -> int:
        """The number of actions in the queue, without delivered ones."""
        self._pump()
        return len(self._queue)

    def set_available(self, available: bool) -> None:  # noqa: FBT001  # its only argument
        """Begin or end an outage; deliveries that are unacknowledged at its begin are repeated."""
        self._available = available
        if not available:
            self._requeue(list(self._unsettled))
        self._pump()

    def restart(self) -> None:
        """An outage of no duration: every unacknowledged delivery is repeated."""
        self.set_available(False)
        self.set_available(True)

    def set_blocked(self, blocked: bool) -> None:  # noqa: FBT001  # its only argument
        """Begin or end a memory or disk alarm, during which publishing waits."""
        self._blocked = blocked
        self._pump()

    def delete_queue(self) -> list[tuple[bytes, str | None]]:
        """Delete the action queue with its messages, including delivered ones; return them.

        This cancels our consumer, and a new queue is declared and consumed from at once.
        """
        held = [tag for tag, message in self._unsettled.items() if not message.expired]
        gone = [*(self._unsettled.pop(tag) for tag in held), *self._queue]
        self._queue.clear()
        self._ready.clear()
        self._pump()
        return [(message.body, message.message_id) for message in gone]

    def lose_confirms(self, count: int) -> None:
        """Make the next ``count`` calls of ``publish`` fail although subscribers get the messages."""
        self._lost_confirms = count

    def _requeue(self, tags: list[int]) -> None:
        """Return delivered messages to the head of the queue, in their order."""
        back = [attrs.evolve(self._unsettled.pop(tag), redelivered=True) for tag in tags]
        self._queue.extendleft(message for message in reversed(back) if not message.expired)
        self._expired.extendleft(message for message in reversed(back) if message.expired)
        held = self._unsettled
        self._ready = deque(one for one in self._ready if one[1].tag in held)
        self._expired_ready = deque(one for one in self._expired_ready if one.tag in held)

    def _pump(self) -> None:
        """Expire old messages, then deliver as many as prefetch allows.

        All have the same TTL, and messages return to the head, so the head is always the oldest.
        """
        now = trio.current_time()
        while self._queue and self._queue[0].expires_at <= now:
            message = self._queue.popleft()
            self._dead_letters.append(DeadLetter(message.body, message.message_id, "expired"))
            self._expired.append(attrs.evolve(message, redelivered=True, expired=True))
        held_expired = sum(message.expired for message in self._unsettled.values())
        held = len(self._unsettled) - held_expired
        while self._available and self._expired and held_expired < EXPIRED_PREFETCH:
            self._expired_ready.append(self._hold(self._expired.popleft()))
            held_expired += 1
        while self._available and self._wanted and self._queue and held < self.prefetch:
            self._ready.append((now, self._hold(self._queue.popleft())))
            held += 1
        self._changed.set()
        self._changed = trio.Event()

    def _hold(self, message: _Queued) -> Delivery:
        tag = next(self._tags)
        self._unsettled[tag] = message
        return Delivery(tag, message.body, message.message_id, message.redelivered, message.expired)
