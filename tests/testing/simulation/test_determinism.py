"""Equal seeds give equal runs, also in another process; other seeds give other runs."""

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
from oms_trio.testing.simulation.one_run import RunPlan, simulate
from tests.testing.simulation.fixed_seeds import HOURS, SEEDS

SHORT = 0.04
"""Hours: enough for two runs to differ."""


def test_trio_still_orders_tasks_by_a_seed() -> None:
    check_scheduler()


def test_trio_release_without_the_private_names_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(determinism._RUN, "_r")
    with pytest.raises(SchedulerChangedError, match=trio.__version__):
        check_scheduler()


def test_trio_release_that_ignores_the_seed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_seed_gives_equal_journal_and_wire_in_new_processes(seed: int) -> None:
    """The hash seeds of the processes, and so the order of their sets, differ."""
    plan = RunPlan(seed, HOURS)
    assert fingerprint(plan, hash_seed=1) == fingerprint(plan, hash_seed=2)


def test_run_does_not_depend_on_what_ran_before_in_its_process() -> None:
    first = simulate(RunPlan(7, SHORT))
    simulate(RunPlan(8, SHORT))
    again = simulate(RunPlan(7, SHORT))
    assert (again.journal, again.wire) == (first.journal, first.wire)
    assert again.counts == first.counts


def test_another_seed_is_another_run() -> None:
    assert simulate(RunPlan(1, SHORT)).wire != simulate(RunPlan(2, SHORT)).wire
