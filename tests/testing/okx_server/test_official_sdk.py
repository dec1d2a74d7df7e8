"""The exchange's own Python SDK works with the simulated exchange."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import trio

from oms_trio.settings.clock import system_clock
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import serve

pytest.importorskip("okx", reason="python-okx is not installed", exc_type=ImportError)
# The SDK's own habit, which httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
INST = {"instId": "BTC-USDT-SWAP"}


async def with_sdk(exchange: SimulatedExchange, script: Callable[..., None]) -> None:
    """Run a script of blocking SDK calls in a thread, against a real port.

    The script gets the SDK's trade, account and public clients, and ``on_exchange``, which runs a
    function in the exchange's own thread.
    """
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange))
        await trio.to_thread.run_sync(_run, exchange, port, script)
        nursery.cancel_scope.cancel()


def _run(exchange: SimulatedExchange, port: int, script: Callable[..., None]) -> None:
    account, url = exchange.account, f"http://127.0.0.1:{port}"
    keys = (account.api_key, account.secret, account.passphrase)
    with ExitStack() as clients:

        def client(module: str, name: str) -> Any:
            kind: Callable[..., AbstractContextManager[Any]] = getattr(
                importlib.import_module(f"okx.{module}"), name
            )
            return clients.enter_context(kind(*keys, flag="1", domain=url))

        script(
            client("Trade", "TradeAPI"),
            client("Account", "AccountAPI"),
            client("PublicData", "PublicAPI"),
            trio.from_thread.run_sync,
        )


async def test_a_new_account_is_set_up_and_queried() -> None:
    def script(_trade: Any, account: Any, public: Any, _on_exchange: Any) -> None:
        assert public.get_system_time()["code"] == "0"
        (instrument,) = public.get_instruments(instType="SWAP", **INST)["data"]
        assert instrument["instIdCode"] == 10459
        assert public.get_mark_price(instType="SWAP", **INST)["data"][0]["markPx"] == "67000"
        assert public.get_price_limit(**INST)["data"][0]["enabled"] is True
        assert account.get_account_config()["data"][0]["posMode"] == "long_short_mode"
        assert account.set_position_mode("net_mode")["code"] == "0"
        assert account.set_leverage(lever="100", mgnMode="cross", **INST)["code"] == "0"
        assert account.get_leverage(mgnMode="cross", **INST)["data"][0]["lever"] == "100"
        (balance,) = account.get_account_balance(ccy="USDT")["data"]
        assert balance["details"][0]["cashBal"] == "10000"
        assert account.get_positions(instType="SWAP", **INST)["data"] == []

    await with_sdk(SimulatedExchange(clock=system_clock, mode=MatchingMode.MANUAL), script)


async def test_orders_are_placed_and_end_as_the_sdk_expects() -> None:
    exchange = SimulatedExchange(clock=system_clock, mode=MatchingMode.MANUAL)
    exchange.set_pos_mode("net_mode")
    exchange.set_lever(Decimal(100))
    order = {"tdMode": "cross", "side": "buy", "ordType": "limit", "px": "66900", "sz": "2"} | INST

    def script(trade: Any, account: Any, _public: Any, on_exchange: Any) -> None:
        placed = trade.place_order(**order, clOrdId="a", tag="rl")
        assert placed["data"][0]["sCode"] == "0"
        assert trade.place_order(**order, clOrdId="a")["data"][0]["sCode"] == "51016"
        assert trade.get_order(**INST, clOrdId="a")["data"][0]["state"] == "live"
        on_exchange(exchange.fill, "a", Decimal("0.5"), Decimal(66_900))
        assert trade.get_order_list(instType="SWAP")["data"][0]["state"] == "partially_filled"
        amended = trade.amend_order(**INST, clOrdId="a", newSz="1", reqId="r1")
        assert amended["data"][0]["reqId"] == "r1"
        assert trade.get_fills(instType="SWAP", **INST)["data"][0]["fillSz"] == "0.5"
        assert trade.get_fills_history(instType="SWAP")["data"][0]["clOrdId"] == "a"
        assert account.get_positions(**INST)["data"][0]["pos"] == "0.5"
        assert trade.cancel_order(**INST, clOrdId="a")["data"][0]["sCode"] == "0"
        assert trade.cancel_order(**INST, clOrdId="a")["data"][0]["sCode"] == "51400"
        ended = trade.get_orders_history(instType="SWAP")["data"][0]
        assert (ended["state"], ended["accFillSz"]) == ("canceled", "0.5")
        batch = trade.place_multiple_orders([order | {"clOrdId": name} for name in ("b", "b")])
        assert [row["sCode"] for row in batch["data"]] == ["0", "51016"]
        cancels = trade.cancel_multiple_orders([INST | {"clOrdId": "b"}])
        assert cancels["code"] == "0"
        closed = trade.close_positions(**INST, mgnMode="cross")
        assert closed["data"][0]["posSide"] == "net"
        assert trade.get_order(**INST, clOrdId="nobody")["code"] == "51603"

    await with_sdk(exchange, script)


async def test_every_query_about_account_and_market_is_answered() -> None:
    exchange = SimulatedExchange(clock=system_clock, mode=MatchingMode.MANUAL)
    exchange.set_pos_mode("net_mode")
    exchange.set_lever(Decimal(100))
    swap = {"instType": "SWAP"}

    def script(trade: Any, account: Any, public: Any, on_exchange: Any) -> None:
        for side in ("buy", "sell"):
            placed = trade.place_order(
                tdMode="cross", side=side, ordType="market", sz="2", clOrdId=side, **INST
            )
            assert placed["data"][0]["sCode"] == "0"
            on_exchange(exchange.fill, side, Decimal(2), Decimal(67_000))
        answers = [
            account.get_positions_history(**swap),
            account.get_max_order_size(tdMode="cross", **INST),
            account.get_max_avail_size(tdMode="cross", **INST),
            account.get_fee_rates(instFamily="BTC-USDT", **swap),
            account.get_account_bills(**swap),
            account.get_instruments(**swap),
            public.get_position_tiers(tdMode="cross", instFamily="BTC-USDT", **swap),
            public.get_funding_rate(**INST),
            trade.get_orders_history_archive(**swap),
        ]
        assert [answer["code"] for answer in answers] == ["0"] * len(answers)
        assert all(answer["data"] for answer in answers)
        history = answers[0]["data"][0]
        assert (history["type"], history["closeTotalPos"]) == ("2", "2")

    await with_sdk(exchange, script)
