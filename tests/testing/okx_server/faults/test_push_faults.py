"""Faults of pushes: lost, repeated, late, out of order between channels and within one order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from trio.testing import MockClock

from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults.catalog import inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.faults.switches import Counter
from tests.testing.okx_server.clients import WsClient, live_exchange, logged_in, order_args

PX = Decimal(66_900)


async def opened(client: WsClient) -> None:
    """Place an order of 3 contracts, and consume its pushes."""
    await client.op("order", order_args(clOrdId="a", sz="3"))
    assert (await client.next())["data"][0]["state"] == "live"


def fill(exchange: SimulatedExchange, times: int = 1) -> None:
    for _ in range(times):
        exchange.fill("a", Decimal(1), PX)


async def sizes(client: WsClient, count: int) -> list[str]:
    return [(await client.next())["data"][0]["accFillSz"] for _ in range(count)]


async def test_an_echo_is_the_same_byte_for_byte(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        await opened(client)
        exchange.faults.echo_order_pushes = 1
        fill(exchange)
        assert await client.text() == await client.text()


async def test_a_late_push_is_overtaken_by_the_next(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        await opened(client)
        inject(exchange, FaultEvent(FaultKind.LATE_PUSH, delay_s=1.5))
        fill(exchange, 2)
        assert await sizes(client, 2) == ["2", "1"]


async def test_two_pushes_of_one_order_can_change_places(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        await opened(client)
        exchange.faults.swap_order_pushes = 1
        fill(exchange, 3)
        assert await sizes(client, 3) == ["2", "1", "3"]


async def test_a_swapped_push_without_a_next_one_comes_by_itself(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        await opened(client)
        exchange.faults.swap_order_pushes = 1
        fill(exchange)
        await client.nothing(0.9)
        assert await sizes(client, 1) == ["1"]


async def test_positions_can_come_before_the_orders_of_the_same_match(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders", "positions") as client:
        await opened(client)
        inject(exchange, FaultEvent(FaultKind.POSITIONS_FIRST, duration_s=1))
        fill(exchange, 2)
        frames = [await client.next() for _ in range(3)]
        assert [frame["arg"]["channel"] for frame in frames] == ["positions", "orders", "orders"]
        assert [frame["data"][0]["accFillSz"] for frame in frames[1:]] == ["1", "2"]


@pytest.mark.parametrize(
    ("counter", "missed"),
    [("drop_position_pushes", "positions"), ("drop_account_pushes", "account")],
)
async def test_events_of_position_and_account_can_be_missing(
    counter: Counter, missed: str, autojump_clock: MockClock
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "positions", "account") as client:
        await client.op("order", order_args(clOrdId="a", sz="3"))
        assert (await client.next())["arg"]["channel"] == "account"
        setattr(exchange.faults, counter, 1)
        fill(exchange)
        other = await client.next()
        assert other["arg"]["channel"] != missed
        await client.nothing()
        fill(exchange)
        channels = {(await client.next())["arg"]["channel"] for _ in range(2)}
        assert channels == {"positions", "account"}


@pytest.mark.parametrize("quiet", [False, True])
async def test_a_liquidation_causes_orders_pushes_or_changes_the_position_alone(
    autojump_clock: MockClock, *, quiet: bool
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders", "positions", "balance_and_position") as client:
        await opened(client)
        fill(exchange, 3)
        for _ in range(7):
            await client.next()
        exchange.faults.hide_risk_orders = quiet
        inject(exchange, FaultEvent(FaultKind.LIQUIDATION))
        frames: list[dict[str, Any]] = [await client.next() for _ in range(2 if quiet else 4)]
        orders = [frame for frame in frames if frame["arg"]["channel"] == "orders"]
        assert [frame["data"][0]["category"] for frame in orders] == (
            [] if quiet else ["full_liquidation"] * 2
        )
        assert frames[-1]["data"][0]["pos"] == "0"


async def test_a_rate_limited_operation_can_be_rejected_in_its_data(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.rate_limit_in_data = True
    async with logged_in(exchange) as client:
        for _ in range(60):
            await client.op("order", order_args(sz="0.01"))
        answer = await client.op("order", order_args(sz="0.01"))
        assert (answer["code"], answer["data"][0]["sCode"]) == ("1", "50011")
