"""Notice 64008: a second session is up before the first one ends, and nothing falls in between."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from oms_trio.core.events import Verdict
from oms_trio.okx.errors import LoginRejectedError
from oms_trio.service.journaled_inputs import Kind
from tests.tasks.test_session import end_of, holding, verdicts
from tests.tasks.venue import next_of, open_venue, waiting_in


async def test_the_second_session_is_ready_before_the_first_ends(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        first = held.line.connection
        venue.exchange.faults.announce_upgrade(60)
        await held.up()
        assert trio.current_time() < 5
        assert held.line.connection not in (None, first)
        await trio.sleep(120)
        assert Kind.SESSION_DOWN not in {arrival.kind for arrival in waiting_in(held.arrivals)}
        assert len(venue.tried) == 2


async def test_orders_go_out_on_the_new_session_at_once(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.announce_upgrade(60)
        await held.up()
        await held.place()
        answer = await next_of(held.arrivals, Kind.ORDER_ANSWER, Kind.OWN_ANSWER)
        assert verdicts(answer) == [("buy", Verdict.ACCEPTED)]


async def test_the_first_session_finishes_the_answers_it_owes(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.ack_delay_s = 1.5
        await held.place()
        venue.exchange.faults.announce_upgrade(60)
        answer = await next_of(held.arrivals, Kind.ORDER_ANSWER, Kind.OWN_ANSWER)
        assert verdicts(answer) == [("buy", Verdict.ACCEPTED)]
        await held.up()


async def test_an_answer_that_the_first_session_still_owes_when_it_leaves_is_unknown(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.drop_acks = 1
        await held.place()
        venue.exchange.faults.announce_upgrade(60)
        unknown = await next_of(held.arrivals, Kind.ORDER_ANSWER, Kind.OWN_ANSWER)
        assert verdicts(unknown) == [("buy", Verdict.UNKNOWN)]
        assert trio.current_time() < 5


@pytest.mark.parametrize("code", ["63999", "60009", "60006", "50011"])
async def test_a_second_session_that_fails_is_tried_again_while_the_first_works_on(
    autojump_clock: MockClock, code: str
) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.login_codes.extend([code] * 4)
        venue.exchange.faults.announce_upgrade(60)
        await trio.sleep(1)
        await held.place()
        answer = await next_of(held.arrivals, Kind.ORDER_ANSWER, Kind.SESSION_DOWN, Kind.OWN_ANSWER)
        assert verdicts(answer) == [("buy", Verdict.ACCEPTED)]
        assert (
            await next_of(held.arrivals, Kind.SESSION_UP, Kind.SESSION_DOWN)
        ).kind is Kind.SESSION_UP
        assert len(venue.tried) == 6


async def test_an_upgrade_with_nowhere_to_go_ends_as_any_loss(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.announce_upgrade(60)
        venue.exchange.faults.refuse_connections = True
        await next_of(held.arrivals, Kind.SESSION_DOWN)
        assert 59 < trio.current_time() < 65
        venue.exchange.faults.refuse_connections = False
        await held.up()


async def test_the_second_session_can_be_followed_in_its_turn(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        for _ in range(5):
            venue.exchange.faults.announce_upgrade(60)
            assert (
                await next_of(held.arrivals, Kind.SESSION_UP, Kind.SESSION_DOWN)
            ).kind is Kind.SESSION_UP
            await trio.sleep(90)
        assert len(venue.tried) == 6


async def test_a_key_that_is_refused_at_the_change_over_is_the_end(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue:

        async def revoke() -> None:
            await trio.sleep(1)
            venue.exchange.faults.login_codes.append("60032")
            venue.exchange.faults.announce_upgrade(60)

        venue.nursery.start_soon(revoke)
        assert isinstance(await end_of(venue), LoginRejectedError)
        assert trio.current_time() < 10
