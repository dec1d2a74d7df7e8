"""Scenarios here say nothing, and above all no secret."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oms_trio.testing.simulation.one_run import listening


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with listening() as logs:
        yield
    assert logs.leaks == []
