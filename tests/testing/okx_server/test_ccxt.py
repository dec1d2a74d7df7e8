"""ccxt, a client of other authors, trades on the simulated exchange."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import ccxt
import pytest
import trio

from oms_trio.settings.clock import system_clock
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import serve

SWAP = "BTC/USDT:USDT"
CROSS = {"tdMode": "cross"}


async def with_ccxt(script: Callable[[Any, Any], None]) -> SimulatedExchange:
    """Run a script of blocking calls in a thread; it gets a client and ``exchange.fill``."""
    exchange = SimulatedExchange(clock=system_clock, mode=MatchingMode.MANUAL)
    account = exchange.account
    settings = {
        "apiKey": account.api_key,
        "secret": account.secret,
        "password": account.passphrase,
        "enableRateLimit": False,
        "options": {"fetchMarkets": {"types": ["swap"]}, "defaultType": "swap"},
    }

    def run(port: int) -> None:
        client = ccxt.okx(settings)
        client.urls["api"]["rest"] = f"http://127.0.0.1:{port}"
        # The currencies of the funding account are none of the simulator's business.
        client.has["fetchCurrencies"] = False
        client.set_position_mode(False)
        client.set_leverage(100, SWAP, {"mgnMode": "cross"})
        script(client, lambda *match: trio.from_thread.run_sync(exchange.fill, *match))
        client.session.close()

    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange))
        await trio.to_thread.run_sync(run, port)
        nursery.cancel_scope.cancel()
    return exchange


async def test_an_order_is_placed_fetched_edited_and_cancelled() -> None:
    def script(client: Any, fill: Any) -> None:
        assert client.fetch_balance()["USDT"]["free"] == 10_000
        order = client.create_order(SWAP, "limit", "buy", 2, 66_900, CROSS)
        assert client.fetch_order(order["id"], SWAP)["status"] == "open"
        fill(order["id"], Decimal("0.5"), Decimal(66_900))
        (mine,) = client.fetch_my_trades(SWAP)
        assert (mine["order"], mine["amount"], mine["takerOrMaker"]) == (order["id"], 0.5, "maker")
        assert client.fetch_positions([SWAP])[0]["contracts"] == 0.5
        client.edit_order(order["id"], SWAP, "limit", "buy", 1, 66_800)
        (still,) = client.fetch_open_orders(SWAP)
        assert (still["amount"], still["price"], still["filled"]) == (1, 66_800, 0.5)
        client.cancel_order(order["id"], SWAP)
        (ended,) = client.fetch_canceled_orders(SWAP)
        assert (ended["id"], ended["filled"]) == (order["id"], 0.5)

    exchange = await with_ccxt(script)
    assert [order.state for order in exchange.ground_truth.orders()] == ["canceled"]


async def test_rejections_and_records_are_understood() -> None:
    def script(client: Any, fill: Any) -> None:
        with pytest.raises(ccxt.InvalidOrder):
            client.create_order(SWAP, "limit", "buy", 200_000, 66_900, CROSS)
        with pytest.raises(ccxt.OrderNotFound):
            client.cancel_order("1", SWAP)
        for side in ("buy", "sell"):
            order = client.create_order(SWAP, "market", side, 1, None, CROSS)
            fill(order["id"], Decimal(1), Decimal(67_000))
        assert client.fetch_trading_fee(SWAP)["taker"] == 0.0005
        assert len(client.fetch_ledger()) == 2
        (closed,) = client.fetch_positions_history([SWAP])
        assert (closed["info"]["direction"], closed["realizedPnl"]) == ("long", -0.67)
        assert client.fetch_market_leverage_tiers(SWAP)[0]["maxLeverage"] == 100

    await with_ccxt(script)
