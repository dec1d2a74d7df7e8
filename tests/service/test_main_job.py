"""The main job: actions in, orders on the exchange, fills into trades, messages out."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oms_trio.core.model import OrderType
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Record
from oms_trio.service.recovery import recover
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from tests.core.desk import RULES
from tests.service.rig import CONTEXT, SIZED_ACTIONS, Rig, running


@SIZED_ACTIONS
async def test_action_becomes_the_order_of_the_example(
    tmp_path: Path,
    balance: str,
    price: float,
    volume: float,
    mid: str,
    order_type: OrderType,
    side: str,
    px: str | None,
    sz: str,
) -> None:
    exchange = SimulatedExchange(
        mode=MatchingMode.MANUAL,
        account=ExchangeAccount(balance=Decimal(balance)),
        start_px=Decimal(mid),
    )
    async with running(tmp_path, exchange=exchange) as rig:
        rig.act(1, price, volume, mid, order_type)
        order = await rig.order(0)
        assert order.side.value == side
        assert order.px == (None if px is None else Decimal(px))
        assert order.sz == Decimal(sz)
        assert order.tag == "omstrio"


async def place(rig: Rig, index: int, side: str, sz: str) -> str:
    """Have the service place an order of this size: near mid, sized by its margin."""
    sign = -1 if side == "buy" else 1
    volume = float(Decimal(sz) * 670 / 1000) * 0.99
    rig.act(index + 1, sign * 1e-9, volume)
    order = await rig.order(index)
    assert (order.side.value, order.sz) == (side, Decimal(sz))
    return order.ord_id


async def test_worked_example_fill_by_fill(tmp_path: Path) -> None:
    """Exactly the contract's messages in exactly its order, from the wire to the wire."""
    async with running(tmp_path) as rig:

        def execution(state_id: int, okx_id: str) -> dict[str, Any]:
            return {"state_id": state_id, "okx_id": okx_id, "is_trade_closed": False}

        def fill(name: str, sz: str, px: str) -> None:
            rig.exchange.fill(name, Decimal(sz), Decimal(px))

        a = await place(rig, 0, "buy", "2")
        fill(a, "2", "67000")
        assert await rig.next() == execution(1, a)
        b = await place(rig, 1, "buy", "3")
        fill(b, "1", "66900")
        assert await rig.next() == execution(2, b)
        rig.exchange.push_position(upl_ratio=Decimal("-0.04"))
        c = await place(rig, 2, "sell", "5")
        fill(c, "5", "67100")
        assert await rig.next() == execution(3, c)
        assert await rig.next() == {
            "state_id": 3,
            "okx_id": c,
            "is_trade_closed": True,
            "filled_portions": [{a: 1.0}, {b: pytest.approx(1 / 3)}, {c: 0.6}],
            "reward": pytest.approx(3.68),
        }
        assert await rig.next() == execution(3, c)
        fill(b, "1", "66900")
        assert await rig.next() == execution(2, b)
        fill(b, "1", "66950")
        assert await rig.next() == {
            "state_id": 2,
            "okx_id": b,
            "is_trade_closed": True,
            "filled_portions": [{c: 0.4}, {b: pytest.approx(2 / 3)}],
            "reward": pytest.approx(3.5),
        }


def test_a_clock_that_steps_back_between_processes_does_not_turn_time_back(tmp_path: Path) -> None:
    """The next process's records are not older than the last one's."""
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        record = Record("started", msgspec.json.encode(RULES), 1_790_000_000 * 10**9, 1)
        journal.append([Entry(1, record)])
        assert recover(journal, RULES, CONTEXT).at_ns == 1_790_000_000 * 10**9
