"""Services that are broken on purpose: a simulation that lets one live proves nothing.

Each mutant replaces one function by a version with a mistake that somebody has made, here or
elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.mutants import broken, situations
from oms_trio.testing.simulation.mutants.making import Mutant
from oms_trio.testing.simulation.one_run import Plan, Report, simulate
from oms_trio.testing.simulation.workload import HARSH

HOURS: Final = 0.4
SEEDS: Final = 100
"""A mutant that this many runs let live is one that we do not catch."""

MUTANTS: Final[dict[str, Mutant]] = {**broken.MUTANTS, **situations.MUTANTS}


@attrs.frozen
class Catch:
    """How a mutant was caught: in which of the runs, and by what."""

    runs: int
    violation: Violation
    report: Report


def hunt(mutant: Mutant, seeds: Sequence[int], hours: float = HOURS) -> Catch | None:
    """Run seed after seed until an invariant breaks; None when the mutant outlives them."""
    with mutant.alive():
        for runs, seed in enumerate(seeds, start=1):
            report = simulate(Plan(seed, hours, HARSH))
            if report.violations:
                return Catch(runs, report.violations[0], report)
    return None
