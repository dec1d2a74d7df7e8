"""One process of the service in a simulation: it starts from the journal, and it may be killed.

A killed process does nothing more: no byte leaves it, no write reaches the disk, and its connections
end. Its nursery is cancelled only to remove its tasks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from random import Random

import attrs
import httpx
import trio

from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Delivery, Outgoing
from oms_trio.core.model import Rules
from oms_trio.core.state import TradeState
from oms_trio.journal.errors import JournalIOError
from oms_trio.journal.journal import Journal
from oms_trio.journal.worker import JournalWorker
from oms_trio.okx.pending_requests import PendingRequests
from oms_trio.okx.rest import Rest
from oms_trio.okx.session import OkxSession
from oms_trio.okx.websocket import OkxConnection, open_okx_connection
from oms_trio.okx.wire.signing import Credentials
from oms_trio.ops.operator_commands import OperatorCommands
from oms_trio.service.app import run_service
from oms_trio.service.channels import Inbox
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import DecodeContext
from oms_trio.service.recovery import recover
from oms_trio.service.state_codec import digest
from oms_trio.settings.clock import Clock, service_clock
from oms_trio.tasks.trade_state import Observer
from oms_trio.testing.simulation.machine.disk import DiskState, SimulatedDisk
from oms_trio.testing.simulation.machine.freezing import PROCESS, freeze, frozen, thaw
from oms_trio.testing.simulation.machine.http import Dial, open_transport
from oms_trio.testing.simulation.wire_trace import WireTrace

BROKER_S = (0.0002, 0.002)


@attrs.define(eq=False)
class SlowBroker:
    """The broker on the other side of a network: publishing takes some time each way."""

    broker: MemoryBroker
    random: Random
    trace: WireTrace

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
            self.trace.note("amqp<", repr(delivery).encode())
        return deliveries

    def consume(self, wanted: bool) -> None:  # noqa: FBT001 - as in the protocol
        """See ``Broker.consume``."""
        self.broker.consume(wanted)

    def ack(self, tags: Sequence[int]) -> None:
        """See ``Broker.ack``."""
        self.trace.note("amqp>ack", repr(list(tags)).encode())
        self.broker.ack(tags)

    async def dead_letter(self, tag: int, reason: str) -> None:
        """See ``Broker.dead_letter``."""
        self.trace.note("amqp>dead", f"{tag} {reason}".encode())
        await self.broker.dead_letter(tag, reason)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See ``Broker.publish``."""
        await trio.sleep(self.random.uniform(*BROKER_S))
        for message in messages:
            self.trace.note("amqp>", repr(message).encode())
        await self.broker.publish(messages)
        await trio.sleep(self.random.uniform(*BROKER_S))

    async def wait_publishable(self) -> None:
        """See ``Broker.wait_publishable``."""
        await self.broker.wait_publishable()


@attrs.frozen(kw_only=True)
class ProcessEnvironment:
    """What every process of the service starts with."""

    disk: DiskState
    broker: MemoryBroker
    trace: WireTrace
    random: Random
    clock: Clock
    """The true time, which never steps: a running process counts by it."""
    wall: Clock
    """The wall clock, which a process reads when it starts."""
    rules: Rules
    keep_ns: int | None
    quiet_s: float
    scope: DecodeContext
    credentials: Credentials
    dial: Dial
    observe: Observer


@attrs.define(eq=False)
class ServiceProcess:
    """The service from one start until it is stopped or killed."""

    environment: ProcessEnvironment
    disk: SimulatedDisk = attrs.field(init=False)
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    stop: trio.Event = attrs.Factory(trio.Event)
    started: trio.Event = attrs.Factory(trio.Event)
    ended: trio.Event = attrs.Factory(trio.Event)
    state: TradeState | None = None
    journal: Journal | None = None
    commands: OperatorCommands | None = None
    """Takes an operator's commands, as from the control socket."""
    broken: bool = False
    """It ended because its disk failed."""
    recovered: tuple[int, str] = (0, "")
    """The sequence number and the state digest that it recovered from the journal."""

    def __attrs_post_init__(self) -> None:
        """Give the process its own access to the disk."""
        self.disk = SimulatedDisk(self.environment.disk, self.environment.random)

    @property
    def dead(self) -> bool:
        """Whether it was killed."""
        return self.disk.dead

    def kill(self) -> None:
        """End the process at once, also when it is frozen."""
        self.disk.dead = True
        self.scope.cancel()
        thaw(self)

    def freeze(self) -> bool:
        """Freeze the process as SIGSTOP does; False when it has ended or is frozen already."""
        if self.ended.is_set() or self.dead or frozen(self):
            return False
        freeze(self)
        return True

    def thaw(self) -> None:
        """Continue, as SIGCONT does."""
        thaw(self)

    async def run(self) -> None:
        """Run the service until it is stopped or killed.

        Raises:
            Whatever the service ends with, unless it was killed or its disk failed.
        """
        token = PROCESS.set(self)
        try:
            with self.scope:
                await self._serve()
        except Exception as error:
            self.broken = _only(error, JournalIOError)
            if not self.dead and not (self.broken and self.environment.disk.broken):
                raise
        finally:
            PROCESS.reset(token)
            self.ended.set()

    async def _serve(self) -> None:
        environment = self.environment
        random = Random(environment.random.getrandbits(64))  # noqa: S311 - a seed repeats it
        transport = open_transport(environment.dial)
        with Journal.open(environment.disk.journal) as journal:
            await self._serve_with(journal, transport, random)

    async def _serve_with(
        self, journal: Journal, transport: httpx.AsyncHTTPTransport, random: Random
    ) -> None:
        environment = self.environment
        clock = service_clock(journal.last_at_ns, wall=environment.wall, elapsed=environment.clock)
        async with httpx.AsyncClient(
            base_url="http://127.0.0.1", transport=transport, timeout=10.0
        ) as client:
            rest = Rest(client, environment.credentials, clock, inst_id=environment.scope.inst_id)
            recovered = recover(journal, environment.rules, environment.scope)
            self.recovered = recovered.seq, digest(recovered.state)
            self.state, self.journal = recovered.state, journal
            await run_service(
                recovered,
                broker=SlowBroker(environment.broker, random, environment.trace),
                rest=rest,
                connect=partial(self._connect, rest, clock),
                disk=JournalWorker(journal, self.disk),
                rules=environment.rules,
                context=environment.scope,
                max_retries=50,
                random=random,
                keep_ns=environment.keep_ns,
                clock=clock,
                mono_clock=environment.clock,
                observers=(environment.observe,),
                sidecar=self._open_controls,
                quiet_s=environment.quiet_s,
                stop=self.stop,
                on_started=self.started.set,
            )

    async def _open_controls(self, inbox: Inbox, _gate: Gate, _requests: PendingRequests) -> None:
        self.commands = OperatorCommands(inbox)
        await trio.sleep_forever()

    def _connect(self, rest: Rest, clock: Clock) -> AbstractAsyncContextManager[OkxConnection]:
        environment = self.environment

        def dial(_host: str, _port: int) -> Awaitable[trio.abc.Stream]:
            return _now(lambda: environment.dial("ws"))

        return open_okx_connection(
            "ws://127.0.0.1/ws/v5/private",
            OkxSession(environment.credentials, environment.scope.inst_id),
            clock,
            offset_ns=rest.offset_ns,
            open_stream=dial,
        )


async def _now(make: Callable[[], trio.abc.Stream]) -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    return make()


def _only(error: BaseException, kind: type[Exception]) -> bool:
    """Whether an error is of a kind, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(_only(part, kind) for part in error.exceptions)
    return isinstance(error, kind)
