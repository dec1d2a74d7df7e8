"""No test here writes log events, and none may log a secret."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oms_trio.testing.simulation.one_run import captured_logs


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with captured_logs() as logs:
        yield
    assert logs.leaks == []
