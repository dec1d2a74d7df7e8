"""docs/simulator.md describes every fault, control call and option."""

from __future__ import annotations

from pathlib import Path

import pytest

from oms_trio.cli import sim
from oms_trio.testing.okx_server.control import CALLS, PREFIX
from oms_trio.testing.okx_server.faults.kinds import FaultKind

PAGE = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_is_documented(kind: FaultKind) -> None:
    assert f"`{kind.value}`" in PAGE.split("## Faults")[1]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_control_call_is_documented(method: str, path: str) -> None:
    assert f"| `{method} {PREFIX}{path}` |" in PAGE


@pytest.mark.parametrize("option", [name for each in sim.params for name in each.opts])
def test_every_option_is_documented(option: str) -> None:
    assert f"`{option}" in PAGE
