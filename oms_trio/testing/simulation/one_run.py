"""One run from its seed: hours of market with faults, then convergence, a stop and the audit."""

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
from oms_trio.testing.okx_server.values import ExchangeFill
from oms_trio.testing.simulation.coverage import Coverage
from oms_trio.testing.simulation.determinism import repeatable
from oms_trio.testing.simulation.faults.account import on_duty
from oms_trio.testing.simulation.faults.catalog import inject_faults
from oms_trio.testing.simulation.invariants.at_rest import CONVERGENCE_S, why_not_at_rest
from oms_trio.testing.simulation.invariants.audit import Auditor
from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.machine.clocks import JumpingClock
from oms_trio.testing.simulation.random_agent import RandomAgent
from oms_trio.testing.simulation.replayed import replay
from oms_trio.testing.simulation.run_settings import CONTEXT, draw_settings
from oms_trio.testing.simulation.wire_trace import WireTrace
from oms_trio.testing.simulation.workload import BUSY, Workload
from oms_trio.testing.simulation.world import SECRETS, SimulatedWorld, open_world

STOP_S: Final = 5.0
"""An orderly stop takes this long at most."""

SNAPSHOT_EVERY: Final = 400
COMPACT_EVERY_S: Final = 600.0

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
"""The journal is in memory: a disk cannot do thousands of commits a second."""


@attrs.frozen
class RunPlan:
    """What decides a run; equal plans give equal runs, byte by byte."""

    seed: int
    hours: float = 1.0
    workload: Workload = BUSY


@attrs.frozen
class RunReport:
    """The result of a run."""

    plan: RunPlan
    violations: tuple[Violation, ...]
    journal: str
    """Hash over all records."""
    wire: str
    """Hash over all bytes on the wire, in both directions."""
    coverage: Coverage
    counts: dict[str, int]
    virtual_s: float
    real_s: float


@attrs.define
class CapturedLogs:
    """Takes log events instead of their being written; names those that contain a secret."""

    leaks: list[str] = attrs.Factory(list)

    def __call__(
        self,
        _logger: WrappedLogger,
        _method: str,
        event: MutableMapping[str, Any],
    ) -> NoReturn:
        """Check one log event and drop it."""
        line = repr(event)
        if any(secret in line for secret in SECRETS):
            self.leaks.append(str(event.get("event")))
        raise structlog.DropEvent


@contextmanager
def captured_logs() -> Iterator[CapturedLogs]:
    """Take every log event of the block, whatever its level."""
    logs = CapturedLogs()
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
def scaled_down() -> Iterator[None]:
    """Make snapshots and compaction frequent enough for runs of an hour.

    A real journal has twenty thousand records between snapshots, which takes days in a calm run.
    """
    kept = trade_state.SNAPSHOT_EVERY, retention.EVERY_S
    trade_state.SNAPSHOT_EVERY, retention.EVERY_S = SNAPSHOT_EVERY, COMPACT_EVERY_S
    try:
        yield
    finally:
        trade_state.SNAPSHOT_EVERY, retention.EVERY_S = kept


def simulate(plan: RunPlan, trace: TextIO | None = None) -> RunReport:
    """Carry out a plan and report the result; whatever the service raises becomes a violation.

    ``trace`` gets everything on the wire as text.
    """
    began = time.perf_counter()
    where = _MEMORY if _MEMORY.is_dir() else None
    with (
        TemporaryDirectory(prefix="oms-trio-simulation-", dir=where) as folder,
        captured_logs() as logs,
        scaled_down(),
        repeatable(plan.seed),
    ):
        run = _Run(plan, Path(folder), WireTrace(trace))
        try:
            trio.run(run.main, clock=JumpingClock())
        except Exception as error:  # noqa: BLE001 - any error is a finding
            run.violations.append(Violation("crash", _first_line(error)))
    if logs.leaks:
        run.violations.append(Violation("6", f"a secret was logged with {logs.leaks[0]}"))
    return RunReport(
        plan=plan,
        violations=tuple(run.violations),
        journal=run.journal,
        wire=run.trace.digest,
        coverage=run.coverage,
        counts=run.counts,
        virtual_s=run.virtual_s,
        real_s=time.perf_counter() - began,
    )


