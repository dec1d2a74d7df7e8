"""A row of ours that only REST shows and nobody can read: new orders stop, and it is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from oms_trio.testing.okx_server.faults.foreign_rows import ORD_ID
from tests.core.desk import RULES
from tests.service.jumping import Service, serving, until
from tests.tasks.venue import Venue, open_venue

UNREAD = f"tag={RULES.tag},state=mystery"
CHECKED_S = RULES.check_every_ns / 1e9 + 5
"""By then everything has been compared with the exchange once more."""


@asynccontextmanager
async def showing(folder: Path) -> AsyncIterator[tuple[Venue, Service]]:
    """Run a service whose state is in sync, and then show it a row that it cannot read."""
    async with open_venue() as venue, serving(folder, venue) as service:
        await until(lambda: service.ready)
        assert not service.reasons
        venue.exchange.faults.foreign_order = UNREAD
        await trio.sleep(CHECKED_S)
        assert set(service.reasons) == {"row"}
        yield venue, service


async def test_new_orders_stop_and_the_row_is_named(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    with capture_logs() as logs:
        async with showing(tmp_path) as (venue, service):
            assert service.ready, "what is known is still true"
            for part in ("orders-pending", "$.data[0].state", "mystery", f"our row {ORD_ID}"):
                assert part in service.reasons["row"]
            service.act(1, -0.2, 0.5)
            await trio.sleep(60)
            venue.exchange.faults.foreign_order = ""
            await trio.sleep(RULES.reader_lag_ms / 1000)
            assert not service.orders, "it has expired in the queue"
            assert [b'"reason":"stale"' in told.body for told in service.heard()] == [True]
    (told,) = [line for line in logs if line["event"] == "our_row_unreadable"]
    assert told["log_level"] == "error"
    assert ORD_ID in told["why"]


@pytest.mark.parametrize(
    "then", ["", f"tag={RULES.tag},state=live", f"tag={RULES.tag},state=canceled"]
)
async def test_it_goes_on_by_itself_when_the_row_can_be_read_or_is_gone(
    tmp_path: Path, autojump_clock: MockClock, then: str
) -> None:
    async with showing(tmp_path) as (venue, service):
        venue.exchange.faults.foreign_order = then
        await until(lambda: not service.reasons, 10)
        service.act(1, -0.2, 0.5)
        await until(lambda: len(service.orders) == 1)


async def test_a_newer_question_does_not_open_it_while_the_row_is_there(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Each loss of a session asks anew; other answers are read meanwhile."""
    async with showing(tmp_path) as (venue, service):
        for _ in range(3):
            venue.exchange.faults.cut()
            for _ in range(1000):
                await trio.sleep(0.01)
                assert "row" in service.reasons
        assert not service.ready
        assert set(service.reasons) == {"state", "row"}
        venue.exchange.faults.foreign_order = ""
        await until(lambda: not service.reasons, 60)


async def test_a_row_of_somebody_else_stops_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with showing(tmp_path) as (venue, service):
        venue.exchange.faults.foreign_order = "state=mystery"
        await until(lambda: not service.reasons, 10)
        service.act(1, -0.2, 0.5)
        await until(lambda: len(service.orders) == 1)
