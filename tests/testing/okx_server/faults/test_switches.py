"""The fault switches, as a client observes them."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio
from trio.testing import (
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.orders.request_checks import check_inst_id_code
from oms_trio.testing.okx_server.rest import router
from oms_trio.testing.okx_server.server import handle_stream
from oms_trio.testing.okx_server.ws import websocket
from tests.testing.okx_server.clients import (
    INST,
    RestClient,
    connected,
    live_exchange,
    logged_in,
    net_exchange,
    order_args,
)

REST_ORDER = {
    "instId": "BTC-USDT-SWAP",
    "tdMode": "cross",
    "side": "buy",
    "ordType": "limit",
    "px": "66900",
    "sz": "1",
}


async def test_a_cut_loses_every_connection_without_a_close_frame(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange) as one, logged_in(exchange) as two:
        exchange.faults.cut()
        for client in (one, two):
            assert await client.close_code() == 1006


async def test_refused_connections_get_no_handshake(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.refuse_connections = True
    client_side, server_side = memory_stream_pair()
    await client_side.send_all(b"GET /api/v5/public/time HTTP/1.1\r\nHost: sim\r\n\r\n")
    await handle_stream(exchange, server_side)
    assert await client_side.receive_some() == b""


async def test_an_upgrade_is_announced_a_minute_ahead_and_spares_new_connections(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange) as old:
        exchange.faults.announce_upgrade()
        notice = await old.next()
        assert (notice["event"], notice["code"]) == ("notice", "64008")
        async with logged_in(exchange) as new:
            for _ in range(3):
                await trio.sleep(20)
                for client in (old, new):
                    await client.send("ping")
            assert [await old.text(), await old.text()] == ["pong", "pong"]
            assert await old.close_code() == 4006
            assert (await new.text()) == "pong"


async def test_a_silent_connection_stays_open(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        exchange.faults.silence = True
        await client.send("ping")
        await client.send({"id": "a", "op": "order", "args": [order_args()]})
        await client.nothing(80)
        assert len(exchange.ground_truth) == 0
        exchange.faults.silence = False
        await client.send("ping")
        assert await client.text() == "pong"


async def test_a_lost_ack_leaves_the_order_and_its_push(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.drop_acks = 1
    async with logged_in(exchange, "orders") as client:
        first = await client.op("order", order_args(clOrdId="a"))
        assert first["data"][0]["clOrdId"] == "a"
        assert first["arg"]["channel"] == "orders"
        assert (await client.op("order", order_args(clOrdId="b")))["op"] == "order"


async def test_a_socket_lost_after_an_operation_has_carried_it_out(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.cut_after_op = 1
    async with logged_in(exchange) as client:
        await client.send({"id": "a", "op": "order", "args": [order_args(clOrdId="a")]})
        assert await client.close_code() == 1006
    assert [order.cl_ord_id for order in exchange.engine.book.pending] == ["a"]


async def test_a_push_can_come_before_its_ack(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.push_before_ack = True
    async with logged_in(exchange, "orders") as client:
        assert "arg" in await client.op("order", order_args())
        assert (await client.next())["op"] == "order"


async def test_an_ack_can_be_late(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.ack_delay_s = 3
    async with logged_in(exchange, "orders") as client:
        began = trio.current_time()
        assert "arg" in await client.op("order", order_args())
        assert (await client.next())["op"] == "order"
        assert trio.current_time() - began == pytest.approx(3)


async def test_a_push_can_be_lost_or_sent_twice_with_another_time(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.drop_order_pushes = 1
    async with logged_in(exchange, "orders") as client:
        await client.op("order", order_args(clOrdId="a"))
        exchange.faults.repeat_order_pushes = 1
        exchange.fill("a", Decimal(1), Decimal(66_900))
        first = (await client.next())["data"][0]
        again = (await client.next())["data"][0]
        assert first["state"] == "filled"
        assert int(again.pop("uTime")) == int(first.pop("uTime")) + 1
        assert again == first


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("code", ["50001", "50004", "51149", "64007", "50011"])
async def test_a_submit_can_be_answered_by_any_code_booked_or_not(
    code: str, autojump_clock: MockClock, *, executed: bool
) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.answer_submits(code, executed=executed)
    async with logged_in(exchange) as client:
        answer = await client.op("order", order_args(clOrdId="a"))
        assert (answer["code"], answer["data"]) == (code, [])
        assert len(exchange.engine.book.pending) == executed
        assert (await client.op("order", order_args(clOrdId="b")))["code"] == "0"


@pytest.mark.parametrize(
    ("code", "status"), [("50001", 503), ("50004", 400), ("51149", 500), ("50011", 429)]
)
def test_forced_answers_have_their_status_on_rest(code: str, status: int) -> None:
    exchange = net_exchange()
    exchange.faults.answer_submits(code)
    client = RestClient(exchange)
    assert client.post("/trade/order", REST_ORDER)["code"] == code
    assert client.status == status
    assert client.post("/trade/order", REST_ORDER)["code"] == "0"


async def test_a_client_that_does_not_read_is_cut_off(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "OUTBOX_SIZE", 8)
    exchange = live_exchange(autojump_clock)
    async with connected(exchange, streams=lockstep_stream_pair) as client:
        await client.login()
        await client.subscribe({"channel": "orders", **INST})
        for _ in range(20):
            exchange.place(order_args(), check_inst_id_code)
            await wait_all_tasks_blocked()
        assert await client.close_code() == 1006
    assert exchange.channel_connections == {"orders": 0}


def test_rest_can_be_down_altogether() -> None:
    exchange: SimulatedExchange = net_exchange()
    exchange.faults.rest_status = 502
    response = router.handle(exchange, "GET", "/api/v5/public/time", {}, b"")
    assert (response.status, response.body) == (502, b"")


def test_rest_can_fail_a_few_times_without_effect() -> None:
    exchange = net_exchange()
    exchange.faults.rest_failures = 2
    target = "/api/v5/public/time"
    statuses = [router.handle(exchange, "GET", target, {}, b"").status for _ in range(3)]
    assert statuses == [503, 503, 200]
