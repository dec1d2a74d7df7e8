"""Impossible values are rejected when they are decoded, and the exchange's own samples are accepted."""

from __future__ import annotations

import json

import pytest

from oms_trio.okx.errors import ProtocolError
from oms_trio.okx.wire import bodies
from oms_trio.okx.wire.codec import decode_frame
from oms_trio.okx.wire.frames import AccountPush, OrdersPush, PositionsPush
from tests.okx.samples import (
    ACCOUNT,
    FILLS,
    INST_ID,
    fill_row,
    live_row,
    order_row,
    orders_push,
    positions_push,
    rest_body,
)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"accFillSz": "3.6"}, "accFillSz"),
        ({"accFillSz": "1000000"}, "accFillSz"),
        ({"sz": "0"}, "sz"),
        ({"sz": "-3.5"}, "sz"),
        ({"sz": "10000000000"}, "sz"),
        ({"fillPx": "-84000"}, "fillPx"),
        ({"fillPx": "0"}, "fillPx"),
        ({"fillPx": "1e12"}, "fillPx"),
        ({"fillSz": "-1.2"}, "fillSz"),
        ({"px": "-1"}, "px"),
        ({"avgPx": "-1"}, "avgPx"),
        ({"uTime": "0"}, "uTime"),
        ({"uTime": "9999999999999999999"}, "uTime"),
        ({"uTime": "1790000004"}, "uTime"),
        ({"cTime": "-1"}, "cTime"),
        ({"fillTime": "4102444800000"}, "fillTime"),
        ({"fillFee": "1e20"}, "fillFee"),
        ({"fillPnl": "-1e20"}, "fillPnl"),
    ],
)
def test_orders(changes: dict[str, str], name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_frame(orders_push(order_row(**changes)), INST_ID, "rl")
    assert caught.value.path == f"$.data[0].{name}"


@pytest.mark.parametrize(
    "row",
    [
        live_row(),
        live_row(px="", ordType="market"),
        live_row(state="canceled", cancelSource="20"),
        order_row(),
        order_row(state="filled", accFillSz="3.5"),
        order_row(tradeId="-12", category="adl"),
        order_row(sz="100000000"),
        order_row(fillPnl="-123456.789"),
    ],
)
def test_valid_orders_are_accepted(row: dict[str, str]) -> None:
    frame = decode_frame(orders_push(row), INST_ID, "rl")
    assert isinstance(frame, OrdersPush)
    assert len(frame.reports) == 1


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"pos": "1000000001"}, "pos"),
        ({"pos": "-1e20"}, "pos"),
        ({"avgPx": "-1"}, "avgPx"),
        ({"uplRatio": "1e9"}, "uplRatio"),
        ({"markPx": "1e12"}, "markPx"),
        ({"uTime": "1"}, "uTime"),
        ({"fundingFee": "1e20"}, "fundingFee"),
    ],
)
def test_positions(changes: dict[str, str], name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_frame(positions_push(**changes), INST_ID)
    assert caught.value.path == f"$.data[0].{name}"


@pytest.mark.parametrize(
    "changes",
    [
        {"pos": "0", "avgPx": "", "uplRatio": "", "markPx": "", "fundingFee": ""},
        {"pos": "0", "avgPx": "0", "markPx": "0"},
        {"pos": "-35000", "uplRatio": "-1.5", "fundingFee": "-12.5"},
    ],
)
def test_valid_positions_are_accepted(changes: dict[str, str]) -> None:
    frame = decode_frame(positions_push(**changes), INST_ID)
    assert isinstance(frame, PositionsPush)
    assert len(frame.reports) == 1


@pytest.mark.parametrize("cash", ["1e20", "100000000000000000000", "-1e12"])
def test_a_balance(cash: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_frame(ACCOUNT.replace("999.4119993", cash), INST_ID)
    assert caught.value.path == "$.data[0].details[0].cashBal"


@pytest.mark.parametrize("cash", ["0", "-12.5", "250000000"])
def test_valid_balances_are_accepted(cash: str) -> None:
    frame = decode_frame(ACCOUNT.replace("999.4119993", cash), INST_ID)
    assert isinstance(frame, AccountPush)
    assert frame.balance is not None


def test_rest_has_the_same_bounds() -> None:
    for row in (order_row(accFillSz="4"), order_row(sz="0")):
        with pytest.raises(ProtocolError):
            bodies.orders(rest_body(row), INST_ID, tag="rl")
    with pytest.raises(ProtocolError):
        bodies.fills(rest_body(fill_row(fillPx="0")), INST_ID, tag="rl")
    assert len(bodies.fills(FILLS, INST_ID, tag="rl")) == 1
    account = json.loads(ACCOUNT)["data"][0]
    account["details"][0]["cashBal"] = "1e20"
    with pytest.raises(ProtocolError):
        bodies.balance(rest_body(account))
    with pytest.raises(ProtocolError):
        bodies.mark_price(rest_body({"instId": INST_ID, "markPx": "0"}), INST_ID)


@pytest.mark.parametrize("ts", ["0", "1", "1790000000", "9999999999999999999", "-1", ""])
def test_impossible_times_of_the_exchange_are_rejected(ts: str) -> None:
    with pytest.raises(ProtocolError):
        bodies.server_time(rest_body({"ts": ts}))
