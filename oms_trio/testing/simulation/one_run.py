"""One run: a seed, some hours of market, faults; then calm, convergence and the audit."""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final, NoReturn, TextIO

import attrs
import structlog
import trio
from structlog.typing import WrappedLogger

from oms_trio.journal.journal import Journal
from oms_trio.tasks import retention, trade_state
from oms_trio.testing.okx_server.values import Fill
from oms_trio.testing.simulation.agent import Agent
from oms_trio.testing.simulation.coverage import Coverage
from oms_trio.testing.simulation.determinism import repeatable
from oms_trio.testing.simulation.faults.account import on_duty
from oms_trio.testing.simulation.faults.catalog import strike_on
from oms_trio.testing.simulation.invariants.audit import Auditor
from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.machine.clocks import JumpingClock
from oms_trio.testing.simulation.replayed import replay
from oms_trio.testing.simulation.setting import CONTEXT, draw
from oms_trio.testing.simulation.wire_trace import Tape
from oms_trio.testing.simulation.workload import BUSY, Pace
from oms_trio.testing.simulation.world import SECRETS, World, open_world

CONVERGENCE_S: Final = 240.0
"""Within this time after the last fault the service must be at rest: back-off of sessions (30 s),
a restart, look-ups past an order's expiry, and a check of the position each minute."""

STOP_S: Final = 5.0

SNAPSHOT_EVERY: Final = 400
COMPACT_EVERY_S: Final = 600.0

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
"""Thousands of commits a second are not for a disk."""


@attrs.frozen
class Plan:
    """What a run is made of; equal plans give equal runs."""

    seed: int
    hours: float = 1.0
    pace: Pace = BUSY


@attrs.frozen
class Report:
    """What came of a run."""

    plan: Plan
    violations: tuple[Violation, ...]
    journal: str
    """Hash over all records."""
    wire: str
    """Hash over all bytes, both ways."""
    coverage: Coverage
    counts: dict[str, int]
    virtual_s: float
    real_s: float


@attrs.define
class Logs:
    """Listens to what is logged; keeps counts, and whatever must not have been said."""

    events: dict[str, int] = attrs.Factory(dict)
    leaks: list[str] = attrs.Factory(list)

    def __call__(
        self,
        _logger: WrappedLogger,
        _method: str,
        event: MutableMapping[str, Any],
    ) -> NoReturn:
        """Take one log event and keep it from being written."""
        name = str(event.get("event"))
        self.events[name] = self.events.get(name, 0) + 1
        line = repr(event)
        if any(secret in line for secret in SECRETS):
            self.leaks.append(name)
        raise structlog.DropEvent


@contextmanager
def listening() -> Iterator[Logs]:
    """Hear every log event of the block, whatever its level."""
    logs = Logs()
    kept = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, logs],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    try:
        yield logs
    finally:
        structlog.configure(**kept)


@contextmanager
def scaled() -> Iterator[None]:
    """Let snapshots and compaction come often enough for runs of an hour.

    A real journal has twenty thousand records between snapshots, which is days of a calm run.
    """
    kept = trade_state.SNAPSHOT_EVERY, retention.EVERY_S
    trade_state.SNAPSHOT_EVERY, retention.EVERY_S = SNAPSHOT_EVERY, COMPACT_EVERY_S
    try:
        yield
    finally:
        trade_state.SNAPSHOT_EVERY, retention.EVERY_S = kept


def simulate(plan: Plan, trace: TextIO | None = None) -> Report:
    """Run a plan and say what came of it; nothing that the service does escapes."""
    began = time.perf_counter()
    where = _MEMORY if _MEMORY.is_dir() else None
    with (
        TemporaryDirectory(prefix="oms-trio-simulation-", dir=where) as folder,
        listening() as logs,
        scaled(),
        repeatable(plan.seed),
    ):
        run = _Run(plan, Path(folder), Tape(trace))
        try:
            trio.run(run.main, clock=JumpingClock())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            run.violations.append(Violation("crash", _first_line(error)))
    if logs.leaks:
        run.violations.append(Violation("6", f"a secret was logged with {logs.leaks[0]}"))
    return Report(
        plan=plan,
        violations=tuple(run.violations),
        journal=run.journal,
        wire=run.tape.digest,
        coverage=run.coverage,
        counts=run.counts,
        virtual_s=run.virtual_s,
        real_s=time.perf_counter() - began,
    )


