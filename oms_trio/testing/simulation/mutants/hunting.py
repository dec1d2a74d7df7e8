"""Services that are broken on purpose: invariants that catch no mistake would prove nothing.

Each mutant replaces one function with a version that has a mistake which somebody has made, here or
elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.mutants import data_path, past_defects
from oms_trio.testing.simulation.mutants.mutant import Mutant
from oms_trio.testing.simulation.one_run import RunPlan, simulate
from oms_trio.testing.simulation.workload import HARSH

HOURS: Final = 0.4
SEEDS: Final = 100
"""A mutant that survives so many runs counts as not caught."""

MUTANTS: Final[dict[str, Mutant]] = {**data_path.MUTANTS, **past_defects.MUTANTS}


@attrs.frozen
class CaughtMutant:
    """In how many runs a mutant was caught, and by which violation."""

    runs: int
    violation: Violation


def hunt(mutant: Mutant, seeds: Sequence[int], hours: float = HOURS) -> CaughtMutant | None:
    """Run seed after seed until an invariant breaks; None when none does."""
    with mutant.applied():
        for runs, seed in enumerate(seeds, start=1):
            report = simulate(RunPlan(seed, hours, HARSH))
            if report.violations:
                return CaughtMutant(runs, report.violations[0])
    return None
