"""Fault plans: drawn from a seed, printable, the same every time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from oms_trio.testing.okx_server.faults.catalog import MENU
from oms_trio.testing.okx_server.faults.plan import ON_REQUEST, FaultPlan, evenly, play
from oms_trio.testing.okx_server.faults.specs import Kind, Strike
from tests.testing.okx_server.clients import START_MS, live_exchange

RATES = st.dictionaries(st.sampled_from(Kind), st.floats(0, 20), max_size=5)


@given(st.integers(), RATES, st.floats(0, 300), st.floats(0, 100))
def test_a_plan_repeats_and_keeps_to_its_window_and_menu(
    seed: int, rates: dict[Kind, float], window_s: float, start_s: float
) -> None:
    plan = FaultPlan(seed, rates, window_s, start_s)
    strikes = plan.strikes()
    assert strikes == FaultPlan(seed, rates, window_s, start_s).strikes()
    assert [each.at_s for each in strikes] == sorted(each.at_s for each in strikes)
    for each in strikes:
        dish = MENU[each.kind]
        assert start_s - 0.001 <= each.at_s <= start_s + window_s + 0.001
        assert dish.times[0] <= each.times <= dish.times[1]
        assert dish.lasts_s[0] <= each.lasts_s <= dish.lasts_s[1]
        assert each.code in dish.codes


def test_one_kind_more_leaves_the_others_where_they_were() -> None:
    few = FaultPlan(3, {Kind.CUT: 2.0}, 600).strikes()
    more = FaultPlan(3, {Kind.STALL: 5.0, Kind.CUT: 2.0}, 600).strikes()
    assert few
    assert [each for each in more if each.kind is Kind.CUT] == few


def test_the_rate_is_what_comes_out() -> None:
    strikes = FaultPlan(1, evenly(10), 60_000).strikes()
    assert abs(len(strikes) - 10_000) < 500
    assert {each.kind for each in strikes} == set(Kind) - ON_REQUEST


def test_a_plan_prints_all_that_it_will_do() -> None:
    plan = FaultPlan(7, {Kind.SLOW: 3.0, Kind.LOGIN: 3.0}, 60)
    printed = str(plan)
    assert printed.startswith("fault plan, seed 7\n")
    assert len(printed.splitlines()) == 1 + len(plan.strikes())
    line = str(Strike(Kind.SLOW, at_s=1.5, lasts_s=2, delay_s=0.25))
    assert line == "     1.500 s  slow               for 2.000 s by 0.250 s"


async def test_a_plan_is_played_at_its_times(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    plan = FaultPlan(5, evenly(60), 20)
    await play(exchange, plan)
    played = [(each.kind, each.times, each.code) for each in exchange.struck]
    assert played == [(each.kind, each.times, each.code) for each in plan.strikes()]
    skewed = {each.kind for each in plan.strikes()} & {Kind.CLOCK, Kind.CLOCK_DRIFT}
    if not skewed:
        for noted, each in zip(exchange.struck, plan.strikes(), strict=True):
            assert abs(noted.at_s - START_MS / 1000 - each.at_s) < 0.002
