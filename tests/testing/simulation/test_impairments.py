"""How long nothing has been impaired in a run."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from oms_trio.testing.simulation.impairments import Impairment, Impairments

HOUR = 3600.0


async def test_unimpaired_time_counts_from_the_end_of_the_last_impairment(
    autojump_clock: MockClock,
) -> None:
    assert autojump_clock.autojump_threshold == 0
    impairments = Impairments()
    await trio.sleep(HOUR)
    began = trio.current_time()
    with impairments.during([Impairment.REST], after_s=5):
        assert impairments.unimpaired_for([Impairment.REST]) < 0
        assert impairments.unimpaired_for([Impairment.LINK]) >= HOUR
        await trio.sleep(10)
    await impairments.wait_unimpaired([Impairment.REST, Impairment.LINK], 20)
    assert trio.current_time() == pytest.approx(began + 35, abs=1)
