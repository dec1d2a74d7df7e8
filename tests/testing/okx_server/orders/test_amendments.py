"""Amendments: accepted, rejected at once, rejected later by a push, and cancelling the order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from trio.testing import MockClock

from oms_trio.testing.okx_server.events import OperationResult
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.orders.request_checks import check_inst_id_code
from tests.testing.okx_server.clients import live_exchange, logged_in, net_exchange, order_args


def resting(mode: MatchingMode = MatchingMode.MANUAL, **changes: Any) -> SimulatedExchange:
    exchange = net_exchange(mode)
    placed = exchange.place(order_args(clOrdId="a", **changes), check_inst_id_code)
    assert placed.code == "0"
    return exchange


def amend(exchange: SimulatedExchange, **changes: Any) -> OperationResult:
    args = {"instIdCode": 10459, "clOrdId": "a", "reqId": "r1"} | changes
    return exchange.amend(args, check_inst_id_code)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"newSz": "2"}, "0"),
        ({"newPx": "66000.5"}, "51006"),
        ({"newPx": "67670.1", "pxAmendType": "1"}, "0"),
        ({"newPx": "66950.05"}, "51150"),
        ({"newSz": "0.015"}, "51121"),
        ({"newSz": "0.001"}, "51020"),
        ({"newSz": "1600"}, "51502"),
        ({}, "51500"),
        ({"newSz": "2", "clOrdId": "b"}, "51503"),
        ({"newSz": "2", "reqId": "with-hyphen"}, "51000"),
    ],
)
def test_one_amendment_of_a_resting_buy(changes: dict[str, Any], code: str) -> None:
    # A buy may be as cheap as it likes: only a sell is refused below the band.
    side = "sell" if changes.get("newPx") == "66000.5" else "buy"
    exchange = resting(side=side, px="67100" if side == "sell" else "66900")
    assert amend(exchange, **changes).code == code


@pytest.mark.parametrize("cancels", [False, True])
def test_a_failed_amendment_cancels_the_order_on_request(*, cancels: bool) -> None:
    exchange = resting()
    outcome = amend(exchange, newSz="1600", cxlOnFail=cancels)
    assert (outcome.code, outcome.sub_code) == ("51502", "51502_1001")
    assert exchange.ground_truth.orders()[0].state == ("canceled" if cancels else "live")


@pytest.mark.parametrize(
    ("cancels", "state", "result"), [(False, "live", "-1"), (True, "canceled", "1")]
)
async def test_an_amended_post_only_order_that_would_take_is_rejected_by_a_push(
    state: str, result: str, autojump_clock: MockClock, *, cancels: bool
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        await client.op("order", order_args(clOrdId="a", ordType="post_only"))
        await client.next()
        target = {"instIdCode": 10459, "clOrdId": "a", "newPx": "67000.1", "reqId": "r1"}
        answer = await client.op("amend-order", target | {"cxlOnFail": cancels})
        assert answer["data"][0]["sCode"] == "0"
        push = (await client.next())["data"][0]
        pushed = (push["state"], push["px"], push["reqId"], push["amendResult"], push["code"])
        assert pushed == (state, "66900", "r1", result, "51511")
        assert push["amendSource"] == "1"
        assert push["msg"]


def test_an_order_amended_to_the_market_trades_at_once() -> None:
    exchange = resting(MatchingMode.AUTO)
    assert amend(exchange, newPx="67000.1").code == "0"
    (fill,) = exchange.ground_truth.fills()
    assert (fill.exec_type, fill.px) == ("T", Decimal("67000.1"))


def test_reduce_only_orders_are_amended_within_the_position() -> None:
    exchange = net_exchange()
    exchange.place(order_args(clOrdId="long"), check_inst_id_code)
    exchange.fill("long", Decimal(1), Decimal(66_900))
    closing = order_args(clOrdId="a", side="sell", px="67100", sz="0.5", reduceOnly=True)
    exchange.place(closing, check_inst_id_code)
    assert amend(exchange, newSz="1").code == "0"
    assert amend(exchange, newSz="1.01").code == "51522"
    exchange.liquidate()
    assert amend(exchange, newSz="0.6").code == "51509"


async def test_one_batch_amends_an_order_once(autojump_clock: MockClock) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        await client.op("order", order_args(clOrdId="a"))
        target = {"instIdCode": 10459, "clOrdId": "a", "newSz": "2"}
        answer = await client.op("batch-amend-orders", target, target)
        assert (answer["code"], [row["sCode"] for row in answer["data"]]) == ("2", ["0", "51512"])
