"""A seed is a run: the same again in another process, another run for another seed."""

from __future__ import annotations

import os

import pytest
import trio

from oms_trio.testing.simulation import determinism
from oms_trio.testing.simulation.batch import fingerprint
from oms_trio.testing.simulation.determinism import (
    SchedulerChangedError,
    check_scheduler,
    repeatable,
)
from oms_trio.testing.simulation.one_run import Plan, simulate
from tests.testing.simulation.fixed import HOURS, SEEDS

A_MOMENT = 0.04
"""Hours: enough to tell runs apart."""


def test_trio_still_orders_tasks_by_a_seed() -> None:
    check_scheduler()


def test_a_release_of_trio_without_the_hooks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(determinism._RUN, "_r")
    with pytest.raises(SchedulerChangedError, match=trio.__version__):
        check_scheduler()


def test_a_release_of_trio_that_ignores_the_seed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(determinism, "_order_of_tasks", lambda _seed: (1, 2, 3))
    with pytest.raises(SchedulerChangedError, match="seed"):
        check_scheduler()


def test_random_bytes_are_real_again_after_a_run() -> None:
    real = os.urandom
    with repeatable(1):
        first = os.urandom(8)
    with repeatable(1):
        assert os.urandom(8) == first
    assert os.urandom is real


@pytest.mark.parametrize("seed", [1, 2, 3, *SEEDS])
def test_seed_gives_journal_and_wire_byte_by_byte_in_fresh_processes(seed: int) -> None:
    """Two processes whose hashes, and so the order of their sets, differ."""
    plan = Plan(seed, HOURS)
    assert fingerprint(plan, hash_seed=1) == fingerprint(plan, hash_seed=2)


def test_what_ran_before_in_a_process_does_not_matter() -> None:
    first = simulate(Plan(7, A_MOMENT))
    simulate(Plan(8, A_MOMENT))
    again = simulate(Plan(7, A_MOMENT))
    assert (again.journal, again.wire) == (first.journal, first.wire)
    assert again.counts == first.counts


def test_another_seed_is_another_run() -> None:
    assert simulate(Plan(1, A_MOMENT)).wire != simulate(Plan(2, A_MOMENT)).wire
