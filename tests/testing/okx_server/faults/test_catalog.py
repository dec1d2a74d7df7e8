"""The fault catalog: every kind can be injected, is recorded, and can be cleared."""

from __future__ import annotations

from decimal import Decimal

import pytest

from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults.catalog import FAULT_SPECS, inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.faults.switches import FaultSwitches
from tests.testing.okx_server.clients import ManualClock, net_exchange, order_args

INSTANT = {
    *(FaultKind.CUT, FaultKind.CLOSE, FaultKind.UPGRADE, FaultKind.HALF_OPEN, FaultKind.GARBAGE),
    *(
        FaultKind.ADL,
        FaultKind.LIQUIDATION,
        FaultKind.PARTIAL_LIQUIDATION,
        FaultKind.FUNDING,
        FaultKind.MARKET_MOVE,
    ),
    *(
        FaultKind.EXTERNAL_ORDER,
        FaultKind.EXTERNAL_AMEND,
        FaultKind.EXTERNAL_CANCEL,
        FaultKind.INSTRUMENT,
    ),
}
"""Kinds that set no switch."""


def is_calm(exchange: SimulatedExchange) -> bool:
    faults = exchange.faults
    queues = (
        faults.login_codes,
        faults.submit_answers,
        faults.rest_answers,
        faults.order_rejections,
    )
    return faults.switches() == FaultSwitches().switches() and not any((*queues, faults.edits))


def test_the_catalog_describes_every_kind() -> None:
    assert set(FAULT_SPECS) == set(FaultKind)
    assert all(spec.description for spec in FAULT_SPECS.values())


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_is_injected_recorded_and_cleared(kind: FaultKind) -> None:
    exchange = net_exchange()
    inject(exchange, FaultEvent(kind, times=2, delay_s=1))
    (noted,) = exchange.injected
    assert (noted.kind, noted.times) == (kind, 2)
    assert is_calm(exchange) == (kind in INSTANT)
    exchange.faults.clear()
    assert is_calm(exchange)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in FaultKind if FAULT_SPECS[kind].duration_s[1] and kind not in INSTANT],
    ids=lambda kind: kind.value,
)
def test_a_state_ends_by_itself(kind: FaultKind) -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    inject(exchange, FaultEvent(kind, duration_s=2, delay_s=1))
    clock.now_ms += 1999
    exchange.faults.expire(clock())
    assert not is_calm(exchange)
    clock.now_ms += 1
    exchange.faults.expire(clock())
    assert is_calm(exchange)


def test_the_same_fault_again_replaces_its_end() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    inject(exchange, FaultEvent(FaultKind.STALL, duration_s=2))
    inject(exchange, FaultEvent(FaultKind.STALL))
    clock.now_ms += 60_000
    exchange.faults.expire(clock())
    assert exchange.faults.stall


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FaultKind.CLOSE, "soon"),
        (FaultKind.FUNDING, "soon"),
        (FaultKind.MARKET_MOVE, "soon"),
        (FaultKind.ABSURD, "orders soon"),
        (FaultKind.FOREIGN_ORDER, "soon"),
        (FaultKind.INSTRUMENT, "tickSz=soon"),
        (FaultKind.INSTRUMENT, "soon=1"),
        (FaultKind.EXTERNAL_ORDER, "soon"),
    ],
)
def test_a_code_that_its_kind_cannot_use_is_rejected(kind: FaultKind, code: str) -> None:
    with pytest.raises(ValueError, match=r"soon|tickSz"):
        inject(net_exchange(), FaultEvent(kind, code=code))


@pytest.mark.parametrize(
    ("kind", "code"),
    [(kind, code) for kind in FaultKind for code in FAULT_SPECS[kind].codes],
    ids=lambda value: value or "none",
)
def test_every_code_of_the_catalog_can_be_injected(kind: FaultKind, code: str) -> None:
    exchange = net_exchange()
    exchange.place(order_args(clOrdId="a", sz="3"), lambda *_: None)
    exchange.fill("a", Decimal(2), exchange.engine.market.bid)
    inject(exchange, FaultEvent(kind, code=code, delay_s=1))


def test_deleveraging_takes_half_of_the_position() -> None:
    exchange = net_exchange()
    exchange.place(order_args(clOrdId="a", sz="3"), lambda *_: None)
    exchange.fill("a", exchange.ground_truth.orders()[0].sz, exchange.engine.market.bid)
    inject(exchange, FaultEvent(FaultKind.ADL))
    assert str(exchange.engine.ledger.pos) == "1.50"


def test_forced_rejections_and_answers_are_used_once() -> None:
    exchange = net_exchange()
    inject(exchange, FaultEvent(FaultKind.REJECT_ORDER, times=2, code="51030"))
    codes = [exchange.place(order_args(), lambda *_: None).code for _ in range(3)]
    assert codes == ["51030", "51030", "0"]
