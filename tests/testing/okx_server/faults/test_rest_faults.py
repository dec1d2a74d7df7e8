"""Faults of REST: lost, late and wrong answers, and answers from the past."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults.catalog import HTML, inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.faults.switches import RestAnswer
from oms_trio.testing.okx_server.orders.request_checks import check_inst_id
from oms_trio.testing.okx_server.rest import router
from oms_trio.testing.okx_server.server import handle_stream
from tests.testing.okx_server.clients import (
    ManualClock,
    RestClient,
    headers_for,
    live_exchange,
    net_exchange,
    order_args,
)

INST_ID = "BTC-USDT-SWAP"
TARGET = "/api/v5/trade/order"
BODY = json.dumps(
    {
        "instId": INST_ID,
        "tdMode": "cross",
        "side": "buy",
        "ordType": "limit",
        "px": "66900",
        "sz": "1",
        "clOrdId": "a",
    }
)


def place(exchange: SimulatedExchange) -> router.RestResponse:
    headers = headers_for(exchange.account, "POST", TARGET, BODY, exchange.now_ms)
    return router.handle(exchange, "POST", TARGET, headers, BODY.encode())


def test_a_suspended_instrument_rejects_orders_and_has_its_state() -> None:
    exchange = net_exchange()
    assert place(exchange).status == 200
    inject(exchange, FaultEvent(FaultKind.SUSPEND))
    (answer,) = json.loads(place(exchange).body)["data"]
    assert answer["sCode"] == "51022"
    target = f"/api/v5/public/instruments?instType=SWAP&instId={INST_ID}"
    (instrument,) = json.loads(router.handle(exchange, "GET", target, {}, b"").body)["data"]
    assert instrument["state"] == "suspend"
    cancelled = exchange.cancel({"instId": INST_ID, "clOrdId": "a"}, check_inst_id)
    assert (cancelled.code, exchange.engine.book.pending) == ("0", [])


@pytest.mark.parametrize(
    ("kind", "status", "body", "booked"),
    [
        (FaultKind.REST_ERROR, 503, b'{"code":"50001","msg":"Service unavailable","data":[]}', 0),
        (FaultKind.REST_HTML, 502, HTML, 0),
        (FaultKind.REST_EMPTY, 200, b"", 1),
        (FaultKind.REST_DOWN, 503, b"", 0),
    ],
)
def test_an_answer_can_be_replaced_with_or_without_effect(
    kind: FaultKind, status: int, body: bytes, booked: int
) -> None:
    exchange = net_exchange()
    inject(exchange, FaultEvent(kind))
    response = place(exchange)
    assert (response.status, response.body) == (status, body)
    assert len(exchange.engine.book.pending) == booked
    exchange.faults.clear()
    assert json.loads(place(exchange).body)["data"][0]["sCode"] == ("51016" if booked else "0")


def test_any_answer_can_be_forced() -> None:
    exchange = net_exchange()
    exchange.faults.rest_answers.append(RestAnswer(418, b"tea", "text/plain"))
    assert place(exchange) == router.RestResponse(418, b"tea", "text/plain")


async def raw(exchange: SimulatedExchange) -> bytes:
    """Send a signed order over a stream and return the bytes that come back."""
    headers = headers_for(exchange.account, "POST", TARGET, BODY, exchange.now_ms)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle_stream, exchange, theirs)
        await ours.send_all(
            f"POST {TARGET} HTTP/1.1\r\nHost: sim\r\nContent-Length: {len(BODY)}\r\n{head}\r\n{BODY}".encode()
        )
        answer = await ours.receive_some()
        nursery.cancel_scope.cancel()
    return bytes(answer)


async def test_an_answer_can_be_lost_after_the_call_was_carried_out(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    inject(exchange, FaultEvent(FaultKind.REST_LOST))
    assert await raw(exchange) == b""
    assert [order.cl_ord_id for order in exchange.engine.book.pending] == ["a"]
    assert b"51016" in await raw(exchange)


@pytest.mark.parametrize("kind", [FaultKind.REST_SLOW, FaultKind.STALL])
async def test_an_answer_can_be_late(kind: FaultKind, autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    inject(exchange, FaultEvent(kind, duration_s=4, delay_s=4))
    began = trio.current_time()
    assert b'"sCode":"0"' in await raw(exchange)
    assert trio.current_time() - began == pytest.approx(4, abs=0.1)


def test_a_wrong_clock_rejects_signatures_and_shows_at_the_time_endpoint() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    inject(exchange, FaultEvent(FaultKind.CLOCK_SKEW, delay_s=-31))
    headers = headers_for(exchange.account, "POST", TARGET, BODY, clock.now_ms)
    response = router.handle(exchange, "POST", TARGET, headers, BODY.encode())
    assert json.loads(response.body)["code"] == "50102"
    answer = json.loads(router.handle(exchange, "GET", "/api/v5/public/time", {}, b"").body)
    assert int(answer["data"][0]["ts"]) == clock.now_ms - 31_000


def test_rest_can_return_the_past_while_the_present_goes_on() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)

    def account_rows() -> tuple[Any, ...]:
        order = client.get("/trade/order", instId=INST_ID, clOrdId="a")
        position = client.get("/account/positions", instId=INST_ID)["data"]
        return (
            order["data"][0]["state"] if order["data"] else order["code"],
            len(client.get("/trade/orders-pending")["data"]),
            len(client.get("/trade/fills")["data"]),
            position[0]["pos"] if position else None,
            client.get("/account/balance")["data"][0]["details"][0]["cashBal"],
        )

    exchange.faults.rest_lag_ms = 2500
    seen = []
    for step in range(6):
        if step == 0:
            exchange.place(order_args(clOrdId="a", sz="2"), lambda *_: None)
        elif step in {1, 2}:
            exchange.fill("a", Decimal(1), Decimal(66_900))
        seen.append(account_rows())
        clock.now_ms += 1000
    before = ("51603", 0, 0, None, "10000")
    assert seen == [
        before,
        before,
        before,
        ("live", 1, 0, None, "10000"),
        ("partially_filled", 1, 1, "1", "9999.8662"),
        ("filled", 0, 2, "2", "9999.7324"),
    ]
    exchange.faults.rest_lag_ms = 0
    assert account_rows() == seen[-1]


def test_a_reused_client_id_leads_to_the_order_of_that_time() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    for _ in range(2):
        exchange.place(order_args(clOrdId="a"), lambda *_: None)
        exchange.fill("a", Decimal(1), Decimal(66_900))
        clock.now_ms += 1000
    first, second = exchange.ground_truth.orders()
    asked = []
    for lag_ms in (1500, 500):
        exchange.faults.rest_lag_ms = lag_ms
        asked.append(client.get("/trade/order", instId=INST_ID, clOrdId="a")["data"][0]["ordId"])
    assert asked == [first.ord_id, second.ord_id]


async def test_new_connections_can_be_refused_for_a_while(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    inject(exchange, FaultEvent(FaultKind.REFUSE_CONNECTIONS, duration_s=3))
    assert await raw(exchange) == b""
    await trio.sleep(3)
    assert b'"sCode":"0"' in await raw(exchange)


async def test_a_call_that_meets_silence_is_lost_and_never_answered(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    inject(exchange, FaultEvent(FaultKind.SILENCE, duration_s=2))
    with trio.move_on_after(60) as waited:
        await raw(exchange)
    assert waited.cancelled_caught
    assert len(exchange.ground_truth) == 0
    assert b'"sCode":"0"' in await raw(exchange)
