"""Pushes against the recorded samples: the field sets, their order, and the numbers in them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from oms_trio.testing.okx_server.events import OrderChanged
from oms_trio.testing.okx_server.matching.engine import MatchingEngine
from oms_trio.testing.okx_server.values import text
from oms_trio.testing.okx_server.ws.pushes import account_push, order_push, position_push
from tests.testing.okx_server.clients import net_exchange, order_args
from tests.testing.okx_server.fields import (
    ACCOUNT_KEYS,
    DETAIL_KEYS,
    ORDER_PUSH_KEYS,
    POSITION_PUSH_KEYS,
)


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("0", "0"),
        ("-0.00", "0"),
        ("1E+2", "100"),
        ("3.500", "3.5"),
        ("66966.66666666666666666666667", "66966.666666666666667"),
        ("-0.20160024", "-0.20160024"),
    ],
)
def test_numbers_are_plain_digits(number: str, written: str) -> None:
    assert text(Decimal(number)) == written


def traded() -> tuple[MatchingEngine, list[dict[str, Any]]]:
    """The sample of the recordings: 1.2 and then 2.3 of 3.5 at 84000.1, as maker."""
    exchange = net_exchange(start_px=Decimal(84_010))
    pushes: list[dict[str, Any]] = []

    def keep(event: object) -> None:
        if isinstance(event, OrderChanged):
            pushes.append(order_push(event, exchange.instrument, Decimal("84009.9")))

    with exchange.engine.listening(keep):
        exchange.place(order_args(px="84000.1", sz="3.5", clOrdId="a", tag="rl"), lambda *_: None)
        exchange.fill("a", Decimal("1.2"), Decimal("84000.1"))
        exchange.fill("a", Decimal("2.3"), Decimal("84000.1"))
    return exchange.engine, pushes


def test_the_orders_push_has_the_recorded_fields_in_their_order() -> None:
    _, pushes = traded()
    assert [list(push) for push in pushes] == [ORDER_PUSH_KEYS] * 3
    assert all(json.loads(json.dumps(push)) == push for push in pushes)


def test_each_push_has_its_own_fill_and_the_running_totals() -> None:
    _, (live, part, full) = traded()
    fields = ("state", "accFillSz", "avgPx", "fee", "fillSz", "fillFee", "fillPnl", "execType")
    assert [live[key] for key in fields] == ["live", "0", "0", "0", "0", "0", "0", ""]
    assert [part[key] for key in fields] == [
        *("partially_filled", "1.2", "84000.1", "-0.20160024"),
        *("1.2", "-0.20160024", "0", "M"),
    ]
    assert [full[key] for key in fields] == [
        *("filled", "3.5", "84000.1", "-0.5880007"),
        *("2.3", "-0.38640046", "0", "M"),
    ]
    assert int(full["tradeId"]) > int(part["tradeId"])
    assert (live["fillNotionalUsd"], live["fillTime"], live["fillMarkPx"]) == ("", "", "")


def test_the_positions_push_agrees_with_the_recording() -> None:
    engine, _ = traded()
    engine.market.set_mark(Decimal("84010.3"))
    view = engine.position_view()
    assert view is not None
    push = position_push(view, engine.instrument, 1)
    assert set(push) == POSITION_PUSH_KEYS
    fields = ("pos", "avgPx", "imr", "mmr", "upl", "uplRatio", "fee", "realizedPnl", "lever")
    assert [push[key] for key in fields] == [
        *("3.5", "84000.1", "29.403605", "11.761442", "0.357", "0.012142842687092"),
        *("-0.5880007", "-0.5880007", "100"),
    ]


def test_the_account_push_agrees_with_its_own_sums() -> None:
    engine, _ = traded()
    push: dict[str, Any] = account_push(engine.account_view(), 1)
    assert set(push) == ACCOUNT_KEYS
    (usdt,) = push["details"]
    assert set(usdt) == DETAIL_KEYS
    assert usdt["cashBal"] == "9999.4119993"
    assert Decimal(usdt["eq"]) == Decimal(usdt["cashBal"]) + Decimal(usdt["upl"])
    assert Decimal(usdt["eq"]) - Decimal(usdt["frozenBal"]) == Decimal(usdt["availEq"])
