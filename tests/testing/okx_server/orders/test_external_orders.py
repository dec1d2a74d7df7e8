"""Orders of another client, jumps of the market, and changes of the instrument."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.exchange import MatchingMode
from oms_trio.testing.okx_server.faults.catalog import inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.orders import external_orders
from oms_trio.testing.okx_server.orders.request_checks import RequestRejected, check_inst_id_code
from tests.testing.okx_server.clients import (
    ManualClock,
    RestClient,
    live_exchange,
    logged_in,
    net_exchange,
    order_args,
)
from tests.testing.okx_server.test_control import call

D = Decimal


async def test_an_external_market_order_fills_at_once_without_faults(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock, MatchingMode.MANUAL)
    exchange.faults.order_rejections.append("51008")
    async with logged_in(exchange, "orders", "positions") as client:
        external_orders.trade(exchange, Side.BUY, D(3))
        first = (await client.next())["data"][0]
        assert (first["clOrdId"], first["tag"], first["category"]) == ("", "", "normal")
        frames: list[dict[str, Any]] = []
        while not frames or frames[-1]["arg"]["channel"] == "orders":
            frames.append(await client.next())
        assert frames[-2]["data"][0]["state"] == "filled"
        assert frames[-1]["data"][0]["pos"] == "3"
    assert exchange.engine.ledger.pos == 3
    assert list(exchange.faults.order_rejections) == ["51008"]


async def test_an_order_can_be_amended_and_cancelled_by_another_client(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.place(order_args(clOrdId="a", tag="ours"), lambda *_: None)
    async with logged_in(exchange, "orders") as client:
        external_orders.amend(exchange, "a", sz=D(5), px=D("66000.1"))
        row = (await client.next())["data"][0]
        pushed = [row[key] for key in ("sz", "px", "reqId", "amendResult", "amendSource", "state")]
        assert pushed == ["5", "66000.1", "", "0", "1", "live"]
        external_orders.cancel(exchange, "a")
        row = (await client.next())["data"][0]
        assert (row["state"], row["cancelSource"], row["tag"]) == ("canceled", "1", "ours")
    with pytest.raises(LookupError):
        external_orders.cancel(exchange, "a")


def test_external_limit_orders_rest_and_are_checked_like_others() -> None:
    exchange = net_exchange()
    order = external_orders.trade(exchange, Side.SELL, D(2), D(67_500))
    assert exchange.engine.book.pending == [order]
    with pytest.raises(RequestRejected, match="51121"):
        external_orders.trade(exchange, Side.SELL, D("0.015"))
    with pytest.raises(RequestRejected, match="51008"):
        external_orders.trade(exchange, Side.SELL, D(20_000))
    assert len(exchange.ground_truth) == 1


def test_external_orders_can_be_placed_by_control_calls() -> None:
    exchange = net_exchange()
    status, placed = call(exchange, "POST", "order", {"side": "buy", "sz": "2", "px": "66000"})
    assert status == 200
    name = placed["ordId"]
    assert call(exchange, "POST", "amend", {"order": name, "sz": "4"})[0] == 200
    assert exchange.engine.book.pending[0].sz == 4
    assert call(exchange, "POST", "amend", {"order": name})[0] == 400
    assert call(exchange, "POST", "cancel", {"order": name})[0] == 200
    assert call(exchange, "POST", "cancel", {"order": name})[0] == 400
    assert call(exchange, "POST", "order", {"side": "buy", "sz": "0.001"})[0] == 400
    assert call(exchange, "POST", "order", {"side": "buy", "sz": "1"})[0] == 200
    assert exchange.engine.ledger.pos == 1


def test_external_faults_repeat_with_the_seed() -> None:
    def run() -> bytes:
        exchange = net_exchange(seed=5)
        for number in range(4):
            exchange.place(order_args(clOrdId=f"o{number}"), lambda *_: None)
        for kind in (FaultKind.EXTERNAL_AMEND, FaultKind.EXTERNAL_CANCEL, FaultKind.EXTERNAL_ORDER):
            inject(exchange, FaultEvent(kind, times=3))
        inject(exchange, FaultEvent(FaultKind.EXTERNAL_ORDER, times=3, code="sell limit"))
        return exchange.ground_truth.dump()

    assert run() == run()
    assert run().count(b'"canceled"') == 1


def test_the_market_and_its_price_band_jump_and_come_back() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)

    def limits() -> list[str]:
        (row,) = client.get("/public/price-limit", instId="BTC-USDT-SWAP")["data"]
        return [row["buyLmt"], row["sellLmt"]]

    before = limits()
    exchange.move_market(D(-10), back_after_s=3)
    assert exchange.engine.market.bid == 60_300
    assert limits() == ["60903", "59697"]
    assert exchange.place(order_args(px="66900"), lambda *_: None).code == "51006"
    clock.now_ms += 2999
    exchange.tick()
    assert exchange.engine.market.bid == 60_300
    clock.now_ms += 1
    exchange.tick()
    assert limits() == before
    with pytest.raises(ValueError, match="100"):
        exchange.move_market(D(-100))


def test_recorded_prices_continue_from_a_move() -> None:
    exchange = net_exchange(MatchingMode.AUTO, prices=iter([D(67_000), D(67_100), D(67_200)]))
    exchange.tick()
    exchange.move_market(D(10))
    exchange.tick()
    assert exchange.engine.market.bid == D("73810")


def test_the_rules_of_the_instrument_can_change_at_once() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    exchange.place(order_args(clOrdId="a", px="66900.1"), lambda *_: None)
    exchange.fill("a", D("0.5"), D("66900.1"))
    exchange.change_instrument(
        attrs.evolve(
            exchange.instrument,
            tick_sz=D("0.5"),
            lot_sz=D("0.1"),
            min_sz=D("0.1"),
            ct_val=D("0.1"),
            inst_id_code=7,
        )
    )
    (row,) = client.get("/public/instruments", instType="SWAP")["data"]
    rules = [row[key] for key in ("tickSz", "lotSz", "minSz", "ctVal", "instIdCode")]
    assert rules == ["0.5", "0.1", "0.1", "0.1", 7]

    def code(**changes: Any) -> str:
        return exchange.place(order_args(**changes), check_inst_id_code).code

    assert code() == "51001"
    assert code(instIdCode=7, px="66900.1") == "51150"
    assert code(instIdCode=7, sz="0.15") == "51121"
    assert code(instIdCode=7, sz="0.01") == "51020"
    assert code(instIdCode=7) == "0"
    view = exchange.engine.position_view()
    assert view is not None
    assert view.notional == D("0.5") * D("0.1") * 67_000
    exchange.fill("a", D("0.5"), D("66900.1"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("instrument", {"tickSz": "0"}),
        ("instrument", {"colour": "1"}),
        ("move", {"percent": "-100"}),
        ("move", {}),
        ("funding-schedule", {"rate": "0.0001", "everyS": "0"}),
        ("liquidation", {"sz": "1"}),
        ("order", {"side": "up", "sz": "1"}),
    ],
)
def test_an_invalid_control_call_is_rejected(path: str, body: dict[str, str]) -> None:
    exchange = net_exchange()
    assert call(exchange, "POST", path, body)[0] == 400
    assert len(exchange.ground_truth) == 0


def test_market_instrument_and_funding_can_be_set_by_control_calls() -> None:
    exchange = net_exchange()
    assert call(exchange, "POST", "move", {"percent": "10", "backS": "5"})[0] == 200
    assert call(exchange, "GET", "state")[1]["bid"] == "73700"
    assert call(exchange, "POST", "instrument", {"tickSz": "1", "instIdCode": 8})[0] == 200
    assert (exchange.instrument.tick_sz, exchange.instrument.inst_id_code) == (D(1), 8)
    schedule = {"rate": "0.0002", "everyS": "60"}
    assert call(exchange, "POST", "funding-schedule", schedule)[0] == 200
    assert (exchange.funding_rate, exchange.funding_every_ms) == (D("0.0002"), 60_000)
