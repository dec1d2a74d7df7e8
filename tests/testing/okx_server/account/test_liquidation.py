"""Liquidation and auto-deleveraging: what is closed, at which price, and where it shows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from trio.testing import MockClock

from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.faults.catalog import inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.values import OrderCategory
from tests.testing.okx_server.clients import (
    RestClient,
    live_exchange,
    logged_in,
    net_exchange,
    order_args,
)

D = Decimal


def buy(exchange: SimulatedExchange, sz: str, px: str = "67000") -> None:
    args = order_args(side="buy", sz=sz, ordType="market", clOrdId=f"o{len(exchange.ground_truth)}")
    assert exchange.place(args, lambda *_: None).code == "0"
    exchange.fill(str(args["clOrdId"]), D(sz), D(px))


def listed(exchange: SimulatedExchange, path: str, **query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = RestClient(exchange).get(path, **query)["data"]
    return rows


def test_equity_at_the_maintenance_margin_ends_the_position_and_pays_the_penalty() -> None:
    exchange = net_exchange()
    buy(exchange, "1000")
    exchange.place(order_args(side="sell", clOrdId="resting", px="67500"), lambda *_: None)
    view = exchange.engine.account_view()
    assert view.mgn_ratio is not None
    assert view.mgn_ratio > 1
    exchange.set_price(D(66_300))
    (canceled,) = [o for o in exchange.ground_truth.orders() if o.cl_ord_id == "resting"]
    assert (canceled.state, canceled.cancel_source) == ("canceled", "3")
    *_, order = exchange.ground_truth.orders()
    assert (order.category, order.cl_ord_id, order.tag) == ("full_liquidation", "", "")
    fill = exchange.ground_truth.fills()[-1]
    assert fill.penalty < 0
    assert fill.pnl == (fill.px - 67_000) * 10 + fill.penalty
    assert exchange.engine.ledger.cash_bal >= 0
    (bill,) = listed(exchange, "/account/bills", type="5")
    assert (bill["subType"], bill["ordId"]) == ("107", order.ord_id)
    assert D(bill["balChg"]) == fill.pnl + fill.fee
    assert D(bill["bal"]) == exchange.engine.ledger.cash_bal
    (life,) = listed(exchange, "/account/positions-history")
    assert (life["type"], D(life["liqPenalty"])) == ("3", fill.penalty)
    assert D(life["realizedPnl"]) == exchange.engine.ledger.cash_bal - 10_000


@pytest.mark.parametrize(("side", "percent"), [("buy", "-10"), ("sell", "10")])
def test_a_gap_takes_all_cash_and_never_more(side: str, percent: str) -> None:
    exchange = net_exchange()
    args = order_args(side=side, sz="900", ordType="market", clOrdId="a")
    exchange.place(args, lambda *_: None)
    exchange.fill("a", D(900), D(67_000))
    exchange.move_market(D(percent))
    assert exchange.engine.ledger.pos == 0
    assert 0 <= exchange.engine.ledger.cash_bal < 10
    assert exchange.ground_truth.fills()[-1].px != exchange.engine.market.mark_px


def test_a_position_of_a_high_tier_is_reduced_before_it_is_closed() -> None:
    exchange = net_exchange(account=ExchangeAccount(balance=D(900_000)))
    exchange.set_lever(D(50))
    for _ in range(5):
        buy(exchange, "3000")
    exchange.set_price(D(61_600))
    categories = [fill.category for fill in exchange.ground_truth.fills()[5:]]
    assert categories[0] is OrderCategory.PARTIAL_LIQUIDATION
    assert exchange.ground_truth.fills()[5].sz == 14_000
    assert [row["subType"] for row in listed(exchange, "/account/bills", type="5")][-1] == "103"


def test_a_part_can_be_liquidated_on_request() -> None:
    exchange = net_exchange()
    buy(exchange, "3")
    exchange.liquidate(D(1))
    assert exchange.engine.ledger.pos == 2
    assert listed(exchange, "/account/positions-history")[0]["type"] == "4"
    (position,) = listed(exchange, "/account/positions", instId="BTC-USDT-SWAP")
    assert D(position["liqPenalty"]) == exchange.ground_truth.fills()[-1].penalty < 0
    with pytest.raises(LookupError):
        exchange.liquidate(D(3))


def test_funding_can_cause_a_liquidation() -> None:
    exchange = net_exchange()
    buy(exchange, "1000")
    exchange.set_price(D("66_500"))
    assert exchange.engine.ledger.pos == 1000
    exchange.fund(D("0.005"))
    assert exchange.engine.ledger.pos == 0


@pytest.mark.parametrize("quiet", [0, 1, 2])
async def test_balance_and_position_always_names_the_cause(
    quiet: int, autojump_clock: MockClock
) -> None:
    exchange = live_exchange(autojump_clock, MatchingMode.MANUAL)
    buy(exchange, "4")
    exchange.faults.hide_risk_orders = quiet
    async with logged_in(exchange, "balance_and_position") as client:
        exchange.liquidate()
        push = (await client.next())["data"][0]
    assert (push["eventType"], push["posData"][0]["pos"]) == ("liquidation", "0")


@pytest.mark.parametrize(
    "kind", [FaultKind.ADL, FaultKind.LIQUIDATION, FaultKind.PARTIAL_LIQUIDATION]
)
@pytest.mark.parametrize("quiet", [0, 1, 2])
async def test_a_switch_hides_the_orders_of_the_risk_engine(
    kind: FaultKind, quiet: int, autojump_clock: MockClock
) -> None:
    exchange = live_exchange(autojump_clock, MatchingMode.MANUAL)
    buy(exchange, "4")
    before = exchange.engine.ledger.position
    assert before is not None
    exchange.faults.hide_risk_orders = quiet
    async with logged_in(exchange, "orders", "positions") as client:
        inject(exchange, FaultEvent(kind))
        frames = [await client.next() for _ in range(1 if quiet else 3)]
        await client.nothing()
    channels = [frame["arg"]["channel"] for frame in frames]
    assert channels == (["positions"] if quiet else ["orders", "orders", "positions"])
    position = frames[-1]["data"][0]
    fill = exchange.ground_truth.fills()[-1]
    assert D(position["pos"]) == 4 - fill.sz
    keeps_trade_id = bool(quiet) or kind is FaultKind.ADL
    assert (position["tradeId"] == str(before.trade_id)) is keeps_trade_id
    assert int(position["uTime"]) >= before.u_time_ms
    lists = {
        path: [row["ordId"] for row in listed(exchange, path, instType="SWAP")]
        for path in ("/trade/fills", "/trade/orders-history", "/trade/fills-history")
    }
    assert all((fill.ord_id in rows) is (quiet < 2) for rows in lists.values())
    known = listed(exchange, "/trade/order", instId="BTC-USDT-SWAP", ordId=fill.ord_id)
    assert bool(known) is (quiet < 2)
    bill_type = "9" if kind is FaultKind.ADL else "5"
    (bill,) = listed(exchange, "/account/bills", type=bill_type)
    assert (bill["ordId"], bill["tradeId"]) == (fill.ord_id, str(fill.trade_id))
    assert (fill.trade_id < 0) is (kind is FaultKind.ADL)
