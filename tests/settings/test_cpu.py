"""Threads are kept on one processor during the block only."""

from __future__ import annotations

import os
import threading

import pytest

from oms_trio.settings.cpu import one_cpu

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system has no affinities"
)


def test_threads_started_inside_share_one_of_the_allowed_processors() -> None:
    before = os.sched_getaffinity(0)
    seen: list[set[int]] = []
    with one_cpu():
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
        assert seen == [os.sched_getaffinity(0)]
    (one,) = seen
    assert len(one) == 1
    assert one <= before
    assert os.sched_getaffinity(0) == before


def test_leaving_by_an_error_lets_go_too() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(LookupError), one_cpu():
        raise LookupError
    assert os.sched_getaffinity(0) == before


def test_a_sandbox_that_forbids_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_pid: int, _mask: object) -> None:
        raise PermissionError("seccomp")

    before = os.sched_getaffinity(0)
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    with one_cpu():
        assert os.sched_getaffinity(0) == before
