"""When time matters to the trading state, and when the ticker may leave it in peace."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core.events import Tick
from oms_trio.core.model import Side
from oms_trio.core.state import TradeState
from oms_trio.service.state_codec import decode_state, encode_state
from tests.core.desk import RULES, SECOND, Desk
from tests.core.venue import Venue


@given(seed=st.integers(0, 2**32), steps=st.integers(0, 80), ahead=st.floats(0, 90))
def test_a_tick_before_the_end_of_the_quiet_changes_nothing(
    seed: int, steps: int, ahead: float
) -> None:
    venue = Venue(Random(seed), Desk(TradeState(attrs.evolve(RULES, max_order_age_ns=SECOND * 30))))
    venue.begin()
    for _ in range(steps):
        venue.step()
    at_ns = venue.desk.now + round(ahead * SECOND)
    before = encode_state(venue.desk.state)
    if venue.desk.state.quiet_until(at_ns):
        state = decode_state(before)
        assert state.apply(Tick(), at_ns) == ()
        assert encode_state(state) == before


def test_a_resting_order_is_quiet_until_it_grows_old_or_a_check_is_due() -> None:
    desk = Desk(TradeState(attrs.evolve(RULES, max_order_age_ns=20 * SECOND)))
    desk.start()
    assert desk.state.quiet_until(desk.now + 59 * SECOND)
    assert not desk.state.quiet_until(desk.now + 60 * SECOND)
    desk.place("A", Side.BUY, "2")
    assert desk.state.quiet_until(desk.now + 19 * SECOND)
    assert not desk.state.quiet_until(desk.now + 21 * SECOND)


@pytest.mark.parametrize("pos", ["1", "-3"])
def test_a_position_that_differs_ends_the_quiet(pos: str) -> None:
    desk = Desk()
    desk.start()
    assert desk.state.book.position == 0 != Decimal(pos)
    desk.position(pos)
    assert not desk.state.quiet_until(desk.now + 4 * SECOND)


def test_an_order_without_an_answer_is_never_quiet() -> None:
    desk = Desk()
    desk.start()
    desk.act()
    assert not desk.state.quiet_until(desk.now)
