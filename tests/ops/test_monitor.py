"""The monitor counts and times what the service does; it changes nothing and delays nothing."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import httpx
import msgspec
import pytest
import structlog
import trio

from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Outgoing
from oms_trio.core.effects import Effect, PublishClosure, PublishRejection
from oms_trio.core.events import Verb
from oms_trio.core.model import Cause, OrdId, RejectReason, Side, StateId
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry, Record
from oms_trio.journal.worker import JournalWorker
from oms_trio.ops import sidecar
from oms_trio.ops.latency import KEPT, Latency, TimedBroker, timed_commits
from oms_trio.ops.metrics import Metrics
from oms_trio.ops.monitor import FOLD_AT_ONCE, QUEUE, Monitor
from oms_trio.ops.status import ORDERS_SHOWN, Status, Store
from oms_trio.ops.systemd import Notifier
from oms_trio.ops.watchdog import Watchdog
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import DeliveryMetadata, JournaledInput, Kind
from oms_trio.service.state_codec import digest
from tests.core.desk import START_NS, Desk
from tests.service.station import serving

AROUND: dict[str, Any] = {
    "reasons": {},
    "okx_up": True,
    "broker_up": True,
    "dead_man_s": None,
    "store": Store(0, 0),
}


@attrs.define
class Watched:
    """A monitor that observes the commands given to a desk, as the trade-state task has it do."""

    desk: Desk = attrs.Factory(Desk)
    monitor: Monitor = attrs.field()

    @monitor.default
    def _monitor(self) -> Monitor:
        return Monitor("BTC-USDT-SWAP", lambda: self.desk.now)

    def command(self, verb: Verb) -> None:
        arrival = journaled_inputs.command(verb, "test")
        for event in arrival.events:
            self.monitor.observe(arrival, tuple(self.desk.feed(event)), self.desk.state)

    @property
    def status(self) -> Status:
        while self.monitor.fold():
            pass
        status = self.monitor.status(**AROUND)
        assert status is not None
        return status


def test_there_is_no_status_before_the_first_input() -> None:
    assert Watched().monitor.status(**AROUND) is None


def test_an_unreadable_row_of_ours_is_a_metric() -> None:
    """The metric follows from the reasons of the status."""
    watched = Watched()
    watched.command(Verb.RESUME)
    for reasons, value in (({}, "0.0"), ({"disk": "full"}, "0.0"), ({"row": "unread"}, "1.0")):
        status = watched.monitor.status(**(AROUND | {"reasons": reasons}))
        assert status is not None
        text = watched.monitor.metrics.exposition(status).decode()
        assert f"\noms_row_unreadable {value}\n" in text


def test_reading_the_status_changes_nothing() -> None:
    watched = Watched()
    watched.desk.start()
    watched.desk.fill(watched.desk.place("a", Side.BUY, "2"), "1", "67000")
    watched.command(Verb.PAUSE)
    before = digest(watched.desk.state)
    assert watched.status.position.ours == 1
    assert watched.status.trade is not None
    watched.monitor.metrics.exposition(watched.status)
    assert digest(watched.desk.state) == before


def test_inputs_beyond_the_queue_are_dropped_and_counted() -> None:
    watched = Watched()
    watched.desk.start()
    for _ in range(QUEUE + 10):
        watched.command(Verb.PAUSE)
    assert len(watched.monitor._queue) == QUEUE
    watched.monitor.fold()
    assert watched.monitor.metrics.dropped._value.get() == 10


def test_other_tasks_get_a_turn_while_many_inputs_are_counted() -> None:
    watched = Watched()
    for _ in range(FOLD_AT_ONCE + 1):
        watched.command(Verb.PAUSE)
    assert watched.monitor.fold()
    assert not watched.monitor.fold()


def test_the_newest_and_the_oldest_of_many_orders_are_shown() -> None:
    watched = Watched()
    watched.desk.start()
    for number in range(100):
        watched.desk.place(str(number), Side.BUY, "1")
    watched.command(Verb.PAUSE)
    orders = watched.status.orders
    assert orders.open == 100
    shown = [order.okx_id for order in orders.shown]
    assert len(shown) == ORDERS_SHOWN
    assert (shown[0], shown[-1]) == ("99", "0")


def test_the_status_line_says_whether_actions_are_taken() -> None:
    watched = Watched()
    watched.desk.start()
    watched.command(Verb.CANCEL_ALL)
    assert watched.status.line == "taking actions; position 0, 0 open orders"
    watched.command(Verb.PAUSE)
    assert watched.status.line == "paused (pause by test); position 0, 0 open orders"


def test_controls_of_earlier_processes_are_not_counted_again() -> None:
    desk = Desk()
    desk.start()
    first = Watched(desk)
    first.command(Verb.PAUSE)
    second = Watched(desk)
    second.command(Verb.RESUME)
    assert second.status.controls.tripped == {"operator": 2}
    counted = second.monitor.metrics.controls.labels("operator")._value.get()
    assert counted == 0, "counting begins at the first status"
    second.command(Verb.PAUSE)
    assert second.status.controls.tripped == {"operator": 3}
    assert second.monitor.metrics.controls.labels("operator")._value.get() == 1


def observed(
    watched: Watched, effects: tuple[Effect, ...], origin: DeliveryMetadata | None = None
) -> Status:
    """Let the monitor observe an action and its effects."""
    taken = DeliveryMetadata("a", redelivered=False, received_ns=START_NS, delivery=1)
    context = msgspec.json.encode(origin or taken).decode()
    arrival = JournaledInput(Kind.ACTION, b"", context, ())
    watched.monitor.observe(arrival, effects, watched.desk.state)
    return watched.status


def test_an_expired_action_is_not_counted_as_taken() -> None:
    watched = Watched()
    expired = DeliveryMetadata("a", redelivered=False, received_ns=1, delivery=1, expired=True)
    stale = PublishRejection("a.r", StateId(1), RejectReason.STALE, "expired in the queue")
    status = observed(watched, (stale,), expired)
    assert (status.counts["expired"], status.counts.get("actions")) == (1, None)
    assert watched.monitor.metrics.expired._value.get() == 1
    assert watched.monitor.metrics.actions._value.get() == 0


def test_rejections_are_counted_by_reason() -> None:
    watched = Watched()
    for reason in (RejectReason.PRICE_COLLAR, RejectReason.STALE, RejectReason.STALE):
        status = observed(watched, (PublishRejection("a.r", StateId(1), reason, "why"),))
    assert status.rejections == {"price_collar": 1, "stale": 2}
    text = watched.monitor.metrics.exposition(status).decode()
    assert 'oms_rejections_total{reason="price_collar"} 1.0' in text
    assert 'oms_rejections_total{reason="below_min"} 0.0' in text


def test_a_closure_without_an_action_is_shown_with_its_cause() -> None:
    closure = PublishClosure("c", StateId(1), OrdId("7"), (), -1.5, Cause.LIQUIDATION)
    status = observed(Watched(), (closure,))
    assert status.latest[0].text == "reward -1.5000, 0 orders, by liquidation"


async def test_unroutable_messages_are_counted_and_shown(tmp_path: Path) -> None:
    async with serving(tmp_path) as station:
        station.told.close()
        station.act(1)
        order = (await station.orders(1))[0]
        station.exchange.fill(order.ord_id, Decimal(1), Decimal(67000))
        await station.until(lambda status: status["connections"]["unroutable"] == 1)
        async with httpx.AsyncClient(base_url=station.url) as client:
            for _ in range(2):
                text = (await client.get("/metrics")).text
                assert "oms_unroutable_messages_total 1.0" in text


def test_percentiles_are_of_the_latest_durations() -> None:
    latency = Latency(Metrics().loop_lag)
    assert latency.summary().p50_ms is None
    for number in range(1, KEPT + 101):
        latency.record(number * 1_000_000)
    summary = latency.summary()
    assert summary.count == KEPT + 100
    assert summary.p50_ms == pytest.approx(100 + KEPT / 2, abs=1)
    assert summary.latest_ms[-1] == KEPT + 100
    latency.record(-5)
    assert latency.summary().latest_ms[-1] == 0


def test_keep_alives_come_with_ticks_only_and_not_too_often() -> None:
    now = 0.0
    notifier = Notifier(watchdog_s=9.0)
    sent: list[str] = []
    object.__setattr__(notifier, "notify", lambda *lines: sent.extend(lines))
    watchdog = Watchdog(notifier, lambda: now)
    desk = Desk()
    for step in range(13):
        now = float(step)
        watchdog.observe(journaled_inputs.command(Verb.PAUSE, "x"), (), desk.state)
        watchdog.observe(journaled_inputs.TICK, (), desk.state)
    assert sent == ["WATCHDOG=1"] * 5


async def test_only_commits_of_inputs_are_timed(tmp_path: Path) -> None:
    took: list[int] = []
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        disk = JournalWorker(journal, timed_commits(trio.to_thread.run_sync, took.append))
        assert await disk.run(disk.journal.outbox_size) == 0
        assert not took
        record = Record("tick", b"", START_NS, 0, "", b"")
        await disk.run(disk.journal.append, [Entry(1, record, ())])
        assert len(took) == 1
        assert took[0] > 0
        with pytest.raises(ValueError, match="continue"):
            await disk.run(disk.journal.append, [Entry(7, record, ())])
        assert len(took) == 1


async def test_a_failed_publish_is_not_timed() -> None:
    broker = MemoryBroker()
    confirmed: list[int] = []
    timed = TimedBroker(broker, lambda messages, _took_ns: confirmed.append(len(messages)))
    await timed.publish([Outgoing("1", "k", b"")] * 2)
    broker.lose_confirms(1)
    with pytest.raises(Exception, match="confirm lost"):
        await timed.publish([Outgoing("3", "k", b"")])
    assert confirmed == [2]


async def test_a_status_page_that_crashes_is_restarted_and_trading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes = 0

    async def crash(*_arguments: object) -> None:
        nonlocal crashes
        crashes += 1
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a bug of the page")

    monkeypatch.setattr(sidecar, "serve_http", crash)
    monkeypatch.setattr(sidecar, "AGAIN_S", 0.05)
    with structlog.testing.capture_logs() as logged:
        async with serving(tmp_path) as station:
            station.act(1)
            order = (await station.orders(1))[0]
            station.exchange.fill(order.ord_id, Decimal(1), Decimal(67000))
            assert (await station.heard())["state_id"] == 1
            await trio.sleep(0.2)
    assert crashes > 1
    tasks = {line["task"] for line in logged if line["event"] == "sidecar_task_failed"}
    assert tasks == {"http"}
