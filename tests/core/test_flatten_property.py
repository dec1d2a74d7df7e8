"""Whatever happens around a kill or a flatten, nothing new goes out and in the end nothing is open."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core.effects import PlaceOrder
from oms_trio.core.events import Command, Verb
from tests.core.venue import Venue


@pytest.mark.parametrize("verb", [Verb.KILL, Verb.FLATTEN])
@given(seed=st.integers(0, 2**32), before=st.integers(0, 60), after=st.integers(0, 60))
def test_in_the_end_nothing_is_open_and_nothing_new_went_out(
    verb: Verb, seed: int, before: int, after: int
) -> None:
    venue = Venue(Random(seed))
    venue.begin()
    for _ in range(before):
        venue.step()
    desk = venue.desk
    desk.now += 1
    decided = len(desk.effects)
    desk.feed(Command(verb, "test"))
    for _ in range(after):
        venue.step()
    venue.kind = True
    for _ in range(3000):
        if not venue.waiting and not len(desk.state.orders) and not desk.state.risk.flattening:
            break
        venue.step()
    new = [effect for effect in desk.effects[decided:] if isinstance(effect, PlaceOrder)]
    assert all(order.reduce_only for order in new)
    assert not venue.open
    assert not len(desk.state.orders)
    assert desk.state.book.position == venue.held
    if verb is Verb.FLATTEN:
        assert venue.held == 0
    else:
        assert not new
