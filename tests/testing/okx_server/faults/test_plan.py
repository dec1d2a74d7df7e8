"""Fault plans: drawn from a seed, printable, the same every time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from oms_trio.testing.okx_server.faults.catalog import FAULT_SPECS
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.faults.plan import ON_REQUEST, FaultPlan, even_rates, run_plan
from tests.testing.okx_server.clients import START_MS, live_exchange

RATES = st.dictionaries(st.sampled_from(FaultKind), st.floats(0, 20), max_size=5)


@given(st.integers(), RATES, st.floats(0, 300), st.floats(0, 100))
def test_a_plan_repeats_and_keeps_to_its_window_and_catalog(
    seed: int, rates: dict[FaultKind, float], window_s: float, start_s: float
) -> None:
    plan = FaultPlan(seed, rates, window_s, start_s)
    events = plan.events()
    assert events == FaultPlan(seed, rates, window_s, start_s).events()
    assert [each.at_s for each in events] == sorted(each.at_s for each in events)
    for each in events:
        spec = FAULT_SPECS[each.kind]
        assert start_s - 0.001 <= each.at_s <= start_s + window_s + 0.001
        assert spec.times[0] <= each.times <= spec.times[1]
        assert spec.duration_s[0] <= each.duration_s <= spec.duration_s[1]
        assert each.code in spec.codes


def test_another_kind_leaves_the_times_of_the_others_as_they_were() -> None:
    few = FaultPlan(3, {FaultKind.CUT: 2.0}, 600).events()
    more = FaultPlan(3, {FaultKind.STALL: 5.0, FaultKind.CUT: 2.0}, 600).events()
    assert few
    assert [each for each in more if each.kind is FaultKind.CUT] == few


def test_the_number_of_events_follows_the_rate() -> None:
    events = FaultPlan(1, even_rates(10), 60_000).events()
    assert abs(len(events) - 10_000) < 500
    assert {each.kind for each in events} == set(FaultKind) - ON_REQUEST


def test_a_plan_prints_all_of_its_events() -> None:
    plan = FaultPlan(7, {FaultKind.SLOW: 3.0, FaultKind.REJECT_LOGIN: 3.0}, 60)
    printed = str(plan)
    assert printed.startswith("fault plan, seed 7\n")
    assert len(printed.splitlines()) == 1 + len(plan.events())
    line = str(FaultEvent(FaultKind.SLOW, at_s=1.5, duration_s=2, delay_s=0.25))
    assert line == "     1.500 s  slow               for 2.000 s by 0.250 s"


async def test_a_plan_is_run_at_its_times(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    plan = FaultPlan(5, even_rates(60), 20)
    await run_plan(exchange, plan)
    ran = [(each.kind, each.times, each.code) for each in exchange.injected]
    assert ran == [(each.kind, each.times, each.code) for each in plan.events()]
    skewed = {each.kind for each in plan.events()} & {FaultKind.CLOCK_SKEW, FaultKind.CLOCK_DRIFT}
    if not skewed:
        for noted, each in zip(exchange.injected, plan.events(), strict=True):
            assert abs(noted.at_s - START_MS / 1000 - each.at_s) < 0.002
