"""The task that keeps a session up: back-off, giving up, and requests left without an answer."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from functools import partial
from random import Random

import attrs
import pytest
import trio
from trio.testing import MockClock

from oms_trio.core.effects import PlaceOrder
from oms_trio.core.events import OrderAnswer, SessionUp, Verdict
from oms_trio.core.model import ClOrdId, ExchangeMs, OrderType, Side
from oms_trio.okx.errors import LoginRejectedError, RetriesExhaustedError, SessionLostError
from oms_trio.okx.pending_requests import ANSWER_S, PendingRequests
from oms_trio.okx.wire.requests import encode_order
from oms_trio.service.journaled_inputs import JournaledInput, Kind
from oms_trio.tasks.session import (
    BACK_OFF_FIRST_S,
    BACK_OFF_MOST_S,
    PROVED_S,
    keep_session,
)
from oms_trio.testing.okx_server.faults.switches import RestAnswer
from tests.tasks.venue import CONTEXT, Venue, failure_of, next_of, open_venue, waiting_in

BUY = PlaceOrder(
    ClOrdId("buy"), Side.BUY, OrderType.LIMIT, Decimal(66_900), Decimal(1), expires_at_ns=0
)


@attrs.define
class Held:
    """A session task at work, and both ends of what it shares with others."""

    venue: Venue
    line: PendingRequests
    arrivals: trio.MemoryReceiveChannel[JournaledInput]
    prepared: int = 0

    async def up(self) -> JournaledInput:
        """Wait until a session is ready."""
        return await next_of(self.arrivals, Kind.SESSION_UP)

    async def proved(self) -> None:
        """Wait until a session has been ready for long enough to have been of use."""
        await self.up()
        await trio.sleep(PROVED_S)

    async def place(self, name: str = "buy") -> None:
        """Send an order as the sender does."""
        link = self.line.connection
        assert link is not None
        order = attrs.evolve(
            BUY,
            cl_ord_id=ClOrdId(name),
            exp_time_ms=ExchangeMs((self.venue.clock() + 5_000_000_000) // 1_000_000),
            inst_id_code=self.venue.exchange.instrument.inst_id_code,
        )
        request_id = self.line.expect(link, [order.cl_ord_id], cancel=False)
        text = encode_order(order, tag=CONTEXT.tag, request_id=request_id)
        with suppress(SessionLostError):
            await link.send(text)


@asynccontextmanager
async def holding(venue: Venue, max_retries: int = 50) -> AsyncIterator[Held]:
    """Run the task; what ends it comes out in exception groups."""
    inbox, arrivals = trio.open_memory_channel[JournaledInput](math.inf)
    held = Held(venue, PendingRequests(), arrivals)
    async with venue.open_rest() as rest, trio.open_nursery() as nursery:

        async def prepare() -> int:
            held.prepared += 1
            return await rest.measure_offset()

        run = partial(
            keep_session,
            connect=venue.connector(rest),
            measure_offset=prepare,
            requests=held.line,
            inbox=inbox,
            max_retries=max_retries,
            random=Random(1),
        )
        nursery.start_soon(run)
        yield held
        nursery.cancel_scope.cancel()


async def end_of(venue: Venue, max_retries: int = 50) -> BaseException:
    """Run the task until it gives up, and return why."""

    async def run() -> None:
        async with holding(venue, max_retries):
            await trio.sleep(24 * 3600)

    return await failure_of(run())


async def test_a_lost_session_is_reported_and_followed_by_another(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.cut()
        down = await next_of(held.arrivals, Kind.SESSION_DOWN, Kind.SESSION_UP)
        assert down.kind is Kind.SESSION_DOWN
        assert held.line.connection is None
        await held.up()
        assert held.line.connection is not None


async def test_attempts_come_ever_later_with_jitter_and_a_ceiling(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue:
        venue.exchange.faults.login_codes.extend(["63999"] * 20)
        await end_of(venue, 20)
        pauses = [
            after - before for before, after in zip(venue.tried, venue.tried[1:], strict=False)
        ]
        ceilings = [min(BACK_OFF_MOST_S, BACK_OFF_FIRST_S * 2**n) for n in range(len(pauses))]
        assert len(pauses) == 19
        assert all(
            ceiling / 2 <= pause <= ceiling + 0.01
            for pause, ceiling in zip(pauses, ceilings, strict=True)
        )
        assert len({pause / ceiling for pause, ceiling in zip(pauses, ceilings, strict=True)}) > 15


async def test_fifty_failures_in_a_row_are_the_end(autojump_clock: MockClock) -> None:
    async with open_venue() as venue:
        venue.exchange.faults.login_codes.extend(["63999"] * 60)
        error = await end_of(venue)
        assert isinstance(error, RetriesExhaustedError)
        assert "50 attempts" in str(error)
        assert len(venue.tried) == 50


async def test_a_session_that_has_logged_in_and_subscribed_resets_the_count(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, holding(venue, max_retries=3) as held:
        for _ in range(10):
            await held.up()
            venue.exchange.faults.login_codes.append("63999")
            venue.exchange.faults.cut()
        await held.up()
        assert len(venue.tried) == 21


async def test_the_loss_of_a_session_is_no_failed_attempt(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, holding(venue, max_retries=1) as held:
        await held.up()
        venue.exchange.faults.cut()
        await held.up()


async def test_sessions_that_are_short_come_ever_later_and_are_no_failed_attempts(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, holding(venue, max_retries=3) as held:
        for _ in range(12):
            await held.up()
            venue.exchange.faults.cut()
        assert venue.tried[1] - venue.tried[0] <= BACK_OFF_FIRST_S + 1
        assert venue.tried[-1] - venue.tried[-2] >= BACK_OFF_MOST_S / 2
        await held.proved()
        venue.exchange.faults.cut()
        before = trio.current_time()
        await held.up()
        assert trio.current_time() - before <= BACK_OFF_FIRST_S + 1, "one that lasted was of use"


async def test_an_outage_of_days_is_no_arithmetic_error(autojump_clock: MockClock) -> None:
    async with open_venue() as venue:
        venue.exchange.faults.rest_status = 503
        assert isinstance(await end_of(venue, 1_030), RetriesExhaustedError)


async def test_an_exchange_that_does_not_tell_the_time_is_a_failed_attempt(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue:
        async with holding(venue, max_retries=3) as held:
            await held.proved()
            venue.exchange.faults.rest_failures = 2
            venue.exchange.faults.cut()
            await held.up()
            assert held.prepared == 4
        venue.exchange.faults.rest_status = 503
        assert isinstance(await end_of(venue, 3), RetriesExhaustedError)


@pytest.mark.parametrize("code", ["60005", "60007", "60024", "60032", "50101", "50110", "50119"])
async def test_a_login_rejected_for_good_is_the_end_at_once(
    autojump_clock: MockClock, code: str
) -> None:
    async with open_venue() as venue:
        venue.exchange.faults.login_codes.append(code)
        error = await end_of(venue)
        assert isinstance(error, LoginRejectedError)
        assert code in str(error)
        assert len(venue.tried) == 1


async def test_a_login_failure_that_may_hide_wrong_credentials_is_tried_five_times(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue:
        venue.exchange.faults.login_codes.extend(["60009"] * 6)
        error = await end_of(venue)
        assert isinstance(error, RetriesExhaustedError)
        assert "check the API key" in str(error)
        assert len(venue.tried) == 5


async def test_credentials_that_have_logged_in_once_are_tried_as_often_as_any_session(
    autojump_clock: MockClock,
) -> None:
    """60009 is then no proof against the key, and a position may be open."""
    async with open_venue() as venue, holding(venue, max_retries=50) as held:
        await held.up()
        venue.exchange.faults.login_codes.extend(["60009"] * 8)
        venue.exchange.faults.cut()
        await next_of(held.arrivals, Kind.SESSION_DOWN)
        await held.up()


async def test_a_login_that_the_exchange_finds_too_early_or_late_is_signed_again(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, holding(venue) as held:
        venue.exchange.faults.login_codes.append("60006")
        await held.up()
        assert held.prepared == 2


async def test_a_clock_that_is_minutes_off_does_not_keep_us_out(
    autojump_clock: MockClock,
) -> None:
    async with open_venue(skew_ns=-300 * 10**9) as venue:
        inbox, arrivals = trio.open_memory_channel[JournaledInput](math.inf)
        async with venue.open_rest() as rest, trio.open_nursery() as nursery:
            run = partial(
                keep_session,
                connect=venue.connector(rest),
                measure_offset=rest.measure_offset,
                requests=PendingRequests(),
                inbox=inbox,
                max_retries=1,
                random=Random(1),
            )
            nursery.start_soon(run)
            up = await next_of(arrivals, Kind.SESSION_UP)
            nursery.cancel_scope.cancel()
        assert len(venue.tried) == 1
        assert up.events == (SessionUp(-300 * 10**9),), "and the core is told"


def verdicts(arrival: JournaledInput) -> list[tuple[str, Verdict]]:
    """What an arrival says of orders."""
    told = arrival.events
    return [(one.cl_ord_id, one.verdict) for one in told if isinstance(one, OrderAnswer)]


async def test_an_answer_reaches_the_order_that_asked(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        await held.place()
        answer = await next_of(held.arrivals, Kind.ORDER_ANSWER)
        assert verdicts(answer) == [("buy", Verdict.ACCEPTED)]


async def test_requests_of_a_lost_session_are_unknown_and_told_before_its_end(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.cut_after_op = 1
        await held.place()
        unknown = await next_of(held.arrivals, Kind.OWN_ANSWER, Kind.SESSION_DOWN)
        assert verdicts(unknown) == [("buy", Verdict.UNKNOWN)]
        assert len(venue.exchange.ground_truth.orders()) == 1
        assert (
            await next_of(held.arrivals, Kind.OWN_ANSWER, Kind.SESSION_DOWN)
        ).kind is Kind.SESSION_DOWN


async def test_an_answer_that_does_not_come_leaves_its_order_unknown_and_the_session_up(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.drop_acks = 1
        sent = trio.current_time()
        await held.place()
        await held.place("next")
        unknown = await next_of(held.arrivals, Kind.OWN_ANSWER, Kind.SESSION_DOWN)
        assert verdicts(unknown) == [("buy", Verdict.UNKNOWN)]
        assert 10 <= trio.current_time() - sent <= 12
        assert held.line.connection is not None, "a request sent after it was answered"


async def test_an_answer_after_its_deadline_is_ignored(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.ack_delay_s = 14
        await held.place()
        await trio.sleep(1)
        venue.exchange.faults.ack_delay_s = 0
        await held.place("next")
        answer = await next_of(held.arrivals, Kind.ORDER_ANSWER)
        assert verdicts(answer) == [("next", Verdict.ACCEPTED)]
        await next_of(held.arrivals, Kind.OWN_ANSWER)
        await trio.sleep(10)
        assert Kind.ORDER_ANSWER not in {arrival.kind for arrival in waiting_in(held.arrivals)}
        assert held.line.connection is not None


async def test_a_session_that_answers_no_request_is_ended_although_its_pushes_flow(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.drop_acks = 1_000
        first = held.line.connection
        began = trio.current_time()
        for number in range(30):
            if held.line.connection is first:
                await held.place(f"o{number}")
            await trio.sleep(0.5)
        kinds = [arrival.kind for arrival in waiting_in(held.arrivals)]
        assert Kind.PUSH in kinds, "its orders were placed, and pushed"
        unknown = kinds.index(Kind.OWN_ANSWER)
        assert Kind.SESSION_DOWN in kinds[unknown:]
        assert Kind.SESSION_UP in kinds, "another session is up"
        assert len(venue.tried) == 2
        assert venue.tried[1] - began < 12


async def test_every_request_of_a_session_that_hangs_is_unknown(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        venue.exchange.faults.drop_acks = 3
        for name in ("a", "b", "c"):
            await held.place(name)
            await trio.sleep(4)
        arrivals = [await next_of(held.arrivals, Kind.OWN_ANSWER) for _ in range(3)]
        told = [verdict for arrival in arrivals for verdict in verdicts(arrival)]
        assert told == [(name, Verdict.UNKNOWN) for name in ("a", "b", "c")]


async def test_sessions_that_hang_one_after_the_other_come_ever_later(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue:
        venue.exchange.faults.drop_acks = 10**9
        async with holding(venue, max_retries=3) as held:
            for number in range(12):
                await held.up()
                await held.place(f"o{number}")
        assert venue.tried[-1] - venue.tried[-2] >= ANSWER_S + BACK_OFF_MOST_S / 2


async def test_a_subscription_that_dies_behind_its_acknowledgement_is_a_failed_session(
    autojump_clock: MockClock,
) -> None:
    """Another program holds all connections that the channel allows."""
    dead = '{"event":"channel-conn-count-error","channel":"orders","connCount":"30"}'
    async with open_venue() as venue:

        async def kill_subscriptions() -> None:
            while True:
                venue.exchange.faults.send_raw(dead)
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill_subscriptions)
            async with holding(venue) as held:
                await trio.sleep(40)
                assert held.prepared <= 12, "79 times in the first release"
            error = await end_of(venue, 5)
            assert isinstance(error, RetriesExhaustedError)
            assert "no session in 5 attempts" in str(error)
            nursery.cancel_scope.cancel()


async def test_a_time_that_the_exchange_refuses_to_tell_ends_nothing(
    autojump_clock: MockClock,
) -> None:
    """An unknown code, and times that cannot be: each is a failed attempt and no more."""
    answers = [
        b'{"code":"58999","msg":"new","data":[]}',
        b'{"code":"51000","msg":"Parameter error","data":[]}',
        b'{"code":"0","msg":"","data":[{"ts":"9999999999999999999"}]}',
        b'{"code":"0","msg":"","data":[{"ts":"0"}]}',
    ]
    async with open_venue() as venue:
        venue.exchange.faults.rest_answers.extend(RestAnswer(200, body) for body in answers)
        async with holding(venue, max_retries=10) as held:
            await held.up()
            assert held.prepared == len(answers) + 1


async def test_a_stop_in_the_moment_of_a_loss_is_a_stop(autojump_clock: MockClock) -> None:
    """Whatever comes first by a few turns of the scheduler, the end is no failure."""
    for turns in range(40):
        async with open_venue() as venue, holding(venue) as held:
            await held.up()
            venue.exchange.faults.cut()
            for _ in range(turns):
                await trio.lowlevel.checkpoint()


async def test_a_session_that_falls_silent_is_replaced(autojump_clock: MockClock) -> None:
    """The heartbeat is ours: 15 s of silence, a ping, 15 s more."""
    async with open_venue() as venue, holding(venue) as held:
        await held.up()
        await trio.sleep(300)
        assert len(venue.tried) == 1
        venue.exchange.faults.silence = True
        since = trio.current_time()
        await next_of(held.arrivals, Kind.SESSION_DOWN)
        assert 25 <= trio.current_time() - since <= 31
        venue.exchange.faults.silence = False
        venue.exchange.faults.cut()
        await held.up()
