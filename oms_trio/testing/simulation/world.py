"""Everything of one run: exchange, broker, network, disk, and the service's processes on them."""

from __future__ import annotations

import collections
from collections.abc import Callable
from contextvars import Context, copy_context
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import attrs
import trio

from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Outgoing
from oms_trio.core.effects import Effect
from oms_trio.core.events import Verb
from oms_trio.core.model import Rules
from oms_trio.core.risk import mark_age_ns
from oms_trio.core.state import TradeState
from oms_trio.okx.wire.signing import Credentials
from oms_trio.ops.operator_commands import CommandError
from oms_trio.service.journaled_inputs import JournaledInput, Kind
from oms_trio.settings.clock import Clock, virtual_clock
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import handle_stream
from oms_trio.testing.simulation.determinism import WALL_CLOCK_START_NS
from oms_trio.testing.simulation.faults.recording import RecordingFaults
from oms_trio.testing.simulation.impairments import Impairment, Impairments
from oms_trio.testing.simulation.invariants.monitor import RunMonitor
from oms_trio.testing.simulation.invariants.watched_exchange import (
    WatchedGroundTruth,
    WatchedLimits,
)
from oms_trio.testing.simulation.machine.clocks import WallClock
from oms_trio.testing.simulation.machine.disk import DiskState
from oms_trio.testing.simulation.machine.network import NetworkStream, SimulatedNetwork
from oms_trio.testing.simulation.machine.process import ProcessEnvironment, ServiceProcess
from oms_trio.testing.simulation.market import SimulatedMarket
from oms_trio.testing.simulation.run_settings import CONTEXT, RULES, RunSettings
from oms_trio.testing.simulation.wire_trace import WireTrace
from oms_trio.testing.simulation.workload import BUSY, Workload

Awaited = TypeVar("Awaited")

SECRETS: Final = ("Key-4f1c9a77", "Secret-8d02e6b1c3", "Passphrase-e77a90")
ACCOUNT: Final = ExchangeAccount(
    api_key=SECRETS[0], secret=SECRETS[1], passphrase=SECRETS[2], balance=Decimal(100_000)
)

RESTART_S: Final = (0.05, 8.0)
"""The supervisor starts a new process within this range of seconds after the last one ended."""

COMMAND_S: Final = 30.0
"""How long an operator waits for the answer to a command."""


def account_key() -> Credentials:
    """Return the API key that the service signs with."""
    return Credentials(ACCOUNT.api_key, ACCOUNT.secret, ACCOUNT.passphrase)


