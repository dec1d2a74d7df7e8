"""One process of the service inside the simulation: it starts from the journal, and it may die.

A process that is killed does nothing more: no byte leaves it, no write reaches the disk, and its
connections end. Cancelling its nursery is only how its tasks are cleared away afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import httpx
import trio

from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Delivery, Outgoing
from oms_trio.app import Parts, recover, run_service
from oms_trio.clock import Clock
from oms_trio.core.model import Rules
from oms_trio.core.state import TradeState
from oms_trio.journal.disk import Disk
from oms_trio.journal.errors import JournalFull
from oms_trio.journal.journal import Journal
from oms_trio.okx.rest import Rest
from oms_trio.okx.session import Session
from oms_trio.okx.signing import Credentials
from oms_trio.okx.websocket import Link, open_link
from oms_trio.records import Scope
from oms_trio.simulation.http import Dial, open_transport
from oms_trio.simulation.tape import Tape
from oms_trio.tasks.trade_state import Observer

JOURNAL = "journal.sqlite"
DISK_S = (0.0002, 0.004)
BROKER_S = (0.0002, 0.002)
_WRITES = frozenset({"append", "confirm", "save_snapshot", "compact"})


class KilledError(Exception):
    """This process is dead; nobody outside the simulation sees this."""


@attrs.define
class Room:
    """The disk that all lives share: it can be full for a while."""

    folder: Path
    full: bool = False


@attrs.define(eq=False)
class SimDisk:
    """Runs the journal's calls as a slow disk does, without a thread.

    Death strikes between two instructions: a call is made whole or not at all, and its result
    may be lost.
    """

    room: Room
    random: Random
    dead: bool = False

    async def __call__(self, function: Callable[[], Any], /) -> Any:  # noqa: ANN401 - as in RunSync
        """Run a call of the journal."""
        await self._pause()
        method = getattr(getattr(function, "func", function), "__name__", "")
        if self.room.full and method in _WRITES:
            raise JournalFull(self.room.folder / JOURNAL)
        result = function()
        await self._pause()
        return result

    async def _pause(self) -> None:
        await trio.sleep(self.random.uniform(*DISK_S))
        if self.dead:
            raise KilledError


@attrs.define(eq=False)
class SlowBroker:
    """The broker at the other end of a network: publishing takes a moment each way."""

    broker: MemoryBroker
    random: Random
    tape: Tape

    @property
    def connected(self) -> bool:
        """See ``Broker.connected``."""
        return self.broker.connected

    @property
    def unroutable(self) -> int:
        """See ``Broker.unroutable``."""
        return self.broker.unroutable

    async def receive(self) -> tuple[Delivery, ...]:
        """See ``Broker.receive``."""
        deliveries = await self.broker.receive()
        for delivery in deliveries:
            self.tape.note("amqp<", repr(delivery).encode())
        return deliveries

    def consume(self, wanted: bool) -> None:  # noqa: FBT001 - as in the protocol
        """See ``Broker.consume``."""
        self.broker.consume(wanted)

    def ack(self, tags: Sequence[int]) -> None:
        """See ``Broker.ack``."""
        self.tape.note("amqp>ack", repr(list(tags)).encode())
        self.broker.ack(tags)

    async def dead_letter(self, tag: int, reason: str) -> None:
        """See ``Broker.dead_letter``."""
        self.tape.note("amqp>dead", f"{tag} {reason}".encode())
        await self.broker.dead_letter(tag, reason)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See ``Broker.publish``."""
        await trio.sleep(self.random.uniform(*BROKER_S))
        for message in messages:
            self.tape.note("amqp>", repr(message).encode())
        await self.broker.publish(messages)
        await trio.sleep(self.random.uniform(*BROKER_S))

    async def wait_publishable(self) -> None:
        """See ``Broker.wait_publishable``."""
        await self.broker.wait_publishable()


@attrs.frozen(kw_only=True)
class Surroundings:
    """What every life of the service finds around it."""

    room: Room
    broker: MemoryBroker
    tape: Tape
    random: Random
    clock: Clock
    rules: Rules
    quiet_s: float
    scope: Scope
    credentials: Credentials
    dial: Dial
    observe: Observer


@attrs.define(eq=False)
class Life:
    """One start of the service, until it is stopped or killed."""

    around: Surroundings
    disk: SimDisk = attrs.field(init=False)
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    stop: trio.Event = attrs.Factory(trio.Event)
    started: trio.Event = attrs.Factory(trio.Event)
    ended: trio.Event = attrs.Factory(trio.Event)
    state: TradeState | None = None
    journal: Journal | None = None
    recovered: tuple[int, str] = (0, "")
    """Sequence and digest with which it began."""
    stopping: bool = False

    def __attrs_post_init__(self) -> None:
        """Put the disk in."""
        self.disk = SimDisk(self.around.room, self.around.random)

    @property
    def dead(self) -> bool:
        """Whether it was killed."""
        return self.disk.dead

    def kill(self) -> None:
        """End the process here and now."""
        self.disk.dead = True
        self.scope.cancel()

    async def run(self) -> None:
        """Live until stopped or killed.

        Raises:
            Whatever the service ends with, unless it was killed.
        """
        try:
            with self.scope:
                await self._serve()
        except Exception:
            if not self.dead:
                raise
        finally:
            self.ended.set()

    async def _serve(self) -> None:
        around = self.around
        random = Random(around.random.getrandbits(64))  # noqa: S311 - a seed repeats it
        transport = open_transport(around.dial)
        async with httpx.AsyncClient(
            base_url="http://127.0.0.1", transport=transport, timeout=10.0
        ) as client:
            rest = Rest(client, around.credentials, around.clock, inst_id=around.scope.inst_id)
            with Journal.open(around.room.folder / JOURNAL) as journal:
                recovered = recover(journal, around.rules, around.scope)
                self.recovered = recovered.seq, recovered.state.digest()
                self.state, self.journal = recovered.state, journal
                parts = Parts(
                    broker=SlowBroker(around.broker, random, around.tape),
                    rest=rest,
                    connect=partial(self._connect, rest),
                    disk=Disk(journal, self.disk),
                    rules=around.rules,
                    scope=around.scope,
                    max_retries=50,
                    random=random,
                    clock=around.clock,
                    mono_clock=around.clock,
                    observe=around.observe,
                    quiet_s=around.quiet_s,
                )
                await run_service(parts, recovered, stop=self.stop, started=self.started.set)

    def _connect(self, rest: Rest) -> AbstractAsyncContextManager[Link]:
        around = self.around

        def dial(_host: str, _port: int) -> Awaitable[trio.abc.Stream]:
            return _now(lambda: around.dial("ws"))

        return open_link(
            "ws://127.0.0.1/ws/v5/private",
            Session(around.credentials, around.scope.inst_id),
            around.clock,
            offset_ns=rest.offset_ns,
            open_stream=dial,
        )


async def _now(make: Callable[[], trio.abc.Stream]) -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    return make()
