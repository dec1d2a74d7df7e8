"""REST endpoints of the account: sizes, fees, bills and past positions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from oms_trio.testing.okx_server.auth import ExchangeAccount, draw_uid
from oms_trio.testing.okx_server.exchange import FUNDING_PERIOD_MS, SimulatedExchange
from tests.testing.okx_server.clients import ManualClock, RestClient, net_exchange, order_args

INST_ID = "BTC-USDT-SWAP"
SWAP = {"instType": "SWAP", "instId": INST_ID}


def trade(exchange: SimulatedExchange, side: str, sz: str, px: str) -> None:
    name = f"o{len(exchange.ground_truth)}"
    args = order_args(side=side, sz=sz, ordType="market", clOrdId=name)
    assert exchange.place(args, lambda *_: None).code == "0"
    exchange.fill(name, Decimal(sz), Decimal(px))


def rows(client: RestClient, path: str, **query: str) -> list[dict[str, Any]]:
    answer = client.get(path, **query)
    assert answer["code"] == "0"
    data: list[dict[str, Any]] = answer["data"]
    return data


def test_a_position_has_one_row_from_flat_to_flat() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    trade(exchange, "buy", "2", "67000")
    assert rows(client, "/account/positions-history") == []
    clock.now_ms += 1000
    trade(exchange, "sell", "0.5", "67100")
    (part,) = rows(client, "/account/positions-history", **SWAP)
    fields = ("type", "direction", "closeTotalPos", "closeAvgPx", "openMaxPos", "pnl")
    assert [part[key] for key in fields] == ["1", "long", "0.5", "67100", "2", "0.5"]
    clock.now_ms += 1000
    trade(exchange, "sell", "2.5", "67200")
    flipped, *rest = rows(client, "/account/positions-history")
    assert rest == []
    assert [flipped[key] for key in fields] == ["2", "long", "2", "67175", "2", "3.5"]
    clock.now_ms += 1000
    trade(exchange, "buy", "1", "67000")
    short, long = rows(client, "/account/positions-history")
    assert (short["direction"], short["openAvgPx"], short["pnl"]) == ("short", "67200", "2")
    assert long == flipped
    assert rows(client, "/account/positions-history", after=short["uTime"]) == [long]
    assert rows(client, "/account/positions-history", type="3") == []
    fees = sum(Decimal(row["fee"]) for row in (short, long))
    assert fees == sum(fill.fee for fill in exchange.ground_truth.fills())
    assert Decimal(short["realizedPnl"]) == Decimal(short["pnl"]) + Decimal(short["fee"])


def test_a_liquidated_and_a_deleveraged_position_have_their_close_type() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    trade(exchange, "buy", "2", "67000")
    exchange.deleverage(Decimal(1))
    assert rows(client, "/account/positions-history")[0]["type"] == "5"
    adl = rows(client, "/trade/fills")[0]
    assert int(adl["tradeId"]) < 0
    assert (adl["subType"], adl["execType"], adl["clOrdId"], adl["fee"]) == ("128", "", "", "0")
    exchange.liquidate()
    assert rows(client, "/account/positions-history")[0]["type"] == "3"
    assert rows(client, "/trade/fills")[0]["subType"] == "107"


def test_bills_add_up_to_the_cash() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock, funding_rate=Decimal("0.0001"))
    client = RestClient(exchange)
    trade(exchange, "buy", "2", "67000")
    exchange.tick()
    clock.now_ms += FUNDING_PERIOD_MS
    exchange.tick()
    exchange.tick()
    trade(exchange, "sell", "2", "67100")
    bills = rows(client, "/account/bills", **SWAP)
    assert [row["type"] for row in bills] == ["2", "8", "2"]
    change = sum(Decimal(row["balChg"]) for row in bills)
    assert Decimal(bills[0]["bal"]) == 10_000 + change == exchange.engine.ledger.cash_bal
    (funding,) = rows(client, "/account/bills", type="8")
    assert (funding["subType"], funding["balChg"]) == ("173", "-0.134")
    assert rows(client, "/account/bills", after=bills[1]["billId"]) == [bills[2]]
    (closed,) = rows(client, "/account/positions-history")
    assert closed["fundingFee"] == "-0.134"


def test_the_largest_size_is_accepted_and_one_lot_more_is_not() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    (sizes,) = rows(client, "/account/max-size", instId=INST_ID, tdMode="cross", px="66900")
    largest = Decimal(sizes["maxBuy"])
    args = order_args(px="66900", sz=str(largest + exchange.instrument.lot_sz))
    refused = exchange.place(args, lambda *_: None).code
    assert refused in {"51008", "51004"}
    assert exchange.place(args | {"sz": str(largest)}, lambda *_: None).code == "0"


def test_closing_is_always_possible() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    trade(exchange, "buy", "100", "67000")
    query = {"instId": INST_ID, "tdMode": "cross", "reduceOnly": "true"}
    (sizes,) = rows(client, "/account/max-avail-size", **query)
    assert sizes == {"instId": INST_ID, "availBuy": "0", "availSell": "100"}
    assert client.get("/account/max-size", instId=INST_ID, tdMode="cash")["code"] == "51000"
    assert client.get("/account/max-size", **query, px="wide")["code"] == "51000"


def test_a_position_beyond_the_limit_of_its_leverage_is_rejected() -> None:
    exchange = net_exchange(account=net_exchange().account.__class__(balance=Decimal(1_000_000)))
    args = order_args(sz="1000.01")
    outcome = exchange.place(args, lambda *_: None)
    assert (outcome.code, outcome.sub_code) == ("51004", "51004_1103")
    assert exchange.place(args | {"sz": "1000"}, lambda *_: None).code == "0"
    huge = order_args(sz="30000")
    assert exchange.place(huge, lambda *_: None).code == "51185"


def test_fees_tiers_funding_and_rate_limit_are_returned() -> None:
    client = RestClient(net_exchange())
    (fee,) = rows(client, "/account/trade-fee", instType="SWAP", instFamily="BTC-USDT")
    assert fee["feeGroup"] == [{"groupId": "4", "maker": "-0.0002", "taker": "-0.0005"}]
    tiers = rows(
        client, "/public/position-tiers", instType="SWAP", tdMode="cross", instFamily="BTC-USDT"
    )
    assert (tiers[0]["maxSz"], tiers[0]["mmr"], tiers[0]["maxLever"]) == ("1000", "0.004", "100")
    assert [row["minSz"] for row in tiers[1:]] == [row["maxSz"] for row in tiers[:-1]]
    (funding,) = rows(client, "/public/funding-rate", instId=INST_ID)
    assert int(funding["fundingTime"]) % FUNDING_PERIOD_MS == 0
    (limit,) = rows(client, "/trade/account-rate-limit")
    assert limit["accRateLimit"] == "1000"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/public/instruments", "50014"),
        ("/public/mark-price", "50014"),
        ("/public/position-tiers?instType=SWAP", "50014"),
        ("/public/position-tiers?instType=SWAP&tdMode=cross", "50014"),
        ("/public/funding-rate", "50014"),
        ("/account/trade-fee", "50014"),
        ("/trade/orders-history", "50014"),
        ("/trade/orders-history-archive", "50014"),
        ("/trade/fills-history", "50014"),
    ],
)
def test_a_missing_parameter_is_rejected(path: str, code: str) -> None:
    assert RestClient(net_exchange()).get(path)["code"] == code


def test_calls_of_other_account_modes_are_rejected() -> None:
    client = RestClient(net_exchange())
    for path in ("/trade/mass-cancel", "/trade/order-precheck"):
        assert client.post(path, {"instId": INST_ID})["code"] == "51010"


def test_the_archive_keeps_filled_orders_for_three_months() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    trade(exchange, "buy", "1", "67000")
    exchange.place(order_args(clOrdId="empty"), lambda *_: None)
    exchange.cancel({"instIdCode": 10459, "clOrdId": "empty"}, lambda *_: None)
    assert len(rows(client, "/trade/orders-history", instType="SWAP")) == 2
    (filled,) = rows(client, "/trade/orders-history-archive", instType="SWAP")
    clock.now_ms += 8 * 86_400_000
    exchange.tick()
    assert rows(client, "/trade/orders-history", instType="SWAP") == []
    assert rows(client, "/trade/orders-history-archive", instType="SWAP") == [filled]
    clock.now_ms += 90 * 86_400_000
    exchange.tick()
    assert rows(client, "/trade/orders-history-archive", instType="SWAP") == []


def test_a_clock_that_goes_back_does_not_settle_funding_twice() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock, funding_rate=Decimal("0.0001"))
    trade(exchange, "buy", "1", "67000")
    exchange.tick()
    clock.now_ms += FUNDING_PERIOD_MS - clock.now_ms % FUNDING_PERIOD_MS
    for skew_ms in (0, -30_000, 0):
        exchange.faults.clock_skew_ms = skew_ms
        exchange.tick()
    assert [bill.bill_type for bill in exchange.engine.bills.rows].count("8") == 1


def test_the_account_is_named_by_its_configuration() -> None:
    exchange = net_exchange(account=ExchangeAccount(uid="42"))
    (config,) = rows(RestClient(exchange), "/account/config")
    assert (config["uid"], config["mainUid"]) == ("42", "42")


def test_an_account_drawn_twice_at_one_time_is_the_same() -> None:
    assert draw_uid(1, 5) == draw_uid(1, 5)
    assert len({draw_uid(1, 5), draw_uid(2, 5), draw_uid(1, 6)}) == 3
