"""From action to order: the rules and worked examples of section 4 of the contract."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core.events import Action
from oms_trio.core.model import ClOrdId, OrderType, RejectReason, Side, StateId
from oms_trio.core.orders import OrderInfo
from oms_trio.core.sizing import Rejection, floor_to, size_order
from tests.core.desk import BTC, RULES, START_NS

FLAT = {Side.BUY: Decimal(0), Side.SELL: Decimal(0)}


def act(
    offset: str | Decimal, volume: str | Decimal, mid: str | Decimal, order_type: OrderType
) -> Action:
    """An action that came just now."""
    return Action(
        received_ns=START_NS,
        state_id=StateId(1),
        order_type=order_type,
        price=Decimal(offset),
        volume=Decimal(volume),
        mid=Decimal(mid),
        body=b"",
        message_id=None,
        redelivered=False,
        delivery=1,
    )


def size(
    balance: str | None,
    mid: str,
    offset: str,
    volume: str,
    order_type: OrderType = OrderType.LIMIT,
    *,
    position: str = "0",
    open_buys: str = "0",
    open_sells: str = "0",
    fraction: str = "0.2",
    mark: str | None = None,
) -> OrderInfo | Rejection:
    return size_order(
        act(offset, volume, mid, order_type),
        name=ClOrdId("name"),
        now_ns=START_NS,
        balance=None if balance is None else Decimal(balance),
        instrument=BTC,
        rules=attrs.evolve(RULES, max_margin_fraction=Decimal(fraction)),
        position=Decimal(position),
        open_same_side={Side.BUY: Decimal(open_buys), Side.SELL: Decimal(open_sells)},
        mark_px=None if mark is None else Decimal(mark),
    )


@pytest.mark.parametrize(
    ("balance", "mid", "offset", "volume", "order_type", "side", "px", "sz"),
    [
        ("10000", "67000.00", "-0.25", "3", OrderType.LIMIT, Side.BUY, "66983.2", "4.5"),
        ("2500", "67000.01", "0.5", "0.75", OrderType.MARKET, Side.SELL, None, "0.3"),
        ("10000", "64123.45", "0", "1.5", OrderType.LIMIT, Side.SELL, "64123.5", "2.4"),
        ("50", "98765.40", "0.125", "12.0625", OrderType.LIMIT, Side.SELL, "98777.8", "0.1"),
    ],
)
def test_worked_examples(
    balance: str,
    mid: str,
    offset: str,
    volume: str,
    order_type: OrderType,
    side: Side,
    px: str | None,
    sz: str,
) -> None:
    sized = size(balance, mid, offset, volume, order_type)
    assert isinstance(sized, OrderInfo)
    assert sized.side is side
    assert str(sized.price) == str(None if px is None else Decimal(px))
    assert sized.volume == Decimal(sz)


def test_price_on_the_tick_is_not_moved() -> None:
    """A raw price on the grid stays where it is, on either side."""
    sized = size("10000", "67000", "0.5", "1")
    assert isinstance(sized, OrderInfo)
    assert sized.price == Decimal("67033.5")
    sized = size("10000", "67000", "-0.5", "1")
    assert isinstance(sized, OrderInfo)
    assert sized.price == Decimal("66966.5")


def test_no_balance_is_not_ready() -> None:
    refused = size(None, "67000", "-0.25", "3")
    assert isinstance(refused, Rejection)
    assert refused.reason is RejectReason.NOT_READY


@pytest.mark.parametrize(("balance", "volume"), [("10000", "0"), ("0", "3"), ("-5", "3")])
def test_no_volume_or_no_money_is_below_min(balance: str, volume: str) -> None:
    refused = size(balance, "67000", "-0.25", volume)
    assert isinstance(refused, Rejection)
    assert refused.reason is RejectReason.BELOW_MIN


def test_cap_of_the_first_example() -> None:
    """Volume 1000 would be 1492.9 contracts; the position may reach 298.5 of exact 298.58."""
    sized = size("10000", "67000", "-0.25", "1000")
    assert isinstance(sized, OrderInfo)
    assert sized.volume == Decimal("298.5")


@pytest.mark.parametrize(
    ("balance", "mid", "order_type"),
    [
        pytest.param("2500", "14500", OrderType.MARKET, id="97 % of the balance as margin"),
        pytest.param("10000", "20200", OrderType.MARKET, id="69 %"),
        pytest.param("10000", "20200", OrderType.LIMIT, id="a limit order"),
    ],
)
def test_a_mid_below_the_market_buys_no_bigger_position(
    balance: str, mid: str, order_type: OrderType
) -> None:
    """By the wrong mid alone the position would be several times what the limit of 20 % lets it."""
    sized = size(balance, mid, "-0.25", "1000", order_type, mark="67000")
    assert isinstance(sized, OrderInfo)
    most = 100 * Decimal(balance) * Decimal("0.2")
    assert sized.volume == floor_to(most / 670, RULES.step)


def test_a_mid_above_the_market_caps_by_itself() -> None:
    sized = size("10000", "134000", "-0.25", "1000", mark="67000")
    assert isinstance(sized, OrderInfo)
    assert sized.volume == Decimal("149.2")


def test_the_mark_price_only_caps_and_an_order_within_the_cap_is_sized_by_its_own() -> None:
    for mark in (None, "60000", "67000", "70000"):
        sized = size("10000", "67000.00", "-0.25", "3", mark=mark)
        assert isinstance(sized, OrderInfo)
        assert sized.volume == Decimal("4.5")


def test_closing_is_allowed_whatever_the_mark_price() -> None:
    sized = size("10000", "67000", "0.25", "1000", position="200", mark="200000")
    assert isinstance(sized, OrderInfo)
    assert sized.volume == Decimal("300.0")


def test_cap_counts_the_position_and_open_orders_of_the_side() -> None:
    sized = size("10000", "67000", "-0.25", "1000", position="100", open_buys="98.45")
    assert isinstance(sized, OrderInfo)
    assert sized.volume == Decimal("100.0")
    refused = size("10000", "67000", "-0.25", "1000", position="200", open_buys="98.5")
    assert isinstance(refused, Rejection)
    assert refused.reason is RejectReason.MARGIN_CAP


def test_open_orders_of_the_other_side_do_not_count() -> None:
    sized = size("10000", "67000", "-0.25", "1000", open_sells="298")
    assert isinstance(sized, OrderInfo)
    assert sized.volume == Decimal("298.5")


def test_closing_is_always_allowed() -> None:
    """The cap bounds the position reached: an outsized long can be sold, through to the short cap."""
    sized = size("10000", "67000", "0.25", "1000", position="500")
    assert isinstance(sized, OrderInfo)
    assert sized.volume == Decimal("798.4")


def test_tiny_prices_do_not_make_an_order_at_zero() -> None:
    refused = size("10000", "0.01", "-0.9", "1")
    assert isinstance(refused, Rejection)


decimals = st.decimals(min_value="0.01", max_value="1000000", places=2)


@given(
    balance=st.decimals(min_value="0", max_value="100000000", places=8),
    mid=decimals,
    offset=st.decimals(min_value="-0.999", max_value="0.999", places=15),
    volume=st.decimals(min_value="0", max_value="1023", places=12),
    market=st.booleans(),
    position=st.integers(-5000, 5000),
    open_buys=st.integers(0, 5000),
    open_sells=st.integers(0, 5000),
    mark_px=st.none() | decimals,
)
def test_any_size_is_a_step_multiple_within_the_cap(
    balance: Decimal,
    mid: Decimal,
    offset: Decimal,
    volume: Decimal,
    market: bool,  # noqa: FBT001 - drawn by hypothesis
    position: int,
    open_buys: int,
    open_sells: int,
    mark_px: Decimal | None,
) -> None:
    pos = Decimal(position) / 10
    reached = {Side.BUY: Decimal(open_buys) / 10, Side.SELL: Decimal(open_sells) / 10}
    sized = size_order(
        act(offset, volume, mid, OrderType.MARKET if market else OrderType.LIMIT),
        name=ClOrdId("name"),
        now_ns=START_NS,
        balance=balance,
        instrument=BTC,
        rules=RULES,
        position=pos,
        open_same_side=reached,
        mark_px=mark_px,
    )
    if isinstance(sized, Rejection):
        return
    assert sized.volume >= RULES.step
    assert sized.volume % RULES.step == 0
    if sized.price is not None:
        assert sized.price % BTC.tick_sz == 0
    worst = sized.side.sign * pos + reached[sized.side] + sized.volume
    notional = worst * max(sized.ref_px, mark_px or sized.ref_px) * BTC.multiplier
    assert notional <= RULES.leverage * balance * RULES.max_margin_fraction


@given(
    value=st.decimals(min_value="-10000", max_value="10000", places=6),
    step=st.decimals(min_value="0.01", max_value="5", places=2),
)
def test_floor_to_is_the_multiple_just_below(value: Decimal, step: Decimal) -> None:
    floored = floor_to(value, step)
    assert floored % step == 0
    assert floored <= value < floored + step
