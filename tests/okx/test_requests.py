"""Encoded requests on the WebSocket."""

from __future__ import annotations

import json
from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core.effects import PlaceOrder
from oms_trio.core.model import ClOrdId, ExchangeMs, OrderType, OrdId, Side
from oms_trio.okx.wire.requests import (
    PING,
    encode_batch_cancel,
    encode_cancel,
    encode_order,
    encode_subscribe,
    plain,
)
from tests.okx.samples import INST_ID

LIMIT = PlaceOrder(
    ClOrdId("oms7f3a01"),
    Side.BUY,
    OrderType.LIMIT,
    Decimal("84000.1"),
    Decimal("3.5"),
    0,
    exp_time_ms=ExchangeMs(1790000003000),
    inst_id_code=10459,
)


def encoded(order: PlaceOrder, tag: str = "rl", request_id: str = "p7f3a01") -> str:
    return encode_order(order, tag=tag, request_id=request_id)


def test_a_limit_order_names_the_instrument_by_its_code() -> None:
    assert json.loads(encoded(LIMIT)) == {
        "id": "p7f3a01",
        "op": "order",
        "expTime": "1790000003000",
        "args": [
            {
                "instIdCode": 10459,
                "tdMode": "cross",
                "side": "buy",
                "ordType": "limit",
                "px": "84000.1",
                "sz": "3.5",
                "clOrdId": "oms7f3a01",
                "tag": "rl",
            }
        ],
    }


def test_a_market_order_has_no_price() -> None:
    market = attrs.evolve(LIMIT, ord_type=OrderType.MARKET, side=Side.SELL)
    (args,) = json.loads(encoded(market))["args"]
    assert "px" not in args
    assert (args["ordType"], args["side"]) == ("market", "sell")


@pytest.mark.parametrize("name", ["", "with-hyphen", "under_score", "a" * 33, "é", "a\n"])
def test_names_that_the_exchange_rejects_are_not_sent(name: str) -> None:
    """nautilus_trader#4116: a clOrdId with a hyphen or over 32 characters is rejected (51000)."""
    with pytest.raises(ValueError, match="clOrdId"):
        encoded(attrs.evolve(LIMIT, cl_ord_id=ClOrdId(name)))
    with pytest.raises(ValueError, match=r"^id .* must be 1 to 32 letters"):
        encoded(LIMIT, request_id=name)


def test_a_tag_has_at_most_16_letters_and_digits() -> None:
    assert json.loads(encoded(LIMIT, tag="a" * 16))["args"][0]["tag"] == "a" * 16
    for tag in ("a" * 17, "r-l"):
        with pytest.raises(ValueError, match="tag"):
            encoded(LIMIT, tag=tag)


def test_a_limit_order_without_a_price_is_a_bug() -> None:
    with pytest.raises(ValueError, match="price"):
        encoded(attrs.evolve(LIMIT, px=None))


def test_the_heartbeat_is_the_bare_text() -> None:
    """QuantDinger#236, hummingbot#8296: JSON pings are not understood and the connection is closed."""
    assert PING == "ping"


def test_the_subscription_requests_the_fastest_position_updates() -> None:
    instrument = {"instType": "SWAP", "instId": INST_ID}
    assert json.loads(encode_subscribe(INST_ID, "s1")) == {
        "id": "s1",
        "op": "subscribe",
        "args": [
            {"channel": "orders", **instrument},
            {
                "channel": "positions",
                **instrument,
                "extraParams": '{"updateInterval":"2000"}',
            },
            {"channel": "account", "ccy": "USDT"},
        ],
    }


def test_cancels() -> None:
    ord_ids = [OrdId(str(number)) for number in range(20)]
    single = encode_cancel(ord_ids[7], inst_id_code=10459, request_id="c1")
    assert single == '{"id":"c1","op":"cancel-order","args":[{"instIdCode":10459,"ordId":"7"}]}'
    batch = json.loads(encode_batch_cancel(ord_ids, inst_id_code=10459, request_id="c2"))
    assert batch["op"] == "batch-cancel-orders"
    assert batch["args"] == [{"instIdCode": 10459, "ordId": ord_id} for ord_id in ord_ids]


@pytest.mark.parametrize("count", [0, 21])
def test_a_batch_has_1_to_20_elements(count: int) -> None:
    with pytest.raises(ValueError, match="batch"):
        encode_batch_cancel([OrdId("1")] * count, inst_id_code=1, request_id="c")


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**12, places=8))
def test_numbers_are_written_plainly_and_exactly(number: Decimal) -> None:
    written = plain(number)
    assert Decimal(written) == number
    assert "E" not in written
    assert "." not in written or not written.endswith("0")


def test_round_numbers_get_no_exponent() -> None:
    assert plain(Decimal("1E+2")) == "100"
    assert plain(Decimal("66983.20")) == "66983.2"
