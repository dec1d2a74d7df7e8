"""Faults of the link: slow, stalled, half-open and closed connections, and garbage."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio
from trio.testing import MockClock

from oms_trio.testing.okx_server.faults.actions import GARBAGE
from oms_trio.testing.okx_server.faults.catalog import inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.ws import connection
from tests.testing.okx_server.clients import connected, live_exchange, logged_in, order_args


async def test_a_held_link_lets_everything_through_in_order_when_it_is_over(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        inject(exchange, FaultEvent(FaultKind.STALL, duration_s=7))
        began = trio.current_time()
        for name in ("a", "b"):
            await client.send(
                {"id": name, "op": "order", "args": [order_args(clOrdId=name)]},
            )
        await client.nothing(6.9)
        assert len(exchange.ground_truth) == 0
        frames = [await client.next() for _ in range(4)]
        assert trio.current_time() - began == pytest.approx(7)
        assert [frame.get("id") for frame in frames] == ["a", None, "b", None]


async def test_a_stall_can_be_ended_early(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        exchange.faults.stall = True
        await client.send("ping")
        await client.nothing(3)
        exchange.faults.clear()
        await client.send("ping")
        assert [await client.text(), await client.text()] == ["pong", "pong"]


async def test_a_held_link_is_given_up_when_too_much_waits(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_WAITING", 5)
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange) as client:
        exchange.faults.stall = True
        for _ in range(6):
            await client.send("ping")
        assert await client.close_code() == 1006


async def test_a_half_open_link_is_dead_for_good_and_new_ones_are_well(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as dead:
        inject(exchange, FaultEvent(FaultKind.HALF_OPEN))
        async with logged_in(exchange, "orders") as well:
            assert (await well.op("order", order_args()))["code"] == "0"
            assert "arg" in await well.next()
        await dead.send("ping")
        await dead.nothing(100)


async def test_a_slow_link_keeps_the_order_of_its_frames(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        inject(exchange, FaultEvent(FaultKind.SLOW, duration_s=0.5, delay_s=2))
        began = trio.current_time()
        answer = await client.op("order", order_args())
        assert answer["op"] == "order"
        assert trio.current_time() - began == pytest.approx(2)
        assert "arg" in await client.next()
        began = trio.current_time()
        await client.send("ping")
        assert await client.text() == "pong"
        assert trio.current_time() == began


async def test_silence_loses_what_is_sent_meanwhile(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        inject(exchange, FaultEvent(FaultKind.SILENCE, duration_s=5))
        await client.send({"id": "a", "op": "order", "args": [order_args()]})
        await client.nothing(10)
        assert len(exchange.ground_truth) == 0
        assert (await client.op("order", order_args()))["code"] == "0"


async def test_every_connection_can_be_closed_with_any_code(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange) as client:
        inject(exchange, FaultEvent(FaultKind.CLOSE, code="4005"))
        assert await client.close_code() == 4005


async def test_garbage_is_repeatable_and_leaves_the_connection_open(
    autojump_clock: MockClock,
) -> None:
    received = []
    for _ in range(2):
        exchange = live_exchange(autojump_clock)
        async with connected(exchange) as client:
            inject(exchange, FaultEvent(FaultKind.GARBAGE, times=3))
            received.append([await client.socket.get_message() for _ in range(3)])
            await client.send("ping")
            assert await client.text() == "pong"
    assert received[0] == received[1]
    assert set(received[0]) <= set(GARBAGE)


async def test_an_operation_can_be_lost_with_its_socket_before_it_happens(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.cut_before_op = 1
    async with logged_in(exchange) as client:
        await client.send({"id": "a", "op": "order", "args": [order_args()]})
        assert await client.close_code() == 1006
    assert len(exchange.ground_truth) == 0


async def test_a_wrong_clock_rejects_logins_until_it_is_right_again(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    right_ms = exchange.now_ms
    inject(exchange, FaultEvent(FaultKind.CLOCK_SKEW, duration_s=10, delay_s=45))
    assert exchange.now_ms == right_ms + 45_000
    assert exchange.true_ms == right_ms
    await trio.sleep(10)
    assert exchange.now_ms == right_ms + 10_000


async def test_pushes_keep_their_order_on_a_link_that_is_slow_and_then_is_not(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        await client.op("order", order_args(clOrdId="a", sz="3"))
        await client.next()
        for delay_s in (1.0, 0.0, 0.3):
            exchange.faults.frame_delay_s = delay_s
            exchange.fill("a", Decimal(1), Decimal(66_900))
        sizes = [(await client.next())["data"][0]["accFillSz"] for _ in range(3)]
        assert sizes == ["1", "2", "3"]
