"""Many runs over all cores: each in a process of its own kind of luck, all repeatable."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Final

import msgspec

from oms_trio.testing.simulation.mutants.hunting import HOURS, MUTANTS, Catch, hunt
from oms_trio.testing.simulation.one_run import Plan, Report, simulate

AHEAD: Final = 4
"""Runs handed out per process before one is back; millions of seeds need no list."""


def run_many(plans: Iterator[Plan], processes: int) -> Iterator[Report]:
    """Run plans side by side and give reports as they come."""
    with _pool(processes) as pool:
        running: set[Future[Report]] = set()
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
) -> Iterator[tuple[str, Catch | None]]:
    """Hunt mutants side by side and tell of each as it is caught, or was not."""
    with _pool(processes) as pool:
        running = {pool.submit(_hunt, name, seeds, hours): name for name in names}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()


def _hunt(name: str, seeds: Sequence[int], hours: float) -> Catch | None:
    # By name: what a mutant breaks, a module or a class, cannot be sent to another process.
    return hunt(MUTANTS[name], seeds, hours)


def fingerprint(plan: Plan, hash_seed: int) -> tuple[str, str]:
    """Run a plan in a new process with its own hash seed; returns journal's and wire's digests."""
    command = [sys.executable, "-m", "oms_trio.testing.simulation", "--fingerprint"]
    command += ["--first", str(plan.seed), "--hours", str(plan.hours)]
    command += ["--pace", plan.pace.name]
    environ = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    told = subprocess.run(command, env=environ, capture_output=True, check=True).stdout  # noqa: S603 - our own module
    journal, wire = msgspec.json.decode(told, type=tuple[str, str])
    return journal, wire


def _pool(processes: int) -> ProcessPoolExecutor:
    # Nothing of the parent is inherited: a run must not depend on what ran before it.
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
