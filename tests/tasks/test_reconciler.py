"""The reconciler: asks until there is an answer, and sets the account up."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import attrs
import trio
from trio.testing import MockClock

from oms_trio.channels import Question
from oms_trio.core.effects import LookUpOrder, RequestFills, RequestSnapshot
from oms_trio.core.inputs import LookupAnswer, Snapshot
from oms_trio.core.model import ClOrdId, ExchangeMs, OrdId
from oms_trio.okx.errors import AccountUnfitError, RestRefusedError
from oms_trio.okx.signing import Credentials
from oms_trio.records import Arrival, Kind
from oms_trio.sim.auth import SimAccount
from oms_trio.tasks.reconciler import ANSWER_S, Reconciler, reconcile
from tests.core.desk import RULES
from tests.tasks.venue import (
    SCOPE,
    START_NS,
    Venue,
    failure_of,
    key_of,
    next_of,
    open_venue,
    waiting_in,
)

SNAPSHOT = RequestSnapshot(1, ExchangeMs(START_NS // 1_000_000 - 60_000))


@attrs.define
class Asked:
    """A reconciler at work."""

    questions: trio.MemorySendChannel[Question]
    arrivals: trio.MemoryReceiveChannel[Arrival]

    def ask(self, *questions: Question) -> None:
        """Hand questions over."""
        for question in questions:
            self.questions.send_nowait(question)


@asynccontextmanager
async def asking(venue: Venue, credentials: Credentials | None = None) -> AsyncIterator[Asked]:
    """Run a reconciler until all is answered."""
    inbox, arrivals = trio.open_memory_channel[Arrival](math.inf)
    questions, questions_out = trio.open_memory_channel[Question](math.inf)
    async with venue.open_rest(credentials) as rest, trio.open_nursery() as nursery:
        nursery.start_soon(reconcile, questions_out, Reconciler(rest, inbox, SCOPE, RULES))
        with questions:
            yield Asked(questions, arrivals)


async def refusal_of(
    venue: Venue, question: Question, credentials: Credentials | None = None
) -> BaseException:
    """Ask what is refused for good, and return how the task ends."""

    async def run() -> None:
        async with asking(venue, credentials) as asked:
            asked.ask(question)
            await trio.sleep(3600)

    return await failure_of(run())


async def test_every_question_gets_its_answer_before_the_task_ends(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        asked.ask(SNAPSHOT, RequestFills(OrdId("1")), LookUpOrder(ClOrdId("nobody")))
        asked.questions.close()
        with trio.fail_after(60):
            arrivals = [await asked.arrivals.receive() for _ in range(3)]
    assert {arrival.kind for arrival in arrivals} == {Kind.SNAPSHOT, Kind.FILLS, Kind.LOOKUP}
    (found,) = next(one for one in arrivals if one.kind is Kind.LOOKUP).inputs(7)
    assert isinstance(found, LookupAnswer)
    assert (found.at_ns, found.report) == (7, None)


async def test_no_answer_is_asked_for_again_and_never_told_as_flat(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        venue.exchange.faults.rest_status = 502
        asked.ask(SNAPSHOT, LookUpOrder(ClOrdId("nobody")))
        await trio.sleep(60)
        assert not waiting_in(asked.arrivals)
        asked_before = len(venue.rest_calls)
        assert 20 < asked_before < 50, "it is asked every five seconds in the end"
        venue.exchange.faults.rest_status = 0
        await next_of(asked.arrivals, Kind.SNAPSHOT, Kind.LOOKUP)
        await next_of(asked.arrivals, Kind.SNAPSHOT, Kind.LOOKUP)


async def test_a_failure_half_way_starts_the_snapshot_anew(autojump_clock: MockClock) -> None:
    """A snapshot is whole: no part of the first try is in the second."""
    async with open_venue() as venue, asking(venue) as asked:
        asked.ask(SNAPSHOT)
        await trio.testing.wait_all_tasks_blocked()
        whole = list(venue.rest_calls)
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        venue.rest_calls.clear()
        venue.exchange.faults.rest_failures = 1
        asked.ask(attrs.evolve(SNAPSHOT, request=2))
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        assert venue.rest_calls == [whole[0], *whole]


async def test_the_newest_request_replaces_an_older_one(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        venue.exchange.faults.rest_status = 503
        asked.ask(SNAPSHOT, LookUpOrder(ClOrdId("nobody")))
        await trio.sleep(1)
        asked.ask(attrs.evolve(SNAPSHOT, request=2))
        venue.exchange.faults.rest_status = 0
        await trio.sleep(60)
        arrivals = waiting_in(asked.arrivals)
        numbers = [
            told.request
            for arrival in arrivals
            for told in arrival.inputs(0)
            if isinstance(told, Snapshot)
        ]
        assert numbers == [2]
        assert len(arrivals) == 2, "the look-up is not replaced by it"


async def test_a_question_that_is_being_asked_is_not_asked_again(
    autojump_clock: MockClock,
) -> None:
    """Hundreds of orders in doubt, asked for every second: the rate limit must not starve them."""
    async with open_venue() as venue, asking(venue) as asked:
        names = [ClOrdId(f"o{number}") for number in range(300)]
        for _ in range(20):
            asked.ask(*map(LookUpOrder, names))
            await trio.sleep(1)
        answered = [
            told.cl_ord_id
            for arrival in waiting_in(asked.arrivals)
            for told in arrival.inputs(0)
            if isinstance(told, LookupAnswer)
        ]
        assert set(answered) == set(names)
        assert max(answered.count(name) for name in names) <= 3


async def test_an_exchange_that_never_answers_is_asked_again(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        venue.exchange.faults.stalled = True
        asked.ask(LookUpOrder(ClOrdId("nobody")))
        await trio.sleep(ANSWER_S - 1)
        assert len(venue.rest_calls) == 1
        venue.exchange.faults.stalled = False
        await next_of(asked.arrivals, Kind.LOOKUP)
        assert len(venue.rest_calls) == 2


async def test_a_fresh_account_is_set_to_net_mode_and_our_leverage(
    autojump_clock: MockClock,
) -> None:
    async with open_venue(account=SimAccount()) as venue, asking(venue) as asked:
        asked.ask(attrs.evolve(SNAPSHOT, anew=True))
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        assert venue.exchange.pos_mode == "net_mode"
        assert venue.exchange.engine.ledger.lever == Decimal(100)
        posts = [call for call in venue.rest_calls if call.startswith("POST")]
        assert len(posts) == 2
        asked.ask(attrs.evolve(SNAPSHOT, request=2, anew=True))
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        assert [call for call in venue.rest_calls if call.startswith("POST")] == posts


async def test_a_light_check_leaves_the_account_alone(autojump_clock: MockClock) -> None:
    async with open_venue(account=SimAccount()) as venue, asking(venue) as asked:
        asked.ask(SNAPSHOT)
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        assert venue.exchange.pos_mode == "long_short_mode"


async def test_a_key_that_may_not_trade_ends_the_task_with_advice(
    autojump_clock: MockClock,
) -> None:
    async with open_venue(account=SimAccount(perm="read_only")) as venue:
        error = await refusal_of(venue, attrs.evolve(SNAPSHOT, anew=True))
    assert isinstance(error, AccountUnfitError)
    assert "give the key 'trade'" in str(error)


async def test_an_account_that_cannot_be_set_up_ends_the_task_with_advice(
    autojump_clock: MockClock,
) -> None:
    """Leverage stays while orders are open (59107)."""
    async with open_venue() as venue:
        exchange = venue.exchange
        args = {
            "instIdCode": exchange.instrument.inst_id_code,
            "tdMode": "cross",
            "side": "buy",
            "ordType": "limit",
            "px": "66900",
            "sz": "1",
        }
        exchange.set_lever(Decimal(20))
        exchange.place(args, lambda *_: None)
        error = await refusal_of(venue, attrs.evolve(SNAPSHOT, anew=True))
    assert isinstance(error, AccountUnfitError)
    assert "set them by hand" in str(error)


async def test_a_refused_key_ends_the_task(autojump_clock: MockClock) -> None:
    async with open_venue() as venue:
        wrong = attrs.evolve(key_of(venue.exchange.account), secret_key="wrong")
        error = await refusal_of(venue, LookUpOrder(ClOrdId("nobody")), wrong)
    assert isinstance(error, RestRefusedError)
    assert "wrong" not in str(error)
