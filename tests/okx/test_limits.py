"""Rate limits before sending."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from oms_trio.okx.rate_limits import Limiter, Window

# Quarters of a second are exact floats, so that the edges of the window are met exactly.
QUARTERS = st.integers(0, 12).map(lambda quarters: quarters / 4)
STEPS = st.lists(st.tuples(QUARTERS, st.integers(1, 5)), max_size=60)


@given(STEPS)
def test_no_period_has_more_requests_than_the_limit(steps: list[tuple[float, int]]) -> None:
    window, now = Window(5, 2.0), 0.0
    sent: list[float] = []
    for wait, n in steps:
        now += wait
        sent += [window.reserve(now, n)] * n
    assert all(earlier <= later for earlier, later in pairwise(sent))
    for index, slot in enumerate(sent[5:]):
        assert slot >= sent[index] + 2.0


@given(STEPS)
def test_no_request_waits_while_the_window_has_space(steps: list[tuple[float, int]]) -> None:
    window, now = Window(5, 2.0), 0.0
    sent: list[float] = []
    for wait, n in steps:
        now += wait
        slot = window.reserve(now, n)
        if slot > now:
            # A moment earlier the window was too full, or the one before had not gone yet.
            inside = [other for other in sent if other >= slot - 2.0]
            assert len(inside) + n > 5 or sent[-1] == slot
        sent += [slot] * n


def test_more_than_the_limit_at_once_is_a_bug() -> None:
    for n in (0, 6):
        with pytest.raises(ValueError, match="limit of 5"):
            Window(5, 2.0).reserve(0.0, n)


async def test_the_next_request_is_sent_when_the_oldest_leaves_the_window(
    autojump_clock: MockClock,
) -> None:
    limiter = Limiter(60, 2.0)
    for _ in range(60):
        await limiter.acquire()
    assert trio.current_time() == 0.0
    assert limiter.ready_in() == 2.0
    await limiter.acquire()
    assert trio.current_time() == 2.0
    assert autojump_clock.current_time() == 2.0
    assert limiter.ready_in() == 0.0


async def test_slots_are_assigned_in_the_order_of_the_calls(autojump_clock: MockClock) -> None:
    limiter = Limiter(2, 2.0)
    order: list[tuple[str, float]] = []

    async def take(name: str, n: int) -> None:
        await limiter.acquire(n)
        order.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for name, n in (("one", 1), ("pair", 2), ("last", 1)):
            nursery.start_soon(take, name, n)
            await trio.testing.wait_all_tasks_blocked()
    assert order == [("one", 0.0), ("pair", 2.0), ("last", 4.0)]
    assert autojump_clock.current_time() == 4.0


async def test_a_cancelled_wait_never_admits_more_requests(autojump_clock: MockClock) -> None:
    limiter = Limiter(1, 2.0)
    await limiter.acquire()
    with trio.move_on_after(0.5) as scope:
        await limiter.acquire()
    assert scope.cancelled_caught
    await limiter.acquire()
    assert autojump_clock.current_time() == 4.0
