"""How orders match with the market, which repeats with the seed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.orders.request_checks import check_inst_id_code
from oms_trio.testing.okx_server.values import text
from tests.testing.okx_server.clients import ManualClock, net_exchange, order_args


def auto(**settings: Any) -> SimulatedExchange:
    return net_exchange(MatchingMode.AUTO, **settings)


def states(exchange: SimulatedExchange) -> list[tuple[str, str]]:
    return [(entry.order.state.value, entry.order.cancel_source) for entry in exchange.ground_truth]


def test_a_market_order_is_live_and_then_filled_level_by_level() -> None:
    exchange = auto()
    exchange.engine.market.depth_lots = (100, 100)
    exchange.place(order_args(ordType="market", px=None, sz="2.5"), check_inst_id_code)
    assert [state for state, _ in states(exchange)] == [
        "live",
        "partially_filled",
        "partially_filled",
        "filled",
    ]
    fills = exchange.ground_truth.fills()
    assert [fill.sz for fill in fills] == [1, 1, Decimal("0.5")]
    assert fills[0].px == Decimal("67000.1")
    assert sorted(fills, key=lambda fill: fill.px) == fills
    assert sorted(fills, key=lambda fill: fill.trade_id) == fills


@pytest.mark.parametrize(
    ("ord_type", "sz", "end"),
    [
        ("fok", "2", ("canceled", "13")),
        ("fok", "1", ("filled", "")),
        ("ioc", "2", ("canceled", "14")),
        ("limit", "2", ("partially_filled", "")),
    ],
)
def test_an_unfilled_remainder_ends_as_its_order_type_requires(
    ord_type: str, sz: str, end: tuple[str, str]
) -> None:
    exchange = auto()
    exchange.engine.market.depth_lots = (100, 100)
    exchange.place(order_args(ordType=ord_type, px="67000.1", sz=sz), check_inst_id_code)
    assert states(exchange)[-1] == end


def test_a_resting_order_fills_as_maker_at_its_price_when_the_market_gets_there() -> None:
    exchange = auto()
    exchange.place(order_args(px="66900"), check_inst_id_code)
    exchange.set_price(Decimal(66_900))
    assert exchange.ground_truth.fills() == []
    exchange.set_price(Decimal("66899.9"))
    (fill,) = exchange.ground_truth.fills()
    assert (text(fill.px), fill.exec_type) == ("66900", "M")


def test_own_orders_do_not_trade_with_each_other() -> None:
    exchange = auto()
    exchange.engine.market.depth_lots = (100, 100)
    exchange.place(order_args(side="sell", px="67000.2", clOrdId="maker"), check_inst_id_code)
    exchange.place(order_args(ordType="market", px=None, sz="9"), check_inst_id_code)
    assert ("canceled", "32") in states(exchange)


def run(seed: int, steps: int) -> SimulatedExchange:
    """Trade at random prices around the market for a while."""
    clock = ManualClock()
    exchange = auto(seed=seed, clock=clock)
    for step in range(steps):
        clock.now_ms += 250
        side = "buy" if step % 3 else "sell"
        exchange.place(
            order_args(side=side, px=str(exchange.engine.market.bid), sz="0.5"),
            check_inst_id_code,
        )
        exchange.tick()
    return exchange


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_the_book_never_loses_or_invents_a_contract(seed: int) -> None:
    exchange = run(seed, 40)
    for order in exchange.ground_truth.orders():
        own = [fill for fill in exchange.ground_truth.fills() if fill.ord_id == order.ord_id]
        assert order.acc_fill_sz == sum(fill.sz for fill in own) <= order.sz
        assert (order.state == "filled") == (order.acc_fill_sz == order.sz)
    assert exchange.engine.ledger.pos == sum(
        fill.side.sign * fill.sz for fill in exchange.ground_truth.fills()
    )


def test_the_same_seed_gives_the_same_ground_truth_byte_for_byte() -> None:
    assert run(7, 60).ground_truth.dump() == run(7, 60).ground_truth.dump()
    assert run(7, 60).ground_truth.dump() != run(8, 60).ground_truth.dump()


@pytest.mark.parametrize(
    ("stp_mode", "maker", "taker", "filled"),
    [
        ("cancel_maker", "canceled", "filled", "9"),
        ("cancel_taker", "live", "canceled", "1"),
        ("cancel_both", "canceled", "canceled", "1"),
    ],
)
def test_the_self_trade_mode_decides_which_order_is_cancelled(
    stp_mode: str, maker: str, taker: str, filled: str
) -> None:
    exchange = auto(seed=2)
    exchange.engine.market.depth_lots = (100, 100)
    exchange.place(order_args(side="sell", px="67000.2", clOrdId="maker"), check_inst_id_code)
    crossing = order_args(ordType="market", px=None, sz="9", stpMode=stp_mode)
    exchange.place(crossing, check_inst_id_code)
    resting, crossed = exchange.ground_truth.orders()
    assert (resting.state, crossed.state, text(crossed.acc_fill_sz)) == (maker, taker, filled)


def test_a_fill_or_kill_order_that_meets_an_own_order_fills_nothing() -> None:
    exchange = auto(seed=2)
    exchange.engine.market.depth_lots = (100, 100)
    exchange.place(order_args(side="sell", px="67000.2"), check_inst_id_code)
    kill = order_args(ordType="fok", px="67100", sz="9", stpMode="cancel_taker")
    exchange.place(kill, check_inst_id_code)
    assert exchange.ground_truth.fills() == []
    both = exchange.place(kill | {"stpMode": "cancel_both"}, check_inst_id_code)
    assert both.code == "54036"


def test_the_market_follows_recorded_prices_and_stays_at_the_last() -> None:
    prices = [Decimal(66_950), Decimal("66899.9"), Decimal(67_010)]
    exchange = auto(prices=iter(prices))
    exchange.place(order_args(px="66900"), check_inst_id_code)
    bids = []
    for _ in range(5):
        exchange.tick()
        bids.append(exchange.engine.market.bid)
    assert bids == [*prices, prices[-1], prices[-1]]
    (fill,) = exchange.ground_truth.fills()
    assert (fill.px, fill.exec_type) == (Decimal(66_900), "M")
