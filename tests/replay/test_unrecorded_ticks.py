"""Ticks that the service does not record have changed nothing."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
import trio

from oms_trio.core.effects import CancelOrders, PlaceOrder, RequestSnapshot
from oms_trio.core.events import ExchangeSnapshot, OrderUpdate
from oms_trio.core.model import PositionReport, Side, TradeId
from oms_trio.journal.model import Entry
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Commit, Query
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import TICK, encode_effects
from oms_trio.service.state_codec import digest
from oms_trio.tasks.trade_state import Writer
from tests.core.desk import BTC, SECOND, Desk


@attrs.define
class Written:
    """A desk whose state is kept by the writer, and when it recorded a tick."""

    desk: Desk
    writer: Writer
    commits: trio.MemoryReceiveChannel[Commit]

    def tick(self) -> list[Entry]:
        """Let a quarter of a second pass and hand a tick to the writer; returns its record."""
        self.desk.now += SECOND // 4
        self.writer.take([TICK])
        found: list[Entry] = []
        while self.commits.statistics().current_buffer_used:
            found += self.commits.receive_nowait().entries
        return found


@pytest.fixture
def written() -> Iterator[Written]:
    desk = Desk()
    orders, orders_out = trio.open_memory_channel[PlaceOrder](float("inf"))
    cancels, cancels_out = trio.open_memory_channel[CancelOrders](float("inf"))
    queries, queries_out = trio.open_memory_channel[Query](float("inf"))
    commits, commits_out = trio.open_memory_channel[Commit](float("inf"))
    gate = Gate(lambda _wanted: None)
    clock = lambda: desk.now  # noqa: E731 - the desk's time is the writer's
    writer = Writer(
        state=desk.state,
        orders=orders,
        cancels=cancels,
        queries=queries,
        commits=commits,
        gate=gate,
        clock=clock,
        mono_clock=clock,
    )
    with orders, orders_out, cancels, cancels_out, queries, queries_out, commits, commits_out:
        yield Written(desk, writer, commits_out)


def test_ticks_while_a_fill_is_missing_are_on_record(written: Written) -> None:
    """A snapshot shows the exchange's position before the fill that explains it is known.

    Two seconds later that causes a request, three seconds later an alert. Without the ticks before,
    which changed the state, a replay would request and warn later.
    """
    desk = written.desk
    twin = Desk()
    for one in (desk, twin):
        one.start()
        order = one.place("1", Side.BUY, "3")
        one.match(order, "2", "67000")
        one.feed(OrderUpdate(one.match(order, "1", "67010")))
        effects = one.feed(journaled_inputs.session_up().events[0])
        (request,) = [effect for effect in effects if isinstance(effect, RequestSnapshot)]
        one.feed(snapshot(one, request.request))
    assert digest(twin.state) == digest(desk.state)
    recorded = [entry.record for _ in range(14) for entry in written.tick()]
    caused = b"".join(record.outputs for record in recorded)
    assert (caused.count(b"RequestSnapshot"), caused.count(b"position_mismatch")) == (1, 1)
    assert sum(bool(record.outputs) for record in recorded) == 2
    for record in recorded:
        effects = [one for event in TICK.events for one in twin.state.apply(event, record.at_ns)]
        assert encode_effects(tuple(effects)) == record.outputs
    assert digest(twin.state) == digest(desk.state)


def test_ticks_that_change_nothing_are_not_on_record(written: Written) -> None:
    written.desk.start()
    before = digest(written.desk.state)
    for _ in range(20):
        assert not written.tick()
    assert digest(written.desk.state) == before


def snapshot(desk: Desk, request: int) -> ExchangeSnapshot:
    """The exchange holds 3 contracts; it lists no fill of ours yet."""
    position = PositionReport(BTC.lot_sz * 300, None, None, TradeId(desk.trade_id), 5)
    return ExchangeSnapshot(desk.now, request, BTC, None, 0, position, (), ())
