"""The reconciler: asks until there is an answer, and sets the account up."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock

from oms_trio.core.effects import LookUpOrder, RequestFills, RequestListing, RequestSnapshot
from oms_trio.core.events import ExchangeSnapshot, Listing, LookupAnswer
from oms_trio.core.model import ClOrdId, ExchangeMs, OrderState, OrdId, Side
from oms_trio.okx.errors import AccessRejectedError, AccountSetupError, StepMismatchError
from oms_trio.okx.wire.signing import Credentials
from oms_trio.service.channels import Query
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import JournaledInput, Kind
from oms_trio.tasks.reconciler import ANSWER_S, LOOK_UPS, any_account, reconcile
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults.switches import RestAnswer, RowEdit
from tests.core.desk import RULES
from tests.tasks.venue import (
    CONTEXT,
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

    queries: trio.MemorySendChannel[Query]
    arrivals: trio.MemoryReceiveChannel[JournaledInput]

    def ask(self, *queries: Query) -> None:
        """Hand queries over."""
        for query in queries:
            self.queries.send_nowait(query)


@asynccontextmanager
async def asking(
    venue: Venue,
    credentials: Credentials | None = None,
    on_account: Callable[[str], object] = any_account,
) -> AsyncIterator[Asked]:
    """Run a reconciler until all is answered."""
    inbox, arrivals = trio.open_memory_channel[JournaledInput](math.inf)
    queries, queries_out = trio.open_memory_channel[Query](math.inf)
    async with venue.open_rest(credentials) as rest, trio.open_nursery() as nursery:
        gate = Gate(lambda _wanted: None)
        run = partial(
            reconcile,
            rest=rest,
            inbox=inbox,
            context=CONTEXT,
            rules=RULES,
            gate=gate,
            on_account=on_account,
        )
        nursery.start_soon(run, queries_out)
        with queries:
            yield Asked(queries, arrivals)


async def refusal_of(
    venue: Venue,
    query: Query,
    credentials: Credentials | None = None,
    on_account: Callable[[str], object] = any_account,
) -> BaseException:
    """Ask what is refused for good, and return how the task ends."""

    async def run() -> None:
        async with asking(venue, credentials, on_account) as asked:
            asked.ask(query)
            await trio.sleep(3600)

    return await failure_of(run())


async def test_every_query_gets_its_answer_before_the_task_ends(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        asked.ask(SNAPSHOT, RequestFills(OrdId("1")), LookUpOrder(ClOrdId("nobody")))
        asked.queries.close()
        with trio.fail_after(60):
            arrivals = [await asked.arrivals.receive() for _ in range(3)]
    assert {arrival.kind for arrival in arrivals} == {Kind.SNAPSHOT, Kind.FILLS, Kind.LOOKUP}
    (found,) = next(one for one in arrivals if one.kind is Kind.LOOKUP).events
    assert isinstance(found, LookupAnswer)
    assert found.report is None


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


async def test_only_what_failed_of_a_snapshot_is_asked_again(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        asked.ask(SNAPSHOT)
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        venue.rest_calls.clear()
        asked.ask(attrs.evolve(SNAPSHOT, request=2))
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        whole = list(venue.rest_calls)
        venue.rest_calls.clear()
        venue.exchange.faults.rest_failures = 3
        asked.ask(attrs.evolve(SNAPSHOT, request=3))
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        assert len(venue.rest_calls) == len(whole) + 3
        assert set(venue.rest_calls) == set(whole)


async def test_a_snapshot_of_slow_answers_is_no_failure(autojump_clock: MockClock) -> None:
    """Ten answers of 8 s each: a deadline for all of them would start from zero for ever."""
    async with open_venue() as venue, asking(venue) as asked:
        venue.exchange.faults.rest_delay_s = 8
        asked.ask(SNAPSHOT)
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        assert trio.current_time() < 60
        assert len(venue.rest_calls) == len(set(venue.rest_calls)) + 2, "bills are of three types"


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
            for told in arrival.events
            if isinstance(told, ExchangeSnapshot)
        ]
        assert numbers == [2]
        assert len(arrivals) == 2, "the look-up is not replaced by it"


async def test_a_query_that_is_being_asked_is_not_asked_again(
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
            for told in arrival.events
            if isinstance(told, LookupAnswer)
        ]
        assert set(answered) == set(names)
        assert max(answered.count(name) for name in names) <= 3


async def test_an_exchange_that_never_answers_is_asked_again(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        venue.exchange.faults.silence = True
        asked.ask(LookUpOrder(ClOrdId("nobody")))
        await trio.sleep(ANSWER_S - 1)
        assert len(venue.rest_calls) == 1
        venue.exchange.faults.silence = False
        await next_of(asked.arrivals, Kind.LOOKUP)
        assert len(venue.rest_calls) == 2


async def test_a_fresh_account_is_set_to_net_mode_and_our_leverage(
    autojump_clock: MockClock,
) -> None:
    async with open_venue(account=ExchangeAccount()) as venue, asking(venue) as asked:
        asked.ask(attrs.evolve(SNAPSHOT, check_account=True))
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        assert venue.exchange.pos_mode == "net_mode"
        assert venue.exchange.engine.ledger.lever == Decimal(100)
        posts = [call for call in venue.rest_calls if call.startswith("POST")]
        assert len(posts) == 2
        asked.ask(attrs.evolve(SNAPSHOT, request=2, check_account=True))
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        assert [call for call in venue.rest_calls if call.startswith("POST")] == posts


async def test_a_light_check_leaves_the_account_alone(autojump_clock: MockClock) -> None:
    async with open_venue(account=ExchangeAccount()) as venue, asking(venue) as asked:
        asked.ask(SNAPSHOT)
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        assert venue.exchange.pos_mode == "long_short_mode"


async def test_a_key_that_may_not_trade_ends_the_task_with_advice(
    autojump_clock: MockClock,
) -> None:
    async with open_venue(account=ExchangeAccount(perm="read_only")) as venue:
        error = await refusal_of(venue, attrs.evolve(SNAPSHOT, check_account=True))
    assert isinstance(error, AccountSetupError)
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
        error = await refusal_of(venue, attrs.evolve(SNAPSHOT, check_account=True))
    assert isinstance(error, AccountSetupError)
    assert "set them by hand" in str(error)


async def test_a_refused_key_ends_the_task(autojump_clock: MockClock) -> None:
    async with open_venue() as venue:
        wrong = attrs.evolve(key_of(venue.exchange.account), secret_key="wrong")
        error = await refusal_of(venue, LookUpOrder(ClOrdId("nobody")), wrong)
    assert isinstance(error, AccessRejectedError)
    assert "wrong" not in str(error)


async def test_an_unknown_code_is_asked_again(autojump_clock: MockClock) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        answer = RestAnswer(200, b'{"code":"58999","msg":"brand new","data":[]}')
        venue.exchange.faults.rest_answers.extend([answer] * 12)
        asked.ask(attrs.evolve(SNAPSHOT, check_account=True), LookUpOrder(ClOrdId("nobody")))
        await next_of(asked.arrivals, Kind.SNAPSHOT)


LISTING = RequestListing(1)


def listings(arrivals: list[JournaledInput]) -> list[Listing]:
    told = [one for arrival in arrivals for one in arrival.events]
    return [one for one in told if isinstance(one, Listing)]


async def test_a_listing_tells_what_is_pending_with_our_tag_and_the_position(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        rest_on(venue.exchange, 120)
        rest_on(venue.exchange, 1, tag="hand")
        filled = rest_on(venue.exchange, 1, prefix="filled")
        venue.exchange.fill(filled[0], Decimal(1), Decimal(66_900))
        asked.ask(LISTING)
        (listing,) = listings([await next_of(asked.arrivals, Kind.LISTING)])
        assert listing.request == 1
        assert len(listing.orders) == 120
        assert {report.tag for report in listing.orders} == {CONTEXT.tag}
        assert listing.position is not None
        assert listing.position.pos == 1


async def test_the_newest_listing_replaces_an_older_one_and_leaves_the_snapshot_alone(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        venue.exchange.faults.rest_status = 503
        asked.ask(SNAPSHOT, LISTING)
        await trio.sleep(1)
        asked.ask(RequestListing(2))
        await trio.sleep(30)
        venue.exchange.faults.rest_status = 0
        await trio.sleep(30)
        arrivals = waiting_in(asked.arrivals)
        assert [listing.request for listing in listings(arrivals)] == [2]
        assert [arrival.kind for arrival in arrivals].count(Kind.SNAPSHOT) == 1


@pytest.mark.parametrize("query", [attrs.evolve(SNAPSHOT, check_account=True), SNAPSHOT, LISTING])
async def test_the_account_is_shown_before_anything_else_of_it_is_used(
    autojump_clock: MockClock, query: Query
) -> None:
    class WrongAccountError(Exception):
        pass

    def refuse(uid: str) -> None:
        raise WrongAccountError(uid)

    async with open_venue(account=ExchangeAccount()) as venue:
        error = await refusal_of(venue, query, on_account=refuse)
        assert isinstance(error, WrongAccountError)
        assert str(error) == venue.exchange.account.uid
        assert venue.rest_calls == ["GET /api/v5/account/config"]


async def test_the_account_is_shown_once(autojump_clock: MockClock) -> None:
    seen: list[str] = []
    async with open_venue() as venue, asking(venue, on_account=seen.append) as asked:
        asked.ask(attrs.evolve(SNAPSHOT, check_account=True))
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        asked.ask(attrs.evolve(SNAPSHOT, request=2), LISTING)
        await next_of(asked.arrivals, Kind.LISTING)
        assert seen == [venue.exchange.account.uid]


async def test_three_hundred_open_orders_are_reconciled_within_fifteen_seconds(
    autojump_clock: MockClock,
) -> None:
    """At a round trip of 300 ms, with everything that a lost session has to ask."""
    async with open_venue() as venue, asking(venue) as asked:
        rest_on(venue.exchange, 300)
        await trio.sleep(3600)
        venue.exchange.faults.rest_delay_s = 0.3
        began = trio.current_time()
        asked.ask(attrs.evolve(SNAPSHOT, since_ms=a_minute_ago(venue), check_account=True))
        snapshot = await snapshot_of(asked)
        assert trio.current_time() - began < 8
        assert len(snapshot.orders) == 300


async def test_old_orders_that_ended_while_we_were_away_are_in_the_history(
    autojump_clock: MockClock,
) -> None:
    """The dead man's switch ends hundreds of orders that are older than the watermark."""
    async with open_venue() as venue, asking(venue) as asked:
        rest_on(venue.exchange, 300)
        await trio.sleep(3600)
        for order in list(venue.exchange.engine.book.pending):
            venue.exchange.cancel({"ordId": order.ord_id}, lambda *_: None)
        venue.exchange.faults.rest_delay_s = 0.3
        began = trio.current_time()
        asked.ask(attrs.evolve(SNAPSHOT, since_ms=a_minute_ago(venue), check_account=True))
        snapshot = await snapshot_of(asked)
        assert trio.current_time() - began < 8
        assert {report.state for report in snapshot.orders} == {OrderState.CANCELED}
        assert len(snapshot.orders) == 300


