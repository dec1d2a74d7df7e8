"""An action becomes at most one order for as long as the journal has its record."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import trio

from oms_trio.core import identity, orders
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.orders import external_orders
from tests.service.station import Station, serving

KEPT = 4
ACTIONS = 3 * KEPT


@pytest.fixture(autouse=True)
def _short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget actions and orders after a few, not after 65,536."""
    monkeypatch.setattr(identity, "REMEMBERED", KEPT)
    monkeypatch.setattr(orders, "ENDED_KEPT", KEPT)


async def forgotten(station: Station) -> None:
    """Send actions whose orders all end, more of them than are remembered."""
    for state_id in range(1, ACTIONS + 1):
        station.act(state_id, message_id=f"m{state_id}")
    for order in await station.orders(ACTIONS):
        external_orders.cancel(station.exchange, order.ord_id)
    await station.until(lambda status: not status["orders"]["open"])


async def repeated(station: Station) -> None:
    """Send the first action again, then a new one; only that may become an order."""
    station.act(1, message_id="m1")
    station.act(ACTIONS + 1, message_id="new")
    placed = await station.orders(ACTIONS + 1)
    await trio.sleep(0.1)
    assert len(station.exchange.ground_truth.orders()) == len(placed) == ACTIONS + 1
    assert station.broker.depth == 0
    assert sum(order.sz for order in placed) == Decimal(ACTIONS + 1)


async def test_what_memory_has_forgotten_the_journal_knows(tmp_path: Path) -> None:
    async with serving(tmp_path) as station:
        await forgotten(station)
        await repeated(station)


async def test_the_journal_knows_it_after_a_restart(tmp_path: Path) -> None:
    exchange = SimulatedExchange(mode=MatchingMode.MANUAL)
    async with serving(tmp_path, exchange) as station:
        await forgotten(station)
    async with serving(tmp_path, exchange) as station:
        await repeated(station)
