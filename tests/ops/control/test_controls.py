"""Every risk control against the simulated exchange: it trips, no order passes, and it stays tripped."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import trio

from oms_trio.core.model import OrderType, Side
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.orders import external_orders
from tests.service.station import Station, serving


async def rejection(station: Station) -> str:
    """The reason of the next rejection; executions before it are skipped."""
    while "reason" not in (message := await station.heard()):
        pass
    return str(message["reason"])


async def filled(station: Station, index: int, sz: str = "1", px: str = "67000") -> None:
    """Have the exchange fill the order of this index."""
    order = (await station.orders(index + 1))[index]
    station.exchange.fill(order.ord_id, Decimal(sz), Decimal(px))
    await station.heard()


async def test_pause_and_resume(tmp_path: Path) -> None:
    async with serving(tmp_path) as station:
        station.act(1)
        await station.orders(1)
        await station.ask("pause")
        station.act(2)
        assert await rejection(station) == "paused"
        assert len(station.resting) == 1, "a pause follows what is open"
        await station.ask("resume")
        station.act(3)
        await station.orders(2)


@pytest.mark.parametrize("verb", ["kill", "flatten", "cancel-all"])
async def test_no_order_is_left_open_by(tmp_path: Path, verb: str) -> None:
    async with serving(tmp_path) as station:
        for number in range(45):  # more than two batches
            station.act(number + 1, volume=0.066)
        await station.orders(45)
        await station.ask(verb)
        await station.until(lambda status: not status["orders"]["open"])
        assert not station.resting
        paused = (await station.ask("status"))["controls"]["paused"]
        assert (paused is None) is (verb == "cancel-all")


@pytest.mark.parametrize("price", [-1e-9, 1e-9], ids=["long", "short"])
async def test_flatten_leaves_neither_orders_nor_position(tmp_path: Path, price: float) -> None:
    """Fills race with the cancel requests: the market goes on trading meanwhile."""
    exchange = SimulatedExchange(mode=MatchingMode.AUTO, seed=5)
    async with serving(tmp_path, exchange) as station:
        station.act(1, price, 6.6, OrderType.MARKET)
        for number in range(20):
            # Around the market on both sides, so that some of them fill while being cancelled.
            station.act(number + 2, (number - 10) / 500 or 1e-9, 0.3)
        await station.orders(21)
        assert station.held
        await station.ask("flatten")
        while (await station.ask("status"))["position"]["ours"] != "0":
            exchange.tick()
            await trio.sleep(0.01)
        await station.until(lambda status: not status["controls"]["flattening"])
        assert not station.resting
        assert station.held == 0
        closing = [order for order in exchange.ground_truth.orders() if order.reduce_only]
        assert closing, "a reduce-only order closed it"


async def test_flatten_goes_on_when_the_exchange_rejects_the_closing_order(tmp_path: Path) -> None:
    exchange = SimulatedExchange(mode=MatchingMode.AUTO)
    async with serving(tmp_path, exchange) as station:
        station.act(1, order_type=OrderType.MARKET)
        await station.until(lambda status: status["position"]["ours"] != "0")
        exchange.reject_next_orders("51008")
        await station.ask("flatten")
        status = await station.until(lambda status: status["position"]["ours"] == "0")
        assert station.held == 0
        assert any("flatten_rejected" in event["text"] for event in status["latest"])


async def test_adopt_makes_a_hand_traded_position_ours_and_stays_paused(tmp_path: Path) -> None:
    exchange = SimulatedExchange(mode=MatchingMode.AUTO)
    async with serving(tmp_path, exchange) as station:
        station.act(1, order_type=OrderType.MARKET)
        assert (await station.heard())["state_id"] == 1
        external_orders.trade(exchange, Side.SELL, Decimal(3))
        await station.until(lambda status: not status["position"]["matches"])
        station.act(2, order_type=OrderType.MARKET)
        await station.ask("adopt")
        status = await station.until(
            lambda status: status["position"]["matches"] and status["position"]["ours"] == "-2"
        )
        assert status["controls"]["paused"].startswith("adopt by uid")
        closure = await station.told.receive()
        message = msgspec.json.decode(closure.body)
        assert (message["state_id"], message["is_trade_closed"]) == (1, True)
        assert closure.cause == "manual"
        await station.until(
            lambda status: any("position_adopted" in event["text"] for event in status["latest"])
        )
    async with serving(tmp_path, exchange) as station:
        status = await station.until(lambda status: status["position"]["exchange"] == "-2")
        assert status["position"]["ours"] == "-2"
        assert status["position"]["matches"]
        station.act(3)
        assert await rejection(station) == "paused"
        await station.ask("resume")
        placed = len(exchange.ground_truth.orders())
        station.act(4)
        await station.orders(placed + 1)


@pytest.mark.parametrize("verb", ["pause", "kill", "flatten", "adopt"])
async def test_a_command_lasts_over_a_restart(tmp_path: Path, verb: str) -> None:
    exchange = SimulatedExchange(mode=MatchingMode.MANUAL)
    async with serving(tmp_path, exchange) as station:
        await station.ask(verb)
    async with serving(tmp_path, exchange) as station:
        station.act(1)
        assert await rejection(station) == "paused"
        assert (await station.ask("status"))["controls"]["paused_by"] == "operator"


async def test_a_large_order_is_rejected(tmp_path: Path) -> None:
    async with serving(tmp_path, OMS_MAX_ORDER_CONTRACTS="1") as station:
        station.act(1, volume=0.7)
        assert await rejection(station) == "margin_cap"
        station.act(2)
        await station.orders(1)
        await station.until(lambda status: status["controls"]["tripped"] == {"max_order_size": 1})


async def test_orders_beyond_the_rate_are_rejected(tmp_path: Path) -> None:
    async with serving(tmp_path, OMS_MAX_ORDERS_PER_SECOND="3") as station:
        for number in range(5):
            station.act(number + 1, volume=0.06)
        assert [await rejection(station) for _ in range(2)] == ["rate_limited"] * 2
        assert len(await station.orders(3)) == 3


async def test_a_price_far_from_the_mark_price_of_the_snapshot_is_rejected(tmp_path: Path) -> None:
    """No position, so no push has brought a mark price: the snapshot has."""
    async with serving(tmp_path, OMS_PRICE_COLLAR="0.005") as station:
        station.act(1, mid="67400")
        assert await rejection(station) == "price_collar"
        station.act(2, mid="67100")
        await station.orders(1)


async def test_a_wrong_mid_is_rejected_without_any_setting(tmp_path: Path) -> None:
    async with serving(tmp_path) as station:
        for state_id, mid in enumerate(("14500", "20200", "65000", "69000"), 1):
            station.act(state_id, mid=mid, order_type=OrderType.MARKET)
            assert await rejection(station) == "price_collar"
        station.act(5, mid="66000")
        await station.orders(1)
        status = await station.until(lambda status: status["rejections"] == {"price_collar": 4})
        assert status["controls"]["limits"]["price_collar"] == "0.02"


async def test_a_daily_loss_pauses_and_lasts_over_a_restart(tmp_path: Path) -> None:
    exchange = SimulatedExchange(mode=MatchingMode.MANUAL)
    async with serving(tmp_path, exchange, OMS_MAX_DAILY_LOSS="5") as station:
        station.act(1)
        await filled(station, 0)
        station.act(2, price=1e-9)
        await filled(station, 1, px="66000")
        await station.until(lambda status: status["controls"]["paused_by"] == "max_daily_loss")
        station.act(3)
        assert await rejection(station) == "paused"
    async with serving(tmp_path, exchange, OMS_MAX_DAILY_LOSS="5") as station:
        station.act(4)
        assert await rejection(station) == "paused"
        await station.ask("resume")
        station.act(5)
        await station.orders(3)


async def test_a_drawdown_pauses(tmp_path: Path) -> None:
    async with serving(tmp_path, OMS_MAX_DRAWDOWN="0.3") as station:
        station.act(1)
        await filled(station, 0)
        station.exchange.push_position(upl_ratio=Decimal("-0.31"))
        await station.until(lambda status: status["controls"]["paused_by"] == "max_drawdown")
        station.act(2)
        assert await rejection(station) == "paused"


async def test_rejections_by_the_exchange_in_a_row_pause(tmp_path: Path) -> None:
    async with serving(tmp_path, OMS_MAX_REJECTS="2") as station:
        station.exchange.reject_next_orders("51008", times=2)
        for number in range(2):
            station.act(number + 1, volume=0.06)
            assert await rejection(station) == "exchange"
        station.act(3)
        assert await rejection(station) == "paused"
        assert (await station.ask("status"))["controls"]["paused_by"] == "max_rejects"


async def test_a_key_that_may_not_trade_any_more_pauses(tmp_path: Path) -> None:
    async with serving(tmp_path) as station:
        station.exchange.reject_next_orders("50030", times=1)
        station.act(1)
        assert await rejection(station) == "exchange"
        station.act(2)
        assert await rejection(station) == "paused"
        controls = (await station.ask("status"))["controls"]
        assert controls["paused_by"] == "exchange"
        assert "50030" in controls["paused"]


async def test_orders_that_wait_for_the_rate_limit_are_recalled(tmp_path: Path) -> None:
    """The exchange takes 60 in 2 s: what waits behind that must not go out after the kill."""
    async with serving(tmp_path) as station:
        for number in range(90):
            station.act(number + 1, volume=0.066)
        await station.orders(60)
        await station.until(lambda status: status["counts"].get("orders") == 90)
        await station.ask("kill")
        assert [await rejection(station) for _ in range(30)] == ["paused"] * 30
        await station.until(lambda status: not status["orders"]["open"])
        assert not station.resting
        assert len(await station.orders(60)) == 60
