"""Net position, profit, fees and margin: by example, and for every sequence of fills."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.values import NetPosition, text
from tests.testing.okx_server.clients import RestClient, net_exchange, order_args

D = Decimal
LOTS = st.integers(1, 500).map(lambda lots: D(lots) / 100)
PRICES = st.integers(600_000, 700_000).map(lambda ticks: D(ticks) / 10)
FILLS = st.lists(st.tuples(st.sampled_from(Side), LOTS, PRICES), min_size=1, max_size=12)


def held(pos: str, avg_px: str) -> NetPosition:
    return NetPosition("1", D(pos), D(avg_px), 1, 0, 0)


@pytest.mark.parametrize(
    ("before", "side", "sz", "px", "pos", "avg_px", "realised"),
    [
        ("2", Side.BUY, "1", "66900", "3", "66966.666666666666667", "0"),
        ("3", Side.SELL, "1", "67100", "2", "67000", "1"),
        ("3", Side.SELL, "3", "66900", "0", "67000", "-3"),
        ("3", Side.SELL, "5", "67100", "-2", "67100", "3"),
        ("-2", Side.SELL, "2", "67200", "-4", "67100", "0"),
        ("-2", Side.BUY, "0.5", "66000", "-1.5", "67000", "5"),
        ("-2", Side.BUY, "3", "66000", "1", "66000", "20"),
    ],
)
def test_a_fill_increases_reduces_or_turns_the_position(
    before: str, side: Side, sz: str, px: str, pos: str, avg_px: str, realised: str
) -> None:
    after, profit = held(before, "67000").after(side, D(px), D(sz), D("0.01"))
    assert (text(after.pos), text(after.avg_px), text(profit)) == (pos, avg_px, realised)


@given(FILLS)
def test_position_is_the_sum_of_fills_and_cash_is_start_plus_profit_less_fees(
    fills: list[tuple[Side, D, D]],
) -> None:
    exchange = net_exchange()
    for number, (side, sz, px) in enumerate(fills):
        args = order_args(side=side.value, sz=text(sz), ordType="market", clOrdId=f"o{number}")
        del args["instIdCode"]
        placed = RestClient(exchange).post("/trade/order", args | {"instId": "BTC-USDT-SWAP"})
        assert placed["code"] == "0"
        exchange.fill(f"o{number}", sz, px)
    booked = exchange.ground_truth.fills()
    assert exchange.engine.ledger.pos == sum(fill.side.sign * fill.sz for fill in booked)
    assert exchange.engine.ledger.cash_bal == D(10_000) + sum(
        fill.pnl + fill.fee for fill in booked
    )


@given(FILLS)
def test_profit_is_what_the_money_moved_by_trading_and_the_rest_comes_to(
    fills: list[tuple[Side, D, D]],
) -> None:
    """Realised plus unrealised profit equals the cash flow of all matches, in whatever order."""
    position, realised, flow = held("0", "1"), D(0), D(0)
    for side, sz, px in fills:
        position, profit = position.after(side, px, sz, D("0.01"))
        realised += profit
        flow -= side.sign * sz * px * D("0.01")
    mark = D(65_000)
    unrealised = (mark - position.avg_px) * position.pos * D("0.01")
    assert abs(realised + unrealised - (flow + position.pos * mark * D("0.01"))) < D("1e-9")


@pytest.mark.parametrize(
    ("ord_type", "px", "fee", "exec_type"),
    [("limit", "67000", "-0.268", "M"), ("market", None, "-0.67", "T")],
)
def test_makers_pay_two_and_takers_five_hundredths_of_a_percent(
    ord_type: str, px: str | None, fee: str, exec_type: str
) -> None:
    exchange = net_exchange()
    args = order_args(ordType=ord_type, px=px, sz="2", clOrdId="a")
    exchange.place(args, lambda *_: None)
    exchange.fill("a", D(2), D(67_000))
    (fill,) = exchange.ground_truth.fills()
    assert (text(fill.fee), fill.exec_type) == (fee, exec_type)


def test_the_ratio_is_the_return_on_the_entry_margin() -> None:
    """At 100x an adverse move of 1 % is -1.0."""
    exchange = net_exchange()
    exchange.place(order_args(clOrdId="a", px="67000"), lambda *_: None)
    exchange.fill("a", D(1), D(67_000))
    exchange.set_price(D(66_330))
    view = exchange.engine.position_view()
    assert view is not None
    assert (view.upl, view.upl_ratio) == (D("-6.7"), D(-1))
    assert view.imr == D("6.633")
    assert view.mmr == D("2.6532")


def test_a_position_that_equity_no_longer_covers_is_liquidated() -> None:
    exchange = net_exchange()
    exchange.place(order_args(clOrdId="a", px="67000", sz="1000"), lambda *_: None)
    exchange.fill("a", D(1000), D(67_000))
    exchange.place(order_args(clOrdId="b", sz="1"), lambda *_: None)
    exchange.set_price(D(66_600))
    assert exchange.engine.ledger.pos == 1000
    exchange.set_price(D(66_300))
    assert exchange.engine.ledger.pos == 0
    assert exchange.engine.book.pending == []
    assert exchange.ground_truth.fills()[-1].category == "full_liquidation"
