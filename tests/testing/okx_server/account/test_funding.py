"""Funding: when it is settled, what it costs, and where that shows."""

from __future__ import annotations

from decimal import Decimal

from trio.testing import MockClock

from oms_trio.testing.okx_server.exchange import FUNDING_PERIOD_MS
from tests.testing.okx_server.account.test_liquidation import buy, listed
from tests.testing.okx_server.clients import (
    ManualClock,
    RestClient,
    live_exchange,
    logged_in,
    net_exchange,
)

D = Decimal
INST_ID = "BTC-USDT-SWAP"


def test_it_is_settled_at_every_multiple_of_its_interval() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock, funding_rate=D("0.0001"), funding_every_ms=3_600_000)
    buy(exchange, "2")
    for _ in range(5):
        exchange.tick()
        clock.now_ms += 1_800_000
    exchange.tick()
    assert [row["subType"] for row in listed(exchange, "/account/bills", type="8")] == ["173"] * 2
    rates = RestClient(exchange).get("/public/funding-rate-history", instId=INST_ID)["data"]
    assert [int(row["fundingTime"]) // 3_600_000 for row in rates] == sorted(
        {int(row["fundingTime"]) // 3_600_000 for row in rates}, reverse=True
    )
    (rate,) = RestClient(exchange).get("/public/funding-rate", instId=INST_ID)["data"]
    assert int(rate["nextFundingTime"]) - int(rate["fundingTime"]) == 3_600_000
    assert FUNDING_PERIOD_MS == 8 * 3_600_000


async def test_a_funding_fee_is_pushed_by_account_and_position(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock, funding_rate=D("-0.0001"))
    buy(exchange, "2")
    cash = exchange.engine.ledger.cash_bal
    async with logged_in(exchange, "positions", "account") as client:
        for paid in ("0.134", "0.268"):
            exchange.fund()
            position, account = await client.next(), await client.next()
            assert position["data"][0]["fundingFee"] == paid
            assert position["data"][0]["pos"] == "2"
            assert D(account["data"][0]["details"][0]["cashBal"]) == cash + D(paid)
    bills = listed(exchange, "/account/bills", type="8")
    assert [(row["subType"], row["balChg"]) for row in bills] == [("174", "0.134")] * 2


def test_lagging_rest_does_not_have_a_funding_fee_yet() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    buy(exchange, "2")
    clock.now_ms += 10_000
    exchange.fund(D("0.0001"))
    exchange.faults.rest_lag_ms = 5000
    for _ in range(2):
        bills = listed(exchange, "/account/bills")
        (position,) = listed(exchange, "/account/positions", instId=INST_ID)
        returned = (len(bills), position["fundingFee"])
        lagging = exchange.ground_truth.at(clock() - 5_000_000_000)
        assert lagging is not None
        balance = listed(exchange, "/account/balance")[0]["details"][0]
        assert D(balance["cashBal"]) == lagging.cash_bal
        clock.now_ms += 5000
    assert returned == (2, "-0.134")
