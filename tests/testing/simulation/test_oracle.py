"""The independent model of the trading rules."""

from __future__ import annotations

from fractions import Fraction

import pytest

from oms_trio.testing.simulation.invariants.oracle import Oracle, TrueFill


def _fill(ord_id: str, sign: int, sz: str, px: str, **more: object) -> TrueFill:
    return TrueFill(ord_id, sign, Fraction(sz), Fraction(sz), Fraction(px), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unit", "net", "gain"),
    [
        ("usdt", False, 20.0),
        ("usdt", True, 20.0 - 3 - 2),
        ("return", False, 20.0 / 1340),
        ("roe", False, 20.0 / 1340 * 10_000),
    ],
)
def test_oracle_computes_the_gain_in_the_configured_unit(unit: str, net: bool, gain: float) -> None:  # noqa: FBT001
    oracle = Oracle(unit, net=net)
    oracle.fill(_fill("A", 1, "2", "67000", fee=Fraction(-1)))
    oracle.fund(Fraction(-2), known_at=0.0)
    oracle.fill(_fill("B", -1, "2", "68000", fee=Fraction(-2), at=1.0))
    (found,) = oracle.expected[-1].gains
    assert found == pytest.approx(gain)


def test_oracle_expects_no_execution_without_an_action_but_the_closure() -> None:
    oracle = Oracle()
    oracle.fill(_fill("A", 1, "2", "67000", state_id=7))
    oracle.fill(_fill("L", -1, "2", "66000", state_id=None, cause="liquidation"))
    execution, closure = oracle.expected
    assert (execution.kind, execution.ord_id, execution.state_id) == ("execution", "A", 7)
    assert (closure.kind, closure.ord_id, closure.state_id) == ("closure", "L", 7)
    assert closure.cause == "liquidation"
    assert closure.portions == (("A", 1.0), ("L", 1.0))


def test_oracle_expects_no_closure_of_a_trade_without_any_action() -> None:
    oracle = Oracle()
    oracle.fill(_fill("M", 1, "2", "67000", state_id=None, cause="manual"))
    oracle.fill(_fill("F", -1, "2", "66000", state_id=None, cause="operator"))
    assert oracle.expected == []
    assert oracle.closed == 1
