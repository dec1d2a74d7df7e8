"""Hours of market with faults: a fixed set of seeds, and some that are new in every test run."""

from __future__ import annotations

import inspect
import secrets

import pytest

from oms_trio.testing.simulation.mutants.hunting import MUTANTS, hunt
from oms_trio.testing.simulation.mutants.mutant import find
from oms_trio.testing.simulation.one_run import RunPlan, simulate
from tests.testing.simulation.fixed_seeds import HOURS, SEEDS

FRESH = [secrets.randbelow(1_000_000_000) for _ in range(2)]
"""``./scripts/simulate --first SEED --seeds 1 --hours 0.25`` repeats one that fails."""


@pytest.mark.parametrize("seed", [*SEEDS, *FRESH])
def test_no_invariant_breaks(seed: int) -> None:
    report = simulate(RunPlan(seed, HOURS))
    assert report.violations == (), (
        f"repeat with ./scripts/simulate --first {seed} --seeds 1 --hours {HOURS}"
    )
    assert report.counts["faults"] > 5


@pytest.mark.parametrize(
    "name",
    [
        "a new clOrdId at every try",
        "a state change without a record",
        "the login written to the log",
    ],
)
def test_broken_service_is_caught(name: str) -> None:
    """Some of the mutants; ``./scripts/simulate --mutants`` hunts all of them."""
    assert hunt(MUTANTS[name], range(5), hours=0.1) is not None


def test_service_is_restored_after_a_mutant() -> None:
    mutant = MUTANTS["an unknown outcome counts as rejected"]
    owner, name = find(mutant.place)
    original = getattr(owner, name)
    with mutant.applied():
        assert getattr(owner, name) is not original
    assert getattr(owner, name) is original


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_takes_the_arguments_of_what_it_replaces(name: str) -> None:
    """Else it would crash at its first call, and be caught for that alone."""
    mutant = MUTANTS[name]
    owner, attribute = find(mutant.place)
    original = vars(owner)[attribute]
    broken = mutant.make(original)
    if not inspect.isfunction(original):
        return
    parameters = inspect.signature(original).parameters.values()
    named = {one.name: object() for one in parameters if one.kind is one.KEYWORD_ONLY}
    placed = [object() for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    inspect.signature(broken).bind(*placed, **named)


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_replaces_something_that_exists(name: str) -> None:
    with MUTANTS[name].applied():
        pass
