"""Rows of an unknown owner, and absurd values in rows of our own."""

from __future__ import annotations

from decimal import Decimal

import pytest
from trio.testing import MockClock

from oms_trio.testing.okx_server.faults.catalog import inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.faults.switches import RowEdit
from tests.testing.okx_server.clients import (
    ManualClock,
    RestClient,
    live_exchange,
    logged_in,
    net_exchange,
    order_args,
)

INST_ID = "BTC-USDT-SWAP"


async def test_foreign_rows_are_added_to_pushes(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    inject(
        exchange, FaultEvent(FaultKind.FOREIGN_ORDER, code="state=mystery,side=both", duration_s=5)
    )
    inject(exchange, FaultEvent(FaultKind.FOREIGN_POSITION, code="mgnMode=isolated", duration_s=5))
    async with logged_in(exchange, "orders", "positions") as client:
        exchange.place(order_args(clOrdId="a"), lambda *_: None)
        ours, foreign = (await client.next())["data"]
        assert (ours["clOrdId"], ours["state"]) == ("a", "live")
        assert (foreign["tag"], foreign["state"], foreign["side"]) == ("", "mystery", "both")
        exchange.fill("a", Decimal(1), Decimal(66_900))
        assert len((await client.next())["data"]) == 2
        held, other = (await client.next())["data"]
        assert (held["mgnMode"], other["mgnMode"]) == ("cross", "isolated")
        assert held["posId"] != other["posId"]


def test_foreign_rows_are_added_to_lists_until_the_fault_ends() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    exchange.place(order_args(clOrdId="a", sz="2"), lambda *_: None)
    exchange.fill("a", Decimal(1), Decimal(66_900))
    inject(exchange, FaultEvent(FaultKind.FOREIGN_ORDER, code="state=mystery", duration_s=5))
    inject(exchange, FaultEvent(FaultKind.FOREIGN_POSITION, duration_s=5))
    inject(exchange, FaultEvent(FaultKind.FOREIGN_FILL, code="side=both", duration_s=5))
    paths = {
        "/trade/orders-pending": 1,
        "/trade/orders-history": 0,
        "/trade/fills": 1,
        "/account/positions": 1,
    }
    for path, ours in paths.items():
        assert len(client.get(path, instType="SWAP")["data"]) == ours + 1
    *_, oldest = client.get("/trade/orders-pending")["data"]
    assert (oldest["state"], oldest["tag"]) == ("mystery", "")
    assert client.get("/trade/orders-pending", limit="1")["data"][0]["clOrdId"] == "a"
    assert client.get("/trade/fills")["data"][1]["side"] == "both"
    assert "pTime" not in client.get("/account/positions")["data"][1]
    clock.now_ms += 5000
    for path, ours in paths.items():
        assert len(client.get(path, instType="SWAP")["data"]) == ours


@pytest.mark.parametrize(
    ("state", "pending", "past"), [("live", 1, 0), ("filled", 0, 1), ("mystery", 1, 1)]
)
def test_a_foreign_order_is_listed_where_its_state_belongs(
    state: str, pending: int, past: int
) -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    exchange.faults.foreign_order = f"state={state}"
    assert len(client.get("/trade/orders-pending")["data"]) == pending
    assert len(client.get("/trade/orders-history", instType="SWAP")["data"]) == past


async def test_the_next_row_of_a_channel_can_be_absurd_once(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    inject(exchange, FaultEvent(FaultKind.ABSURD, code="orders accFillSz=1e9,sz=-3"))
    inject(exchange, FaultEvent(FaultKind.ABSURD, code="account cashBal=1e20"))
    async with logged_in(exchange, "orders", "positions") as client:
        inject(exchange, FaultEvent(FaultKind.ABSURD, code="positions pos=1e20"))
        exchange.place(order_args(clOrdId="a", sz="2"), lambda *_: None)
        row = (await client.next())["data"][0]
        assert (row["accFillSz"], row["sz"]) == ("1e9", "-3")
        for pos in ("1e20", "2"):
            exchange.fill("a", Decimal(1), Decimal(66_900))
            assert (await client.next())["data"][0]["sz"] == "2"
            assert (await client.next())["data"][0]["pos"] == pos
    async with logged_in(exchange) as client:
        first = await client.subscribe({"channel": "account", "ccy": "USDT"})
        assert first[-1]["data"][0]["details"][0]["cashBal"] == "1e20"
    assert not exchange.faults.edits


def test_the_first_row_of_an_answer_can_be_absurd_once() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    exchange.faults.edits.append(RowEdit("trade/orders-pending", "state=mystery,tag=ours"))
    assert client.get("/trade/orders-pending")["data"] == []
    exchange.place(order_args(clOrdId="a"), lambda *_: None)
    states = [client.get("/trade/orders-pending")["data"][0]["state"] for _ in range(2)]
    assert states == ["mystery", "live"]
    inject(exchange, FaultEvent(FaultKind.ABSURD, code="account/balance cashBal=1e20,uTime="))
    details = client.get("/account/balance")["data"][0]["details"][0]
    assert (details["cashBal"], details["uTime"]) == ("1e20", "")
