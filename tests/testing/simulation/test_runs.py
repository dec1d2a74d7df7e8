"""Hours of market with faults: a fixed set of seeds, and some that nobody has seen before."""

from __future__ import annotations

import secrets

import pytest

from oms_trio.testing.simulation.mutants.hunting import MUTANTS, hunt
from oms_trio.testing.simulation.mutants.making import find
from oms_trio.testing.simulation.one_run import Plan, simulate
from tests.testing.simulation.fixed import HOURS, SEEDS

FRESH = [secrets.randbelow(1_000_000_000) for _ in range(2)]
"""``./scripts/simulate --first SEED --seeds 1 --hours 0.25`` repeats one that fails."""


@pytest.mark.parametrize("seed", [*SEEDS, *FRESH])
def test_nothing_breaks(seed: int) -> None:
    report = simulate(Plan(seed, HOURS))
    assert report.violations == (), (
        f"again: ./scripts/simulate --first {seed} --seeds 1 --hours {HOURS}"
    )
    assert report.counts["strikes"] > 5


@pytest.mark.parametrize(
    "name",
    [
        "a new clOrdId at every try",
        "a state change that no record tells",
        "the login written to the log",
    ],
)
def test_a_broken_service_is_caught(name: str) -> None:
    """Some of the mutants; ``./scripts/simulate --mutants`` hunts all of them."""
    assert hunt(MUTANTS[name], range(5), hours=0.1) is not None


def test_after_a_mutant_the_service_is_sound_again() -> None:
    mutant = MUTANTS["unknown is taken for refused"]
    owner, name = find(mutant.place)
    sound = getattr(owner, name)
    with mutant.alive():
        assert getattr(owner, name) is not sound
    assert getattr(owner, name) is sound


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_has_a_place_to_break(name: str) -> None:
    with MUTANTS[name].alive():
        pass
