"""How often time is told."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from oms_trio.core.effects import Readiness
from oms_trio.service.journaled_inputs import JournaledInput
from oms_trio.settings.clock import virtual_clock
from oms_trio.tasks.ticker import QUIET_S, SOON_S, Ticker
from tests.core.desk import START_NS, Desk


async def ticks_in(seconds: float, desk: Desk, *, stir_each_s: float | None = None) -> int:
    """Count the ticks while the state lives on, stirred now and then or not."""
    inbox, arrivals = trio.open_memory_channel[JournaledInput](1000)
    with inbox, arrivals:
        ticker = Ticker(inbox, desk.state, virtual_clock(START_NS))
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ticker.run)
                while stir_each_s is not None:
                    await trio.sleep(stir_each_s)
                    ticker.stir((Readiness(ready=True, why=""),))
        return arrivals.statistics().current_buffer_used


async def test_while_nothing_is_due_a_tick_is_a_beat_and_no_more(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.start()
    assert await ticks_in(30.1, desk) == 31 / QUIET_S


async def test_while_an_order_waits_for_its_answer_ticks_are_close(
    autojump_clock: MockClock,
) -> None:
    desk = Desk()
    desk.start()
    desk.act()
    assert await ticks_in(10.1, desk) == 41
    assert SOON_S == 0.25


async def test_whatever_has_an_effect_ends_the_quiet_at_once(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.start()
    assert await ticks_in(30.1, desk, stir_each_s=0.5) == 61


async def test_what_has_no_effect_leaves_the_quiet_alone(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.start()
    inbox, arrivals = trio.open_memory_channel[JournaledInput](1000)
    with inbox, arrivals:
        ticker = Ticker(inbox, desk.state, virtual_clock(START_NS))
        with trio.move_on_after(10.1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ticker.run)
                while True:
                    await trio.sleep(0.1)
                    ticker.stir(())
        assert arrivals.statistics().current_buffer_used == 11
