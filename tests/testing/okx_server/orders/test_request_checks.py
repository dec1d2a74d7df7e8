"""Which requests the gateway rejects, with which code, and which it accepts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.orders.request_checks import check_inst_id_code
from tests.testing.okx_server.clients import ManualClock, net_exchange, order_args


def place(exchange: SimulatedExchange, **changes: Any) -> str:
    return exchange.place(order_args(**changes), check_inst_id_code).code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "0"),
        ({"instIdCode": None, "instId": "BTC-USDT-SWAP"}, "50014"),
        ({"instIdCode": 0}, "51001"),
        ({"instIdCode": "10459"}, "51001"),
        ({"clOrdId": "with-hyphen"}, "51000"),
        ({"clOrdId": "a" * 33}, "51000"),
        ({"clOrdId": "a" * 32}, "0"),
        ({"tag": "a" * 17}, "51000"),
        ({"tdMode": "lever"}, "51000"),
        ({"side": "long"}, "51000"),
        ({"ordType": "stop"}, "51000"),
        ({"posSide": "long"}, "51000"),
        ({"posSide": "net"}, "0"),
        ({"sz": "0.001"}, "51020"),
        ({"sz": "0"}, "51020"),
        ({"sz": "1.005"}, "51121"),
        ({"sz": "many"}, "51000"),
        ({"sz": "1e999999"}, "51000"),
        ({"px": None}, "51204"),
        ({"px": "66900.05"}, "51150"),
        ({"px": "-1"}, "51000"),
        ({"px": "67670.1"}, "51006"),
        ({"px": "67670"}, "0"),
        ({"px": "67670.1", "pxAmendType": "1"}, "0"),
        ({"side": "sell", "px": "66329.9"}, "51006"),
        ({"ordType": "market", "px": None}, "0"),
        ({"ordType": "market", "px": None, "sz": "35000.01"}, "51202"),
        ({"sz": "100000000.01"}, "51101"),
        ({"sz": "2000"}, "51008"),
        ({"reduceOnly": True}, "51169"),
    ],
)
def test_one_order_on_a_new_account(changes: dict[str, Any], code: str) -> None:
    assert place(net_exchange(), **changes) == code


def test_insufficient_margin_has_a_sub_code() -> None:
    outcome = net_exchange().place(order_args(sz="2000"), check_inst_id_code)
    assert outcome.sub_code == "51008_1001"


def test_a_rejected_order_leaves_no_trace() -> None:
    exchange = net_exchange()
    place(exchange, sz="2000")
    assert len(exchange.ground_truth) == 0
    assert exchange.engine.book.pending == []


def test_a_client_id_is_unique_among_pending_orders_only() -> None:
    """Resending after the first order has filled opens a second one."""
    exchange = net_exchange()
    assert place(exchange, clOrdId="twice") == "0"
    assert place(exchange, clOrdId="twice") == "51016"
    exchange.fill("twice", Decimal(1), Decimal(66_900))
    assert place(exchange, clOrdId="twice") == "0"
    assert len(exchange.ground_truth.orders()) == 2


def test_reduce_only_orders_follow_the_position() -> None:
    exchange = net_exchange()
    place(exchange, clOrdId="a")
    exchange.fill("a", Decimal(1), Decimal(66_900))
    assert place(exchange, reduceOnly=True) == "51170"
    assert place(exchange, side="sell", sz="1.01", reduceOnly=True) == "51112"
    assert place(exchange, side="sell", sz="1", reduceOnly=True) == "0"


def test_pending_orders_are_capped() -> None:
    exchange = net_exchange()
    for _ in range(500):
        assert place(exchange, sz="0.01") == "0"
    assert place(exchange, sz="0.01") == "51102"


def test_only_the_next_order_is_rejected_on_request() -> None:
    exchange = net_exchange()
    exchange.reject_next_orders("51054")
    assert [place(exchange), place(exchange)] == ["51054", "0"]


def test_a_new_account_is_in_hedge_mode_and_rejects_net_orders() -> None:
    assert place(SimulatedExchange(clock=ManualClock())) == "51000"


def test_order_ids_have_nineteen_digits_and_increase() -> None:
    exchange = net_exchange()
    numbers = [exchange.place(order_args(), check_inst_id_code).ord_id for _ in range(50)]
    assert all(len(number) == 19 for number in numbers)
    assert sorted(numbers, key=int) == numbers


@pytest.mark.parametrize("ord_type", ["ioc", "fok", "post_only"])
def test_orders_that_may_not_rest_are_cancelled_at_once(ord_type: str) -> None:
    """Nothing fills by itself in manual mode; of a crossing post-only order only the end is pushed."""
    exchange = net_exchange()
    place(exchange, ordType=ord_type, px="67100")
    changes = [
        (entry.order.state.value, entry.order.cancel_source) for entry in exchange.ground_truth
    ]
    assert (
        changes
        == {
            "ioc": [("live", ""), ("canceled", "14")],
            "fok": [("live", ""), ("canceled", "13")],
            "post_only": [("canceled", "31")],
        }[ord_type]
    )


def test_an_amendment_keeps_the_order_and_its_new_size_is_the_total() -> None:
    exchange = net_exchange()
    place(exchange, clOrdId="a", sz="3")
    exchange.fill("a", Decimal(1), Decimal(66_900))
    amended = exchange.amend(
        {"instIdCode": 10459, "clOrdId": "a", "newSz": "2", "newPx": "66800", "reqId": "r1"},
        check_inst_id_code,
    )
    (order,) = exchange.engine.book.pending
    assert (amended.code, amended.ord_id, amended.req_id) == ("0", order.ord_id, "r1")
    assert (order.sz, order.px, order.remaining) == (Decimal(2), Decimal(66_800), Decimal(1))
    exchange.amend({"instIdCode": 10459, "clOrdId": "a", "newSz": "0.5"}, check_inst_id_code)
    assert exchange.ground_truth.orders()[0].state == "filled"
    late = exchange.amend({"instIdCode": 10459, "clOrdId": "a", "newSz": "9"}, check_inst_id_code)
    assert late.code == "51510"


def test_the_secret_is_not_shown() -> None:
    shown = repr(ExchangeAccount(secret="hush", passphrase="hushhush"))
    assert "hush" not in shown