@attrs.define
class _Run:
    plan: Plan
    folder: Path
    tape: Tape
    violations: list[Violation] = attrs.Factory(list)
    coverage: Coverage = attrs.Factory(Coverage)
    counts: dict[str, int] = attrs.Factory(dict)
    journal: str = ""
    virtual_s: float = 0.0

    async def main(self) -> None:
        """Let everything happen, then audit it."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            seed = self.plan.seed
            setting = draw(Random(f"setting {seed}"))  # noqa: S311 - a seed repeats it
            world = open_world(
                seed, self.folder, nursery, self.tape, setting=setting, pace=self.plan.pace
            )
            agent = Agent(world, Random(f"agent {seed}"))  # noqa: S311 - a seed repeats it
            nursery.start_soon(world.listen)
            nursery.start_soon(world.live)
            async with trio.open_nursery() as market:
                market.start_soon(world.move_market)
                await self._play(world, agent)
                await trio.sleep(10.0)
                market.cancel_scope.cancel()
            async with trio.open_nursery() as operating:
                duty = Random(f"late duty {seed}")  # noqa: S311 - likewise
                operating.start_soon(on_duty, world, duty)
                await self._settle(world)
                operating.cancel_scope.cancel()
            await self._end(world)
            self.virtual_s = trio.current_time() - began
            self._audit(world, agent)
            nursery.cancel_scope.cancel()

    async def _play(self, world: World, agent: Agent) -> None:
        """Hours of market with an agent and faults."""
        random = Random(f"strikes {self.plan.seed}")  # noqa: S311 - a seed repeats it
        with trio.move_on_after(self.plan.hours * 3600):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(agent.run)
                nursery.start_soon(on_duty, world, Random(f"duty {self.plan.seed}"))  # noqa: S311
                nursery.start_soon(strike_on, world, self.coverage, random)

    async def _settle(self, world: World) -> None:
        """Wait until the service holds what the exchange holds, and the agent was told."""
        why = unsettled(world)
        with trio.move_on_after(CONVERGENCE_S):
            while why:
                await trio.sleep(0.5)
                why = unsettled(world)
        if why:
            self.violations.append(Violation("rest", f"after {CONVERGENCE_S:.0f} s: {why}"))

    async def _end(self, world: World) -> None:
        """Stop the service, in time."""
        world.down = True
        life = world.life
        assert life is not None
        world.stop()
        asked = trio.current_time()
        with trio.move_on_after(60):
            await life.ended.wait()
        took = trio.current_time() - asked
        if took > STOP_S:
            self.violations.append(Violation("stop", f"it took {took:.1f} s to stop"))

    def _audit(self, world: World, agent: Agent) -> None:
        with Journal.open(world.room.journal) as journal:
            journal.verify()
            wanted = {life.recovered[0] for life in world.lives}
            read = replay(journal, world.rules, CONTEXT, wanted, world.room.archive)
        self.journal = read.digest
        self.violations += world.monitor.found
        self.violations += Auditor(world, agent.acts, read).audit()
        fills: list[Fill] = world.exchange.truth.fills()
        self.counts = {
            "actions": len(agent.acts),
            "orders": len(world.exchange.truth.orders()),
            "fills": len(fills),
            "trades": len(read.closed),
            "messages": len(world.heard),
            "lives": len(world.lives),
            "records": sum(world.arrivals.values()) - world.arrivals["tick"],
            "strikes": self.coverage.total(),
        }


def unsettled(world: World) -> str:
    """Say what is not at rest yet; nothing when all is."""
    state, life = world.state, world.life
    if state is None or life is None:
        return "no process"
    if not state.ready:
        return f"not ready: {state.sync.why}"
    if any(
        order.awaiting_ack or order.outcome_unknown or order.verify_before_send
        for order in state.orders
    ):
        return "orders without a known outcome"
    if state.orders.waiting:
        return "fills are missing"
    if state.book.position != world.exchange.engine.ledger.pos:
        return f"position {state.book.position}, not {world.exchange.engine.ledger.pos}"
    pending = {order.ord_id for order in world.exchange.engine.book.pending}
    if pending != {order.okx_order_id for order in state.orders}:
        return f"{len(state.orders)} orders open, not {len(pending)}"
    if state.expired:
        return f"{len(state.expired)} expired actions are not decided"
    if world.broker.depth:
        return f"{world.broker.depth} actions wait in the queue"
    if life.journal is not None and (waiting := life.journal.outbox_size()):
        return f"{waiting} messages are not published"
    return ""


def _first_line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
    return f"{type(error).__name__}: {error}{where}".splitlines()[0]
