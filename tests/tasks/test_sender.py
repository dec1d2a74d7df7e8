"""The senders: within the exchange's limits, within the action's age, and never in silence."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from oms_trio.core.effects import CancelOrders, PlaceOrder
from oms_trio.core.events import CancelAnswer, OrderAnswer, Verdict
from oms_trio.core.model import ClOrdId, ExchangeMs, OrderType, OrdId, RejectReason, Side
from oms_trio.okx.errors import SessionLostError
from oms_trio.okx.pending_requests import PendingRequests
from oms_trio.okx.rest import Rest
from oms_trio.okx.websocket import OkxConnection
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import JournaledInput
from oms_trio.settings.clock import Clock, virtual_clock
from oms_trio.tasks.sender import send_cancels, send_orders
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults.switches import RestAnswer
from tests.tasks.venue import CONTEXT, START_NS, Venue, open_venue, waiting_in

SECOND = 1_000_000_000
CODE = 10459


class Recorder(OkxConnection):
    """A link that keeps what is sent and when; ``broken`` sends are lost on the way."""

    def __init__(self) -> None:  # it stands for an open connection, and needs none
        self.sent: list[tuple[float, dict[str, Any]]] = []
        self.broken = 0

    async def send(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append((trio.current_time(), json.loads(text)))
        if self.broken:
            self.broken -= 1
            raise SessionLostError("gone")


class Unused(Rest):
    """REST that nothing is sent by: there is a session."""

    def __init__(self) -> None:
        pass


@attrs.define
class Counter:
    """Both senders at work."""

    line: PendingRequests
    link: Recorder
    orders: trio.MemorySendChannel[PlaceOrder]
    cancels: trio.MemorySendChannel[CancelOrders]
    arrivals: trio.MemoryReceiveChannel[JournaledInput]
    offset_ns: int = 0
    """How far the exchange's clock is ahead."""
    send_generation: int = 0

    def place(
        self,
        name: str,
        age_s: float = 5,
        *,
        reduce_only: bool = False,
        inst_id_code: int | None = CODE,
    ) -> None:
        """Hand an order over whose action expires ``age_s`` from now."""
        expires_ns = START_NS + round((trio.current_time() + age_s) * SECOND)
        order = PlaceOrder(
            ClOrdId(name),
            Side.SELL if reduce_only else Side.BUY,
            OrderType.LIMIT,
            Decimal(67_000),
            Decimal("0.1"),
            expires_ns,
            reduce_only,
            exp_time_ms=ExchangeMs((expires_ns + self.offset_ns) // 1_000_000),
            inst_id_code=inst_id_code,
        )
        self.orders.send_nowait(order)

    def cancel(self, count: int) -> None:
        """Hand over the wish to cancel some orders."""
        names = tuple((ClOrdId(f"c{n}"), OrdId(str(n))) for n in range(count))
        self.cancels.send_nowait(CancelOrders(names, CODE))

    def answers(self) -> list[OrderAnswer | CancelAnswer]:
        """What the senders have answered themselves."""
        told = [one for arrival in waiting_in(self.arrivals) for one in arrival.events]
        return [one for one in told if isinstance(one, OrderAnswer | CancelAnswer)]


@asynccontextmanager
async def counter(
    offset_ns: int = 0, rest: Rest | None = None, clock: Clock | None = None
) -> AsyncIterator[Counter]:
    """Run both senders until what was handed over is sent."""
    inbox, arrivals = trio.open_memory_channel[JournaledInput](math.inf)
    orders, orders_out = trio.open_memory_channel[PlaceOrder](math.inf)
    cancels, cancels_out = trio.open_memory_channel[CancelOrders](math.inf)
    link = Recorder()
    line = PendingRequests(link)
    clock = clock or virtual_clock(START_NS)
    rest = rest or Unused()
    async with trio.open_nursery() as nursery:
        rig = Counter(line, link, orders, cancels, arrivals, offset_ns)
        send = partial(
            send_orders,
            requests=line,
            rest=rest,
            inbox=inbox,
            clock=clock,
            tag="omstrio",
            is_withdrawn=lambda order: order.send_generation != rig.send_generation,
        )
        nursery.start_soon(send, orders_out)
        cancel = partial(send_cancels, requests=line, rest=rest, inbox=inbox)
        nursery.start_soon(cancel, cancels_out)
        with orders, cancels:
            yield rig


async def test_sixty_orders_leave_at_once_and_the_next_when_there_is_room(
    autojump_clock: MockClock,
) -> None:
    async with counter() as desk:
        for number in range(130):
            desk.place(f"o{number}")
    times = [at for at, _ in desk.link.sent]
    assert len(times) == 130
    assert times[59] - times[0] == pytest.approx(0, abs=1e-6)
    assert times[60] - times[0] == pytest.approx(2)
    assert times[120] - times[0] == pytest.approx(4)


async def test_an_order_that_finds_no_room_in_time_is_answered_at_once(
    autojump_clock: MockClock,
) -> None:
    """Who cannot go before its expiry neither waits nor takes the place of others."""
    async with counter() as desk:
        for number in range(60):
            desk.place(f"o{number}")
        desk.place("late", age_s=1.5)
        desk.place("patient", age_s=5)
        await trio.sleep(1)
        (answer,) = desk.answers()
        assert isinstance(answer, OrderAnswer)
        assert (answer.cl_ord_id, answer.verdict) == ("late", Verdict.REJECTED)
        assert answer.reason is RejectReason.RATE_LIMITED
    ((at, frame),) = desk.link.sent[60:]
    assert frame["args"][0]["clOrdId"] == "patient"
    assert at == pytest.approx(2)


async def test_an_order_that_is_withdrawn_while_it_waits_is_not_sent(
    autojump_clock: MockClock,
) -> None:
    async with counter() as desk:
        for number in range(61):
            desk.place(f"o{number}")
        await trio.sleep(1)
        desk.send_generation += 1
    (answer,) = desk.answers()
    assert isinstance(answer, OrderAnswer)
    assert (answer.cl_ord_id, answer.verdict) == ("o60", Verdict.REJECTED)
    assert answer.reason is RejectReason.PAUSED
    assert len(desk.link.sent) == 60


async def test_an_expired_order_is_not_sent(autojump_clock: MockClock) -> None:
    async with counter() as desk:
        desk.place("old", age_s=0)
    (answer,) = desk.answers()
    assert isinstance(answer, OrderAnswer)
    assert (answer.verdict, answer.reason) == (Verdict.REJECTED, RejectReason.STALE)
    assert not desk.link.sent


async def test_without_a_session_an_order_may_be_tried_again(autojump_clock: MockClock) -> None:
    async with counter() as desk:
        desk.line.connection = None
        desk.place("o")
    (answer,) = desk.answers()
    assert isinstance(answer, OrderAnswer)
    assert (answer.verdict, answer.reason) == (Verdict.RETRY, RejectReason.NOT_READY)


async def test_an_order_on_a_breaking_link_is_left_to_the_session_to_report(
    autojump_clock: MockClock,
) -> None:
    """Neither refused nor sent again: it may have arrived."""
    async with counter() as desk:
        desk.link.broken = 1
        desk.place("o")
        desk.place("next")
    assert desk.answers() == []
    assert [request.names for request in desk.line.lost(desk.link)] == [("o",), ("next",)]


async def test_orders_carry_the_expiry_on_the_exchanges_clock(autojump_clock: MockClock) -> None:
    async with counter(offset_ns=-7 * SECOND) as desk:
        desk.place("o", age_s=5)
    ((_, frame),) = desk.link.sent
    assert int(frame["expTime"]) == START_NS // 1_000_000 - 2000
    assert frame["args"][0]["tag"] == "omstrio"


async def test_cancels_go_in_batches_of_twenty_and_one_alone_as_itself(
    autojump_clock: MockClock,
) -> None:
    async with counter() as desk:
        desk.cancel(45)
        desk.cancel(1)
    ops = [(frame["op"], len(frame["args"])) for _, frame in desk.link.sent]
    assert ops == [
        ("batch-cancel-orders", 20),
        ("batch-cancel-orders", 20),
        ("batch-cancel-orders", 5),
        ("cancel-order", 1),
    ]
    named = [arg["ordId"] for _, frame in desk.link.sent[:3] for arg in frame["args"]]
    assert named == [str(n) for n in range(45)]


async def test_three_hundred_cancels_in_batches_fit_into_two_seconds(
    autojump_clock: MockClock,
) -> None:
    async with counter() as desk:
        desk.cancel(320)
    times = [at for at, _ in desk.link.sent]
    assert times[14] - times[0] == pytest.approx(0, abs=1e-6)
    assert times[15] - times[0] == pytest.approx(2)


async def test_a_batch_that_is_lost_does_not_drop_the_rest(autojump_clock: MockClock) -> None:
    async with counter() as desk:
        desk.link.broken = 1
        desk.cancel(45)
    assert [len(frame["args"]) for _, frame in desk.link.sent] == [20, 20, 5]
    assert sum(len(request.names) for request in desk.line.lost(desk.link)) == 45


async def test_orders_that_wait_for_room_do_not_hold_up_a_cancel(
    autojump_clock: MockClock,
) -> None:
    async with counter() as desk:
        for number in range(61):
            desk.place(f"o{number}")
        await trio.sleep(0.1)
        desk.cancel(1)
        await trio.sleep(0.1)
        assert len(desk.link.sent) == 61
        assert desk.link.sent[-1][1]["op"] == "cancel-order"


@asynccontextmanager
async def without_session(venue: Venue) -> AsyncIterator[Counter]:
    """Run both senders with REST, and no session."""
    async with venue.open_rest() as rest, counter(rest=rest, clock=venue.clock) as desk:
        desk.line.connection = None
        yield desk


async def test_without_a_session_cancels_go_by_rest_and_are_answered_one_by_one(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue:
        exchange = venue.exchange
        orders = [place_on(exchange, f"o{number}") for number in range(25)]
        exchange.fill(orders[3], Decimal(1), Decimal(66_900))
        async with without_session(venue) as desk:
            names = tuple((ClOrdId(f"o{number}"), ord_id) for number, ord_id in enumerate(orders))
            desk.cancels.send_nowait(CancelOrders(names, CODE))
        verdicts = {answer.cl_ord_id: answer.verdict for answer in desk.answers()}
        assert len(verdicts) == 25
        assert verdicts.pop(ClOrdId("o3")) is Verdict.GONE
        assert set(verdicts.values()) == {Verdict.ACCEPTED}
        assert not exchange.engine.book.pending
        posts = [call for call in venue.rest_calls if call.startswith("POST")]
        assert posts == ["POST /api/v5/trade/cancel-batch-orders"] * 2


async def test_without_a_session_an_order_that_reduces_the_position_goes_by_rest(
    autojump_clock: MockClock,
) -> None:
    async with open_venue() as venue:
        bought = place_on(venue.exchange, "bought")
        venue.exchange.fill(bought, Decimal(1), Decimal(66_900))
        async with without_session(venue) as desk:
            desk.place("flat", reduce_only=True)
            desk.place("other")
        answers = {answer.cl_ord_id: answer for answer in desk.answers()}
        assert answers[ClOrdId("other")].verdict is Verdict.RETRY
        placed = answers[ClOrdId("flat")]
        assert isinstance(placed, OrderAnswer)
        assert placed.verdict is Verdict.ACCEPTED
        order = venue.exchange.engine.book.find(placed.ord_id or "", "")
        assert order is not None
        assert (order.cl_ord_id, order.tag, order.reduce_only) == ("flat", "omstrio", True)


async def test_before_the_instrument_is_known_both_senders_use_rest_beside_a_session(
    autojump_clock: MockClock,
) -> None:
    """The WebSocket names the instrument by its code of the day, REST by its name."""
    async with open_venue() as venue:
        bought = place_on(venue.exchange, "bought")
        venue.exchange.fill(bought, Decimal(1), Decimal(66_900))
        resting = place_on(venue.exchange, "resting")
        async with venue.open_rest() as rest, counter(rest=rest, clock=venue.clock) as desk:
            desk.place("flat", reduce_only=True, inst_id_code=None)
            desk.place("other", inst_id_code=None)
            desk.cancels.send_nowait(CancelOrders(((ClOrdId("resting"), resting),)))
        verdicts = {answer.cl_ord_id: answer.verdict for answer in desk.answers()}
        assert verdicts == {
            "flat": Verdict.ACCEPTED,
            "other": Verdict.RETRY,
            "resting": Verdict.ACCEPTED,
        }
        assert not desk.link.sent
        posts = [call for call in venue.rest_calls if call.startswith("POST")]
        assert sorted(posts) == [
            "POST /api/v5/trade/cancel-batch-orders",
            "POST /api/v5/trade/order",
        ]


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (RestAnswer(200, b'{"code":"50011","msg":"slow down","data":[]}'), Verdict.RETRY),
        (
            RestAnswer(
                200,
                b'{"code":"1","msg":"All operations failed","data":[{"clOrdId":"flat","ordId":"",'
                b'"sCode":"51169","sMsg":"no position"}]}',
            ),
            Verdict.REJECTED,
        ),
        (RestAnswer(500, b'{"code":"51149","msg":"timed out","data":[]}'), Verdict.UNKNOWN),
        (RestAnswer(502, b"<html>"), Verdict.UNKNOWN),
        (RestAnswer(200, b"<html>"), Verdict.UNKNOWN),
        (RestAnswer(200, b'{"code":"0","msg":"","data":[]}'), Verdict.UNKNOWN),
    ],
)
async def test_an_order_by_rest_has_three_outcomes_too(
    autojump_clock: MockClock, fault: RestAnswer, verdict: Verdict
) -> None:
    async with open_venue() as venue:
        venue.exchange.faults.rest_answers.append(fault)
        async with without_session(venue) as desk:
            desk.place("flat", reduce_only=True)
        arrivals = waiting_in(desk.arrivals)
        (arrival,) = arrivals
        (answer,) = arrival.events
        assert isinstance(answer, OrderAnswer)
        assert (answer.cl_ord_id, answer.verdict) == ("flat", verdict)
        again = journaled_inputs.read(arrival.kind.value, arrival.raw, arrival.context, CONTEXT)
        assert again.events == (answer,)