@attrs.define(eq=False)
class SimulatedWorld:
    """Everything of one run. Made inside ``trio.run`` by ``open_world``."""

    random: Random
    clock: Clock
    exchange: SimulatedExchange
    market: SimulatedMarket
    faults: RecordingFaults
    broker: MemoryBroker
    network: SimulatedNetwork
    trace: WireTrace
    disk: DiskState
    wall: WallClock
    """The machine's wall clock."""
    impairments: Impairments
    monitor: RunMonitor
    rules: Rules
    settings: RunSettings
    workload: Workload
    nursery: trio.Nursery
    burst: Callable[[int], object] = lambda _count: None
    """Lets the agent publish this many actions at once."""
    deleted: list[tuple[bytes, str | None]] = attrs.Factory(list)
    """Body and ``message_id`` of actions that were in a queue when it was deleted."""
    process: ServiceProcess | None = None
    processes: list[ServiceProcess] = attrs.Factory(list)
    keep_down: bool = False
    """While this is set, no new process is started."""
    received: list[Outgoing] = attrs.Factory(list)
    """Every message that reached the agent, repeats included."""
    inputs: collections.Counter[str] = attrs.Factory(collections.Counter)
    """How many inputs of each kind the service has journaled."""
    _state_waits: list[tuple[Callable[[TradeState], bool], trio.Event]] = attrs.Factory(list)
    _effect_waits: list[tuple[type[Effect], trio.Event]] = attrs.Factory(list)
    _started: trio.Event = attrs.Factory(trio.Event)
    _operator: trio.Lock = attrs.Factory(trio.Lock)
    _own_context: Context = attrs.Factory(copy_context)
    """The context of the world's tasks, also of those that a task of the service causes to start."""

    # The service's processes.

    async def supervise(self) -> None:
        """Start the service again whenever it ends, as systemd does; ends by cancellation only.

        Raises:
            Whatever the service crashes with.
        """
        while True:
            process = ServiceProcess(self._environment())
            self.processes.append(process)
            self.process = process
            started, self._started = self._started, trio.Event()
            started.set()
            await process.run()
            self.impairments.note(Impairment.PROCESS)
            # The broker notices the end of the connection and delivers again what was not settled.
            self.broker.consume(wanted=False)
            self.broker.restart() if self.broker.connected else None
            with self.impairments.during({Impairment.PROCESS}):
                await trio.sleep(self.random.uniform(*RESTART_S))
                while self.keep_down:  # noqa: ASYNC110 - a few seconds of virtual time
                    await trio.sleep(0.1)

    async def next_process(self) -> ServiceProcess:
        """Wait until another process is started, and return it."""
        await self._started.wait()
        assert self.process is not None
        return self.process

    def kill(self) -> None:
        """Kill the running process, if there is one."""
        process = self.process
        if process is None or process.ended.is_set() or process.dead:
            return
        process.kill()
        self.network.close_clients()
        self.broker.consume(wanted=False)
        self.broker.restart() if self.broker.connected else None

    def stop(self) -> None:
        """Request an orderly stop of the running process, as SIGTERM does."""
        if self.process is not None:
            self.process.stop.set()

    async def freeze(self, lasting_s: float) -> None:
        """Freeze the running process for a while, as SIGSTOP and SIGCONT do."""
        process = self.process
        if process is None or not process.freeze():
            return
        with self.impairments.during({Impairment.PROCESS}):
            try:
                await trio.sleep(lasting_s)
            finally:
                process.thaw()

    @property
    def state(self) -> TradeState | None:
        """The running process's trading state; None while no process runs."""
        process = self.process
        return None if process is None or process.dead or process.ended.is_set() else process.state

    async def wait_for_state(self, holds: Callable[[TradeState], bool]) -> None:
        """Wait until a condition on the trading state holds."""
        if self.state is None or not holds(self.state):
            await _wait(self._state_waits, holds)

    async def wait_for_effect(self, kind: type[Effect]) -> None:
        """Wait until the core returns an effect of this kind."""
        await _wait(self._effect_waits, kind)

    async def command(self, verb: Verb) -> bool:
        """Give an operator's command; returns whether it was accepted and can no longer be lost."""
        async with self._operator:
            process = self.process
            if (
                process is None
                or process.commands is None
                or process.dead
                or process.ended.is_set()
            ):
                return False
            existed = self.monitor.open_orders()
            self.monitor.note_command_sent(verb)
            accepted = False
            with trio.move_on_after(COMMAND_S):
                try:
                    await process.commands.command(verb, "operator")
                    accepted = not process.dead
                except CommandError:
                    pass
            if accepted:
                self.monitor.note_command_accepted(verb, process.state)
                if verb in {Verb.KILL, Verb.CANCEL_ALL, Verb.FLATTEN}:
                    self.nursery.start_soon(self.monitor.check_command, verb, existed)
            return accepted

    def connect(self, kind: str) -> NetworkStream:
        """Connect to the exchange; ``kind`` is ``ws`` or ``rest``. Returns the client's end."""
        client, server = self.network.connect(kind)
        self._own_context.run(self.nursery.start_soon, handle_stream, self.exchange, server)
        return client

    async def receive_messages(self) -> None:
        """Receive what the service publishes to the agent; ends by cancellation only."""
        with self.broker.subscribe() as messages:
            async for message in messages:
                self.received.append(message)

    def observe(
        self, journaled: JournaledInput, effects: tuple[Effect, ...], state: TradeState
    ) -> None:
        """Take an input that the core has applied, with its effects, and wake who waits for it."""
        self.inputs[journaled.kind.value] += 1
        self.monitor.observe(effects, state)
        if journaled.kind is Kind.ACTION:
            self.monitor.note_decision(state)
        if journaled.kind is Kind.SNAPSHOT:
            self.market.note_snapshot(state)
        for holds, event in self._state_waits:
            if holds(state):
                event.set()
        for effect in effects:
            for kind, event in self._effect_waits:
                if isinstance(effect, kind):
                    event.set()

    def _environment(self) -> ProcessEnvironment:
        return ProcessEnvironment(
            disk=self.disk,
            broker=self.broker,
            trace=self.trace,
            random=self.random,
            clock=self.clock,
            wall=self.wall,
            rules=self.rules,
            keep_ns=None if (keep_s := self.settings.keep_s) is None else round(keep_s * 1e9),
            quiet_s=self.workload.quiet_s,
            scope=CONTEXT,
            credentials=account_key(),
            dial=self.connect,
            observe=self.observe,
        )


