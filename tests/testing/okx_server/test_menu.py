"""The menu as a whole: every fault can be struck, is noted, and can be put back."""

from __future__ import annotations

from decimal import Decimal

import pytest

from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.faults.behaviour import Faults
from oms_trio.testing.okx_server.faults.catalog import MENU, strike
from oms_trio.testing.okx_server.faults.specs import Kind, Strike
from tests.testing.okx_server.clients import ManualClock, net_exchange, order_args

INSTANT = {
    *(Kind.CUT, Kind.CLOSE, Kind.UPGRADE, Kind.HALF_OPEN, Kind.GARBAGE),
    *(Kind.ADL, Kind.LIQUIDATION, Kind.PARTIAL_LIQUIDATION, Kind.FUNDING, Kind.MARKET_MOVE),
    *(Kind.HAND_ORDER, Kind.HAND_AMEND, Kind.HAND_CANCEL, Kind.INSTRUMENT),
}
"""Kinds that are over at once."""


def is_calm(exchange: Exchange) -> bool:
    faults = exchange.faults
    queues = (faults.login_codes, faults.submit_answers, faults.rest_answers, faults.order_refusals)
    return faults.switches() == Faults().switches() and not any((*queues, faults.edits))


def test_the_menu_tells_of_every_kind() -> None:
    assert set(MENU) == set(Kind)
    assert all(dish.tells for dish in MENU.values())


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_struck_noted_and_put_back(kind: Kind) -> None:
    exchange = net_exchange()
    strike(exchange, Strike(kind, times=2, delay_s=1))
    (noted,) = exchange.struck
    assert (noted.kind, noted.times) == (kind, 2)
    assert is_calm(exchange) == (kind in INSTANT)
    exchange.faults.calm()
    assert is_calm(exchange)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in Kind if MENU[kind].lasts_s[1] and kind not in INSTANT],
    ids=lambda kind: kind.value,
)
def test_a_state_ends_by_itself(kind: Kind) -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    strike(exchange, Strike(kind, lasts_s=2, delay_s=1))
    clock.now_ms += 1999
    exchange.faults.expire(clock())
    assert not is_calm(exchange)
    clock.now_ms += 1
    exchange.faults.expire(clock())
    assert is_calm(exchange)


def test_the_same_fault_again_replaces_its_end() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    strike(exchange, Strike(Kind.STALL, lasts_s=2))
    strike(exchange, Strike(Kind.STALL))
    clock.now_ms += 60_000
    exchange.faults.expire(clock())
    assert exchange.faults.held


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Kind.CLOSE, "soon"),
        (Kind.FUNDING, "soon"),
        (Kind.MARKET_MOVE, "soon"),
        (Kind.ABSURD, "orders soon"),
        (Kind.FOREIGN_ORDER, "soon"),
        (Kind.INSTRUMENT, "tickSz=soon"),
        (Kind.INSTRUMENT, "soon=1"),
        (Kind.HAND_ORDER, "soon"),
    ],
)
def test_a_code_that_its_kind_cannot_read_is_refused(kind: Kind, code: str) -> None:
    with pytest.raises(ValueError, match=r"soon|tickSz"):
        strike(net_exchange(), Strike(kind, code=code))


@pytest.mark.parametrize(
    ("kind", "code"),
    [(kind, code) for kind in Kind for code in MENU[kind].codes],
    ids=lambda value: value or "none",
)
def test_every_code_of_the_menu_can_be_struck(kind: Kind, code: str) -> None:
    exchange = net_exchange()
    exchange.place(order_args(clOrdId="a", sz="3"), lambda *_: None)
    exchange.fill("a", Decimal(2), exchange.engine.market.bid)
    strike(exchange, Strike(kind, code=code, delay_s=1))


def test_deleveraging_takes_half_of_the_position() -> None:
    exchange = net_exchange()
    exchange.place(order_args(clOrdId="a", sz="3"), lambda *_: None)
    exchange.fill("a", exchange.truth.orders()[0].sz, exchange.engine.market.bid)
    strike(exchange, Strike(Kind.ADL))
    assert str(exchange.engine.ledger.pos) == "1.50"


def test_forced_refusals_and_answers_are_used_up() -> None:
    exchange = net_exchange()
    strike(exchange, Strike(Kind.REFUSE, times=2, code="51030"))
    codes = [exchange.place(order_args(), lambda *_: None).code for _ in range(3)]
    assert codes == ["51030", "51030", "0"]
