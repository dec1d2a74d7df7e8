"""Channels other than orders, positions and account, and the rules of connecting."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionRejected

from tests.testing.okx_server.clients import INST, connected, live_exchange, logged_in, order_args


async def test_balance_and_position_pushes_every_match_at_once(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with connected(exchange) as client:
        await client.login()
        frames = await client.subscribe({"channel": "balance_and_position"})
        (first,) = frames[-1]["data"]
        assert (first["eventType"], first["posData"], first["trades"]) == ("snapshot", [], [])
        assert first["balData"][0]["cashBal"] == "10000"
        assert "eventType" not in frames[-1]
        await client.op("order", order_args(clOrdId="a", sz="3"))
        began = trio.current_time()
        for _ in range(2):
            exchange.fill("a", Decimal(1), Decimal(66_900))
        pushes = [(await client.next())["data"][0] for _ in range(2)]
        assert trio.current_time() == began
        assert [row["posData"][0]["pos"] for row in pushes] == ["1", "2"]
        assert [row["balData"][0]["cashBal"] for row in pushes] == ["9999.8662", "9999.7324"]
        fills = [str(fill.trade_id) for fill in exchange.ground_truth.fills()]
        assert [row["trades"][0]["tradeId"] for row in pushes] == fills
        exchange.deleverage(Decimal("0.5"))
        adl = (await client.next())["data"][0]
        assert (adl["eventType"], adl["posData"][0]["pos"]) == ("adl", "1.5")
        assert adl["trades"][0]["tradeId"] == adl["posData"][0]["tradeId"] == fills[-1]
        exchange.fund(Decimal("0.0001"))
        assert (await client.next())["data"][0]["eventType"] == "funding_fee"


@pytest.mark.parametrize(
    ("arg", "code"),
    [
        ({"channel": "fills"}, "64003"),
        ({"channel": "orders-algo", "instType": "SWAP"}, "64001"),
        ({"channel": "mark-price", "instId": "BTC-USDT-SWAP"}, "60018"),
        ({"channel": "orders", "instType": "SWAP", "instFamily": "ETH-USDT"}, "60018"),
        ({"channel": ["orders"]}, "60018"),
    ],
)
async def test_channels_of_other_urls_and_levels_have_their_code(
    arg: dict[str, object], code: str, autojump_clock: MockClock
) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        assert (await client.ask({"op": "subscribe", "args": [arg]}))["code"] == code


async def test_channels_without_pushes_are_accepted_and_counted(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange) as client:
        arg = {"channel": "liquidation-warning", "instType": "ANY"}
        assert (await client.ask({"op": "subscribe", "args": [arg]}))["event"] == "subscribe"
        assert (await client.next())["event"] == "channel-conn-count"
        assert exchange.channel_connections == {"liquidation-warning": 1}
        await client.nothing()


async def test_an_account_subscription_for_another_currency_hears_nothing_of_usdt(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with connected(exchange) as client:
        await client.login()
        frames = await client.subscribe({"channel": "account", "ccy": "BTC"})
        assert frames[-1]["data"] == []
        await client.op("order", order_args())
        await client.nothing(4)


async def test_a_connection_without_a_subscription_is_closed_when_that_is_on(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock, close_unsubscribed=True)
    async with logged_in(exchange) as idle, logged_in(exchange, "orders") as busy:
        for _ in range(2):
            await trio.sleep(14)
            for client in (idle, busy):
                await client.send("ping")
                assert await client.text() == "pong"
        assert await idle.close_code() == 4004
        assert trio.current_time() == pytest.approx(30)
        await busy.send("ping")
        assert await busy.text() == "pong"


async def test_a_fourth_connection_within_a_second_is_not_let_in(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    for _ in range(3):
        async with connected(exchange):
            pass
    with pytest.RaisesGroup(
        pytest.RaisesExc(ConnectionRejected, check=lambda lost: lost.status_code == 429),
        flatten_subgroups=True,
    ):
        async with connected(exchange):
            raise AssertionError("accepted")
    await trio.sleep(1)
    async with connected(exchange) as client:
        await client.login()


async def test_mass_cancel_is_for_options(autojump_clock: MockClock) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        arg = {"instType": "OPTION", "instFamily": "BTC-USD"}
        assert (await client.op("mass-cancel", arg))["code"] == "51010"


async def test_a_subscribe_request_has_a_maximum_size(autojump_clock: MockClock) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        args = [{"channel": "orders", **INST}] * 1200
        assert (await client.ask({"op": "subscribe", "args": args}))["code"] == "60012"