async def test_an_order_by_rest_cannot_come_alive_after_its_expiry(
    autojump_clock: MockClock,
) -> None:
    """The exchange's clock is ahead, and nobody has measured it: the expiry has passed there."""
    async with open_venue() as venue:
        bought = place_on(venue.exchange, "bought")
        venue.exchange.fill(bought, Decimal(1), Decimal(66_900))
        venue.exchange.faults.clock_skew_ms = 10_000
        async with without_session(venue) as desk:
            desk.place("flat", reduce_only=True)
        (answer,) = desk.answers()
        assert (answer.verdict, answer.code) == (Verdict.REJECTED, "50036")


async def test_a_rest_call_that_hangs_holds_up_no_other(autojump_clock: MockClock) -> None:
    async with open_venue() as venue:
        venue.exchange.faults.rest_delay_s = 9
        async with without_session(venue) as desk:
            desk.cancel(60)
            desk.place("a", reduce_only=True)
            desk.place("b", reduce_only=True)
        assert len(desk.answers()) == 62
        assert trio.current_time() < 10


def place_on(exchange: SimulatedExchange, name: str) -> OrdId:
    """Let an order rest on the exchange."""
    args = {
        "instIdCode": exchange.instrument.inst_id_code,
        "tdMode": "cross",
        "side": "buy",
        "ordType": "limit",
        "px": "66900",
        "sz": "1",
        "clOrdId": name,
        "tag": "omstrio",
    }
    outcome = exchange.place(args, lambda *_: None)
    assert outcome.code == "0", outcome
    return OrdId(outcome.ord_id)
