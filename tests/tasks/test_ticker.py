"""How often ticks are sent."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from oms_trio.core.effects import Readiness
from oms_trio.service.journaled_inputs import TICK, JournaledInput
from oms_trio.settings.clock import virtual_clock
from oms_trio.tasks.ticker import QUIET_S, SOON_S, Ticker
from tests.core.desk import START_NS, Desk


async def ticks_in(seconds: float, desk: Desk, *, effect_each_s: float | None = None) -> int:
    """Count the ticks, while now and then an input has an effect or not."""
    inbox, arrivals = trio.open_memory_channel[JournaledInput](1000)
    with inbox, arrivals:
        ticker = Ticker(inbox, desk.state, virtual_clock(START_NS))
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ticker.run)
                while effect_each_s is not None:
                    await trio.sleep(effect_each_s)
                    ticker.observe(TICK, (Readiness(ready=True, why=""),), desk.state)
        return arrivals.statistics().current_buffer_used


async def test_while_nothing_is_due_ticks_come_once_a_second(autojump_clock: MockClock) -> None:
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


async def test_an_effect_ends_the_quiet_at_once(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.start()
    assert await ticks_in(30.1, desk, effect_each_s=0.5) == 61


async def test_an_input_without_effect_leaves_the_quiet_alone(autojump_clock: MockClock) -> None:
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
                    ticker.observe(TICK, (), desk.state)
        assert arrivals.statistics().current_buffer_used == 11