def open_world(
    seed: int,
    folder: Path,
    nursery: trio.Nursery,
    trace: WireTrace,
    *,
    mode: MatchingMode = MatchingMode.AUTO,
    rules: Rules | None = None,
    settings: RunSettings | None = None,
    workload: Workload = BUSY,
) -> SimulatedWorld:
    """Make a world in which nothing happens yet; its tasks run in ``nursery``."""
    random = Random(f"world {seed}")  # noqa: S311 - a seed repeats it
    clock = virtual_clock(WALL_CLOCK_START_NS)
    settings = settings or RunSettings(rules or RULES)
    rules = attrs.evolve(settings.rules, check_every_ns=round(workload.check_s * 1e9))
    exchange_drift, drift = settings.drift_ppm
    skew_ns = random.randint(-20_000, 20_000) * 1_000_000
    impairments = Impairments()
    faults = RecordingFaults(impairments=impairments)
    truth = WatchedGroundTruth()
    exchange = SimulatedExchange(
        account=ACCOUNT,
        clock=WallClock(clock, skew_ns, exchange_drift),
        seed=random.getrandbits(64),
        mode=mode,
        faults=faults,
        ground_truth=truth,
    )
    nursery.start_soon(_record_events, exchange, faults)
    exchange.push_every_s = workload.push_s
    engine = exchange.engine
    engine.market.depth_lots, engine.market.step_ticks = (100, 2000), workload.step_ticks
    monitor = RunMonitor(
        exchange,
        rules,
        impairments,
        lambda: world.process,
        mark_age_ns(rules) / 1e9 + 5.0,
    )
    world = SimulatedWorld(
        random=random,
        clock=clock,
        exchange=exchange,
        market=SimulatedMarket(
            exchange, monitor, impairments, workload.market_s, exchange.start_px
        ),
        faults=faults,
        broker=MemoryBroker(message_ttl_s=rules.max_action_age_ns / 1e9),
        network=SimulatedNetwork(random, trace),
        trace=trace,
        disk=DiskState(folder),
        wall=WallClock(clock, drift_ppm=drift),
        impairments=impairments,
        monitor=monitor,
        rules=rules,
        settings=settings,
        workload=workload,
        nursery=nursery,
    )
    truth.on_change = monitor.note_change
    exchange.limits = WatchedLimits(on_rejected=monitor.note_rate_limited)
    nursery.start_soon(monitor.watch_liveness)
    return world


async def _wait(waits: list[tuple[Awaited, trio.Event]], awaited: Awaited) -> None:
    event = trio.Event()
    waits.append((awaited, event))
    try:
        await event.wait()
    finally:
        waits.remove((awaited, event))


async def _record_events(exchange: SimulatedExchange, faults: RecordingFaults) -> None:
    with exchange.engine.listening(faults.note):
        await trio.sleep_forever()