@attrs.define
class _Run:
    plan: RunPlan
    folder: Path
    trace: WireTrace
    violations: list[Violation] = attrs.Factory(list)
    coverage: Coverage = attrs.Factory(Coverage)
    counts: dict[str, int] = attrs.Factory(dict)
    journal: str = ""
    virtual_s: float = 0.0

    async def main(self) -> None:
        """Do everything that a run consists of."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            seed = self.plan.seed
            settings = draw_settings(Random(f"setting {seed}"))  # noqa: S311 - a seed repeats it
            world = open_world(
                seed,
                self.folder,
                nursery,
                self.trace,
                settings=settings,
                workload=self.plan.workload,
            )
            agent = RandomAgent(world, Random(f"agent {seed}"))  # noqa: S311 - a seed repeats it
            nursery.start_soon(world.receive_messages)
            nursery.start_soon(world.supervise)
            async with trio.open_nursery() as market:
                market.start_soon(world.market.run)
                await self._trade(world, agent)
                await trio.sleep(10.0)
                market.cancel_scope.cancel()
            async with trio.open_nursery() as operating:
                duty = Random(f"late duty {seed}")  # noqa: S311 - likewise
                operating.start_soon(on_duty, world, duty)
                await self._converge(world)
                operating.cancel_scope.cancel()
            await self._stop(world)
            self.virtual_s = trio.current_time() - began
            self._audit(world, agent)
            nursery.cancel_scope.cancel()

    async def _trade(self, world: SimulatedWorld, agent: RandomAgent) -> None:
        """Let agent, operator and faults act for the hours of the plan."""
        # The text in a generator's seed is part of what a seed means: it does not change.
        random = Random(f"strikes {self.plan.seed}")  # noqa: S311 - a seed repeats it
        with trio.move_on_after(self.plan.hours * 3600):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(agent.run)
                nursery.start_soon(on_duty, world, Random(f"duty {self.plan.seed}"))  # noqa: S311
                nursery.start_soon(inject_faults, world, self.coverage, random)

    async def _converge(self, world: SimulatedWorld) -> None:
        """Wait until the service agrees with the exchange and has published everything."""
        why = why_not_at_rest(world)
        with trio.move_on_after(CONVERGENCE_S):
            while why:
                await trio.sleep(0.5)
                why = why_not_at_rest(world)
        if why:
            self.violations.append(
                Violation("rest", f"{CONVERGENCE_S:.0f} s without a fault, and still {why}")
            )

    async def _stop(self, world: SimulatedWorld) -> None:
        """Stop the service, which must not take long."""
        world.keep_down = True
        process = world.process
        assert process is not None
        world.stop()
        began = trio.current_time()
        with trio.move_on_after(60):
            await process.ended.wait()
        took = trio.current_time() - began
        if took > STOP_S:
            self.violations.append(
                Violation("stop", f"the stop took {took:.1f} s, and may take {STOP_S:.0f} s")
            )

    def _audit(self, world: SimulatedWorld, agent: RandomAgent) -> None:
        with Journal.open(world.disk.journal) as journal:
            journal.verify()
            wanted = {process.recovered[0] for process in world.processes}
            read = replay(journal, world.rules, CONTEXT, wanted, world.disk.archive)
        self.journal = read.digest
        self.violations += world.monitor.found
        self.violations += Auditor(world, agent.published, read).audit()
        fills: list[ExchangeFill] = world.exchange.ground_truth.fills()
        self.counts = {
            "actions": len(agent.published),
            "orders": len(world.exchange.ground_truth.orders()),
            "fills": len(fills),
            "trades": len(read.closed),
            "messages": len(world.received),
            "processes": len(world.processes),
            "records": sum(world.inputs.values()) - world.inputs["tick"],
            "faults": self.coverage.total(),
        }


def _first_line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
    return f"{type(error).__name__}: {error}{where}".splitlines()[0]