async def test_the_history_is_read_only_as_far_as_something_happened(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        for _ in range(3):
            rest_on(venue.exchange, 150)
            for order in list(venue.exchange.engine.book.pending):
                venue.exchange.cancel({"ordId": order.ord_id}, lambda *_: None)
            await trio.sleep(3)
        await trio.sleep(600)
        asked.ask(attrs.evolve(SNAPSHOT, since_ms=a_minute_ago(venue)))
        await snapshot_of(asked)
        assert venue.rest_calls.count("GET /api/v5/trade/orders-history") == 1


async def test_hundreds_of_look_ups_hold_up_neither_a_snapshot_nor_the_operator(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        venue.exchange.faults.rest_delay_s = 0.3
        asked.ask(*(LookUpOrder(ClOrdId(f"o{number}")) for number in range(300)))
        await trio.sleep(0.1)
        assert venue.rest_calls.count("GET /api/v5/trade/order") == LOOK_UPS
        asked.ask(LISTING, SNAPSHOT)
        await next_of(asked.arrivals, Kind.LISTING)
        assert trio.current_time() < 1.5
        await trio.sleep(13)
        kinds = [arrival.kind for arrival in waiting_in(asked.arrivals)]
        assert Kind.SNAPSHOT in kinds
        assert venue.rest_calls.count("GET /api/v5/trade/order") == 300


async def test_a_liquidation_is_told_with_its_fills_and_funding_with_its_amount(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue, asking(venue) as asked:
        exchange = venue.exchange
        (bought,) = rest_on(exchange, 1)
        exchange.fill(bought, Decimal(1), Decimal(66_900))
        exchange.fund(Decimal("0.0001"))
        exchange.liquidate()
        asked.ask(attrs.evolve(SNAPSHOT, since_ms=a_minute_ago(venue)))
        snapshot = await snapshot_of(asked)
        ours, forced = snapshot.fills
        assert ours.ord_id == bought
        report = next(one for one in snapshot.orders if one.ord_id == forced.ord_id)
        assert (report.category, report.side, report.tag) == ("full_liquidation", Side.SELL, "")
        assert report.acc_fill_sz == forced.sz == 1
        assert ours.fee < 0
        (funding,) = snapshot.funding
        assert funding.amount < 0


def a_minute_ago(venue: Venue) -> ExchangeMs:
    return ExchangeMs(venue.clock() // 1_000_000 - 60_000)


async def snapshot_of(asked: Asked) -> ExchangeSnapshot:
    (snapshot,) = (await next_of(asked.arrivals, Kind.SNAPSHOT)).events
    assert isinstance(snapshot, ExchangeSnapshot)
    return snapshot


def rest_on(
    exchange: SimulatedExchange, count: int, tag: str = CONTEXT.tag, prefix: str = "o"
) -> list[OrdId]:
    """Let small limit buys rest on the exchange."""
    placed = []
    for number in range(count):
        args = {
            "instIdCode": exchange.instrument.inst_id_code,
            "tdMode": "cross",
            "side": "buy",
            "ordType": "limit",
            "px": "66900",
            "sz": "1",
            "clOrdId": f"{prefix}{tag}{number}",
            "tag": tag,
        }
        outcome = exchange.place(args, lambda *_: None)
        assert outcome.code == "0", outcome
        placed.append(OrdId(outcome.ord_id))
    return placed


async def test_rows_of_ours_that_cannot_be_read_close_the_gate_until_all_can_be(
    autojump_clock: MockClock,
) -> None:
    """A look-up asks by our name, so whatever it finds is ours, with or without our tag."""
    inbox, _arrivals = trio.open_memory_channel[JournaledInput](math.inf)
    gate = Gate(lambda _wanted: None)
    gate.open("state")
    queries, queries_out = trio.open_memory_channel[Query](math.inf)
    async with open_venue() as venue, venue.open_rest() as rest, trio.open_nursery() as nursery:
        run = partial(reconcile, rest=rest, inbox=inbox, context=CONTEXT, rules=RULES, gate=gate)
        nursery.start_soon(run, queries_out)
        rest_on(venue.exchange, 1, tag="", prefix="byHand")
        faults = venue.exchange.faults
        faults.foreign_order = f"tag={CONTEXT.tag},state=mystery"
        queries.send_nowait(SNAPSHOT)
        await trio.sleep(2)
        assert "mystery" in gate.reasons["row"]
        faults.edits.append(RowEdit("trade/order", "state=frozen"))
        queries.send_nowait(LookUpOrder(ClOrdId("byHand0")))
        await trio.sleep(0.1)
        assert "frozen" in gate.reasons["row"]
        await trio.sleep(0.4)
        assert "mystery" in gate.reasons["row"], "the look-up is answered, the snapshot is not"
        faults.foreign_order = ""
        await trio.sleep(10)
        assert not gate.reasons
        queries.close()


async def test_a_least_size_that_does_not_fit_is_the_end_at_the_start(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue:
        lot = Decimal(1)
        instrument = attrs.evolve(venue.exchange.instrument, lot_sz=lot, min_sz=lot)
        venue.exchange.change_instrument(instrument)
        error = await refusal_of(venue, SNAPSHOT)
    assert isinstance(error, StepMismatchError)
    assert "set 1, or" in str(error)


async def test_an_instrument_that_changes_while_we_run_ends_nothing(
    autojump_clock: MockClock,
) -> None:
    """A maintenance comes at any time: what is open must be followed. New orders are refused."""
    async with open_venue() as venue, asking(venue) as asked:
        asked.ask(SNAPSHOT)
        await next_of(asked.arrivals, Kind.SNAPSHOT)
        changed = attrs.evolve(venue.exchange.instrument, lot_sz=Decimal(1), min_sz=Decimal(1))
        venue.exchange.change_instrument(changed)
        asked.ask(attrs.evolve(SNAPSHOT, request=2, check_account=True))
        assert (await snapshot_of(asked)).instrument.lot_sz == 1
