"""The specification's example of a trade, filled by calls and read from the wire."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from trio.testing import MockClock

from tests.testing.okx_server.clients import live_exchange, logged_in, order_args


async def test_each_fill_is_pushed_with_its_size_and_its_profit(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders", "positions") as client:

        async def fill(name: str, sz: str, px: str) -> tuple[Any, ...]:
            exchange.fill(name, Decimal(sz), Decimal(px))
            push = (await client.next())["data"][0]
            position = (await client.next())["data"][0]
            return push["state"], push["fillSz"], push["fillPnl"], position["pos"]

        for name, side, sz, px in (
            ("A", "buy", "2", "67000"),
            ("B", "buy", "3", "66900"),
            ("C", "sell", "5", "67100"),
        ):
            args = order_args(clOrdId=name, side=side, sz=sz, px=px)
            assert (await client.op("order", args))["code"] == "0"
            assert (await client.next())["data"][0]["state"] == "live"

        assert await fill("A", "2", "67000") == ("filled", "2", "0", "2")
        assert await fill("B", "1", "66900") == ("partially_filled", "1", "0", "3")

        exchange.push_position(upl_ratio=Decimal("-0.04"))
        pushed = (await client.next())["data"][0]
        assert pushed["uplRatio"] == "-0.04"
        assert pushed["avgPx"] == "66966.666666666666667"

        assert await fill("C", "5", "67100") == ("filled", "5", "4", "-2")
        assert await fill("B", "1", "66900") == ("partially_filled", "1", "2", "-1")
        assert await fill("B", "1", "66950") == ("filled", "1", "1.5", "0")

        account = exchange.engine.account_view()
        fees = sum(fill.fee for fill in exchange.ground_truth.fills())
        assert account.cash_bal == Decimal(10_000) + Decimal("7.5") + fees
