"""The service's clock is set once, and not affected by the wall clock afterwards."""

from __future__ import annotations

from oms_trio.settings.clock import NS, elapsed_ns, service_clock

NOON = 1_790_000_000 * NS


def test_setting_the_wall_clock_has_no_effect() -> None:
    wall, elapsed = [NOON], [5 * NS]
    clock = service_clock(wall=lambda: wall[0], elapsed=lambda: elapsed[0])
    assert clock() == NOON
    wall[0] -= 600 * NS
    elapsed[0] += 2 * NS
    assert clock() == NOON + 2 * NS
    wall[0] += 7200 * NS
    assert clock() == NOON + 2 * NS


def test_time_goes_on_from_the_last_record_of_an_earlier_process() -> None:
    """The wall clock was set back by ten minutes while the service was down."""
    clock = service_clock(NOON + 600 * NS, wall=lambda: NOON, elapsed=lambda: 0)
    assert clock() == NOON + 600 * NS


def test_elapsed_time_grows() -> None:
    assert elapsed_ns() <= elapsed_ns()
