"""Many runs over all cores, each in a separate process."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Final

import msgspec

from oms_trio.testing.simulation.mutants.hunting import HOURS, MUTANTS, CaughtMutant, hunt
from oms_trio.testing.simulation.one_run import RunPlan, RunReport, simulate

AHEAD: Final = 4
"""Runs queued per process: enough to keep it busy, with millions of seeds to go."""


def run_many(plans: Iterator[RunPlan], processes: int) -> Iterator[RunReport]:
    """Run plans in parallel and yield each report as it is finished."""
    with _pool(processes) as pool:
        running: set[Future[RunReport]] = set()
        while True:
            while len(running) < processes * AHEAD and (plan := next(plans, None)) is not None:
                running.add(pool.submit(simulate, plan))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def hunt_all(
    names: Sequence[str], seeds: Sequence[int], processes: int, hours: float = HOURS
) -> Iterator[tuple[str, CaughtMutant | None]]:
    """Hunt mutants in parallel and yield each name with how it was caught; None when it was not."""
    with _pool(processes) as pool:
        running = {pool.submit(_hunt, name, seeds, hours): name for name in names}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()


def _hunt(name: str, seeds: Sequence[int], hours: float) -> CaughtMutant | None:
    # By name, as a mutant's functions cannot be sent to another process.
    return hunt(MUTANTS[name], seeds, hours)


def fingerprint(plan: RunPlan, hash_seed: int) -> tuple[str, str]:
    """Run a plan in a new process with this hash seed; return the digests of journal and wire."""
    command = [sys.executable, "-m", "oms_trio.testing.simulation", "--fingerprint"]
    command += ["--first", str(plan.seed), "--hours", str(plan.hours)]
    command += ["--workload", plan.workload.name]
    environ = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    output = subprocess.run(command, env=environ, capture_output=True, check=True).stdout  # noqa: S603 - our own module
    journal, wire = msgspec.json.decode(output, type=tuple[str, str])
    return journal, wire


def _pool(processes: int) -> ProcessPoolExecutor:
    # Spawned, so that a run inherits nothing from what ran before it in this process.
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
