"""The public WebSocket: prices and the instrument, without login."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio
from trio.testing import MockClock

from tests.testing.okx_server.clients import connected, live_exchange, login_frame
from tests.testing.okx_server.fields import INSTRUMENT_KEYS

PUBLIC = "/ws/v5/public"
MARK = {"channel": "mark-price", "instId": "BTC-USDT-SWAP"}


async def test_the_mark_price_is_pushed_when_it_moves_and_otherwise_every_ten_seconds(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with connected(exchange, PUBLIC) as client:
        ack = await client.ask({"id": "m", "op": "subscribe", "args": [MARK]})
        assert (ack["event"], ack["id"], ack["arg"]) == ("subscribe", "m", MARK)
        first = await client.next()
        assert first["arg"] == MARK
        assert set(first["data"][0]) == {"instType", "instId", "markPx", "ts"}
        await trio.sleep(0.05)
        exchange.set_price(Decimal(67_001))
        moved = await client.next()
        assert moved["data"][0]["markPx"] == "67001"
        assert trio.current_time() == pytest.approx(0.2)
        assert (await client.next())["data"][0]["markPx"] == "67001"
        assert trio.current_time() == pytest.approx(10.2)
        await client.ask({"op": "unsubscribe", "args": [MARK]})
        exchange.set_price(Decimal(67_002))
        await client.nothing(15)


async def test_the_instrument_and_its_limits_are_pushed_at_once(autojump_clock: MockClock) -> None:
    async with connected(live_exchange(autojump_clock), PUBLIC) as client:
        await client.ask(
            {"op": "subscribe", "args": [{"channel": "instruments", "instType": "SWAP"}]}
        )
        assert set((await client.next())["data"][0]) == INSTRUMENT_KEYS
        for channel, key in (("price-limit", "buyLmt"), ("funding-rate", "fundingTime")):
            await client.ask({"op": "subscribe", "args": [MARK | {"channel": channel}]})
            assert (await client.next())["data"][0][key]


async def test_the_public_session_rejects_logins_and_operations(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with connected(exchange, PUBLIC) as client:
        login = login_frame(exchange.account, exchange.now_ms)
        for frame, code in (
            (login, "60028"),
            ({"id": "a", "op": "order", "args": [{}]}, "60019"),
            ({"op": "subscribe", "args": [{"channel": "orders", "instType": "SWAP"}]}, "60018"),
            ({"op": "subscribe", "args": [MARK | {"instId": "DOGE"}]}, "60018"),
            ({"op": "subscribe", "args": []}, "60012"),
        ):
            assert (await client.ask(frame))["code"] == code
        await client.send("ping")
        assert await client.text() == "pong"


async def test_an_idle_public_session_is_closed(autojump_clock: MockClock) -> None:
    async with connected(live_exchange(autojump_clock), PUBLIC) as client:
        assert await client.close_code() == 4004
        assert trio.current_time() == pytest.approx(30)
