"""A half-dead exchange: hanging operations, dead subscriptions, wrong clocks, lagging REST."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from oms_trio.testing.okx_server.faults.catalog import inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.rate_limits import RateLimits
from tests.testing.okx_server.clients import (
    INST,
    ManualClock,
    RestClient,
    connected,
    live_exchange,
    logged_in,
    net_exchange,
    order_args,
)

INST_ID = "BTC-USDT-SWAP"
PATHS = ("public/time", "trade/orders-pending", "trade/fills", "account/balance")


@pytest.mark.parametrize(("kind", "orders"), [(FaultKind.HANG, 0), (FaultKind.HANG_EXECUTED, 1)])
async def test_a_gateway_can_read_operations_and_never_answer_them(
    kind: FaultKind, orders: int, autojump_clock: MockClock
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        inject(exchange, FaultEvent(kind, duration_s=20))
        await client.send({"id": "q1", "op": "order", "args": [order_args(clOrdId="a")]})
        for _ in range(orders):
            push = await client.next()
            assert push["data"][0]["clOrdId"] == "a"
        await client.nothing(10)
        assert len(exchange.engine.book.pending) == orders
        await client.send("ping")
        assert await client.text() == "pong"
        exchange.place(order_args(clOrdId="b"), lambda *_: None)
        assert (await client.next())["data"][0]["clOrdId"] == "b"
        await trio.sleep(10)
        answer = await client.op("order", order_args(clOrdId="c"))
        assert answer["code"] == "0"


async def test_subscriptions_can_die_after_the_last_ack_again_and_again(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    inject(exchange, FaultEvent(FaultKind.DEAD_SUBSCRIPTIONS, duration_s=5))
    args = [{"channel": "orders"} | INST, {"channel": "positions"} | INST, {"channel": "account"}]
    for _ in range(2):
        async with connected(exchange) as client:
            await client.login()
            await client.send({"id": "s1", "op": "subscribe", "args": args})
            events = [(await client.next())["event"] for _ in range(6)]
            assert events == ["subscribe"] * 3 + ["channel-conn-count-error"] * 3
            exchange.place(order_args(), lambda *_: None)
            await client.nothing()
    assert sum(exchange.channel_connections.values()) == 0
    await trio.sleep(5)
    async with logged_in(exchange, "orders", "positions") as client:
        exchange.place(order_args(), lambda *_: None)
        assert (await client.next())["arg"]["channel"] == "orders"


def get(client: RestClient, path: str) -> dict[str, Any]:
    return client.get(f"/{path}")


def test_queries_of_one_path_or_of_all_can_get_an_unknown_code() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    inject(exchange, FaultEvent(FaultKind.QUERY_CODE, code="59999 public/time"))
    assert [get(client, path)["code"] for path in PATHS] == ["59999", "0", "0", "0"]
    inject(exchange, FaultEvent(FaultKind.QUERY_CODE, code="58888"))
    assert [get(client, path)["code"] for path in PATHS] == ["58888"] * 4
    exchange.faults.clear()
    assert [get(client, path)["code"] for path in PATHS] == ["0"] * 4


@pytest.mark.parametrize("ts", ["0", "-1", "soon", "99999999999999999999", "1e300"])
def test_the_time_can_be_absurd(ts: str) -> None:
    exchange = net_exchange()
    inject(exchange, FaultEvent(FaultKind.WRONG_TIME, code=ts))
    assert get(RestClient(exchange), "public/time")["data"] == [{"ts": ts}]


def test_the_clock_can_drift_and_keeps_what_it_has_gained() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    inject(exchange, FaultEvent(FaultKind.CLOCK_DRIFT, delay_s=36, duration_s=3600))
    off_ms = []
    for _ in range(4):
        off_ms.append(exchange.now_ms - clock.now_ms)
        clock.now_ms += 1_800_000
    assert off_ms == [0, 18_000, 36_000, 36_000]
    exchange.faults.clock_drift_ppm = -10_000
    off_ms = []
    for _ in range(3):
        off_ms.append(exchange.now_ms - clock.now_ms)
        clock.now_ms += 1_800_000
    assert off_ms == [36_000, 18_000, 0]


def test_the_clock_can_step_while_it_drifts() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    exchange.faults.clock_drift_ppm = 1000
    exchange.faults.clock_skew_ms = -600_000
    assert exchange.now_ms == clock.now_ms - 600_000
    clock.now_ms += 100_000
    assert exchange.now_ms == clock.now_ms - 600_000 + 100


@pytest.mark.parametrize("code", ["59113", "54109", "99999"])
def test_submits_can_be_rejected_with_any_code(code: str) -> None:
    exchange = net_exchange()
    inject(exchange, FaultEvent(FaultKind.REJECT_ORDER, code=code))
    assert exchange.place(order_args(), lambda *_: None).code == code


def test_one_endpoint_can_lag_alone() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    clock.now_ms += 10_000
    exchange.place(order_args(clOrdId="a", sz="2"), lambda *_: None)
    exchange.fill("a", Decimal(1), Decimal(66_900))
    inject(exchange, FaultEvent(FaultKind.REST_LAG, delay_s=6, code="trade/fills,account/bills"))
    paths = ("trade/fills", "account/bills", "trade/orders-pending", "account/positions")
    assert [len(get(client, path)["data"]) for path in paths] == [0, 0, 1, 1]
    assert get(client, "trade/fills-history?instType=SWAP")["data"] == []
    clock.now_ms += 6000
    assert [len(get(client, path)["data"]) for path in paths] == [1, 1, 1, 1]


def test_every_list_lags_by_the_same_time() -> None:
    """At every step, each list of REST equals what it was at the time that it shows."""
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)

    def seen() -> list[Any]:
        lists = [
            get(client, path)["data"]
            for path in (
                *("trade/orders-pending", "trade/fills", "account/bills", "account/bills-archive"),
                *("trade/orders-history?instType=SWAP", "account/positions-history"),
                "trade/orders-history-archive?instType=SWAP",
            )
        ]
        (position,) = get(client, f"account/positions?instId={INST_ID}")["data"] or [{}]
        balance = get(client, "account/balance")["data"][0]["details"][0]
        keys = ("pos", "avgPx", "fee", "fundingFee", "liqPenalty", "tradeId", "uTime", "cTime")
        return [*lists, [position.get(key) for key in keys], balance["cashBal"]]

    def place(side: str, sz: str, name: str) -> None:
        args = order_args(side=side, sz=sz, clOrdId=name, px="67000")
        assert exchange.place(args, lambda *_: None).code == "0"

    steps: list[Callable[[], object]] = [
        lambda: place("buy", "3", "a"),
        lambda: exchange.fill("a", Decimal(2), Decimal(67_000)),
        lambda: exchange.fund(Decimal("0.0001")),
        lambda: place("sell", "4", "b"),
        lambda: exchange.fill("b", Decimal(3), Decimal(67_000)),
        lambda: exchange.fill("a", Decimal(1), Decimal(67_000)),
        lambda: place("buy", "2", "a"),
        lambda: exchange.fill("a", Decimal(2), Decimal(67_100)),
        lambda: exchange.deleverage(Decimal(1)),
        lambda: place("buy", "1", "c"),
        exchange.liquidate,
    ]
    present = []
    for step in steps:
        clock.now_ms += 1000
        present.append(seen())
        step()
        clock.now_ms += 1000
    present.append(seen())
    for back, expected in enumerate(reversed(present)):
        exchange.faults.rest_lag_ms = 2000 * back
        exchange.limits = RateLimits()
        assert seen() == expected
