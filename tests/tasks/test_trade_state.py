"""The writer: every input on record with its effects, and time that never steps back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from oms_trio.amqp.codec import decode_action, encode_action
from oms_trio.amqp.model import Delivery
from oms_trio.core import inputs
from oms_trio.core.effects import Effect, RequestSnapshot, SettleDelivery
from oms_trio.core.inputs import Verdict
from oms_trio.core.model import OrderType
from oms_trio.core.state import TradeState
from oms_trio.journal.model import Entry, StateSnapshot
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Cancel, Commit, Order, Question
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import JournaledInput, Kind
from oms_trio.service.state_codec import decode_state
from oms_trio.tasks import trade_state
from oms_trio.tasks.trade_state import Outlets, Writer, keep_state
from tests.core.desk import BTC, RULES, SECOND, START_NS


@attrs.define
class Scribe:
    """A writer with the far ends of everything that it gives away."""

    writer: Writer
    orders: trio.MemoryReceiveChannel[Order]
    questions: trio.MemoryReceiveChannel[Question]
    commits: trio.MemoryReceiveChannel[Commit]
    gate: Gate
    consumed: list[bool]
    observed: list[tuple[Kind, tuple[Effect, ...]]]
    now: list[int]

    def take(self, *arrivals: JournaledInput) -> list[Entry]:
        """Have inputs taken in at once, and return what is to become durable of them."""
        self.writer.take(list(arrivals))
        return [entry for commit in self.commit() for entry in commit.entries]

    def commit(self) -> list[Commit]:
        """What was handed to the committing task."""
        return [self.commits.receive_nowait() for _ in range(_waiting(self.commits))]

    def make_ready(self, balance: str = "10000") -> None:
        """Bring the state to where actions are taken."""
        self.take(journaled_inputs.started(RULES), journaled_inputs.session_up())
        asked = self.questions.receive_nowait()
        assert isinstance(asked, RequestSnapshot)
        self.take(snapshot(asked.request, balance))
        assert self.writer.state.ready


def _waiting(channel: trio.MemoryReceiveChannel[Commit]) -> int:
    return channel.statistics().current_buffer_used


def snapshot(request: int, balance: str) -> JournaledInput:
    """An arrival that makes a snapshot of a flat account."""

    def made(at_ns: int) -> tuple[inputs.Snapshot]:
        return (inputs.Snapshot(at_ns, at_ns, request, BTC, Decimal(balance), 1, None, (), ()),)

    return JournaledInput(Kind.SNAPSHOT, b"{}", "", made)


def action(state_id: int = 1, volume: float = 3.0, delivery: int = 5) -> JournaledInput:
    """An action as the ingesting task hands it over."""
    body = encode_action(state_id, OrderType.LIMIT, -0.25, volume, Decimal(67_000))
    came = Delivery(delivery, body, f"id-{state_id}", redelivered=False)
    return journaled_inputs.action(came, decode_action(body), START_NS)


@pytest.fixture
def scribe() -> Iterator[Scribe]:
    with open_scribe() as scribe:
        yield scribe


@contextmanager
def open_scribe() -> Iterator[Scribe]:
    orders, orders_out = trio.open_memory_channel[Order](math.inf)
    cancels, cancels_out = trio.open_memory_channel[Cancel](math.inf)
    questions, questions_out = trio.open_memory_channel[Question](math.inf)
    commits, commits_out = trio.open_memory_channel[Commit](math.inf)
    consumed: list[bool] = []
    observed: list[tuple[Kind, tuple[Effect, ...]]] = []
    now = [START_NS]
    gate = Gate(consumed.append)
    outlets = Outlets(
        orders,
        cancels,
        questions,
        commits,
        gate,
        lambda arrival, effects, _: observed.append((arrival.kind, effects)),
    )
    writer = Writer(TradeState(RULES), 0, lambda: now[0], lambda: 1, outlets)
    with ExitStack() as stack:
        for channel in (orders_out, cancels_out, questions_out, commits_out):
            stack.enter_context(channel)
        for out in (orders, cancels, questions, commits):
            stack.enter_context(out)
        yield Scribe(writer, orders_out, questions_out, commits_out, gate, consumed, observed, now)


def test_inputs_are_recorded_raw_in_one_sequence(scribe: Scribe) -> None:
    entries = scribe.take(
        journaled_inputs.started(RULES),
        journaled_inputs.session_up(),
        journaled_inputs.session_down("cut"),
    )
    assert [(entry.seq, entry.record.kind) for entry in entries] == [
        (1, "started"),
        (2, "session_up"),
        (3, "session_down"),
    ]
    assert entries[2].record.raw == b"cut"
    assert {entry.record.at_ns for entry in entries} == {START_NS}


def test_an_order_leaves_at_once_and_its_acknowledgement_with_the_commit(scribe: Scribe) -> None:
    scribe.make_ready()
    scribe.writer.take([action()])
    order = scribe.orders.receive_nowait()
    assert (order.effect.sz, order.inst_id_code) == (Decimal("4.5"), BTC.inst_id_code)
    (commit,) = scribe.commit()
    assert commit.settle == (SettleDelivery(5),)
    assert [entry.record.kind for entry in commit.entries] == ["action"]


def test_a_refusal_is_in_the_outbox_of_the_input_that_caused_it(scribe: Scribe) -> None:
    scribe.make_ready()
    first, second = scribe.take(action(1, volume=0.0), action(2))
    assert [message.routing_key for message in first.outbox] == ["execution.reject"]
    assert b"below_min" in first.outbox[0].body
    assert second.outbox == ()


def test_a_tick_without_effect_is_not_recorded(scribe: Scribe) -> None:
    scribe.make_ready()
    before = scribe.writer.seq
    scribe.now[0] += SECOND
    assert scribe.take(journaled_inputs.TICK, journaled_inputs.TICK) == []
    assert scribe.writer.seq == before
    assert scribe.observed[-1] == (Kind.TICK, ())


def test_a_tick_with_an_effect_is_recorded(scribe: Scribe) -> None:
    scribe.make_ready()
    scribe.now[0] += 61 * SECOND
    (entry,) = scribe.take(journaled_inputs.TICK)
    assert entry.record.kind == "tick"
    assert isinstance(scribe.questions.receive_nowait(), RequestSnapshot)


def test_readiness_opens_and_closes_the_gate(scribe: Scribe) -> None:
    assert scribe.consumed == []
    scribe.make_ready()
    assert scribe.consumed == [True]
    scribe.take(journaled_inputs.session_down("cut"))
    assert scribe.consumed == [True, False]
    assert "cut" in scribe.gate.reasons["state"]


async def test_a_snapshot_that_is_due_waits_for_silence(
    scribe: Scribe, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(trade_state, "SNAPSHOT_EVERY", 10)
    scribe.make_ready()
    inbox, arrivals = trio.open_memory_channel[JournaledInput](32)
    kept: list[tuple[float, StateSnapshot]] = []

    async def keep() -> None:
        async for commit in scribe.commits:
            if (snapshot := commit.snapshot) is not None:
                now = trio.current_time()
                kept.append((now, snapshot))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep)
        nursery.start_soon(keep_state, arrivals, scribe.writer)
        for state_id in range(1, 13):
            await inbox.send(action(state_id, volume=0.1))
            await trio.sleep(trade_state.SILENCE_S / 2)
        last = trio.current_time() - trade_state.SILENCE_S / 2
        await trio.sleep(10)
        inbox.close()
    ((at, snapshot),) = kept
    assert at == pytest.approx(last + trade_state.SILENCE_S)
    assert snapshot.seq == 15
    assert decode_state(snapshot.blob).digest() == snapshot.digest


def test_a_snapshot_does_not_wait_for_ever(scribe: Scribe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trade_state, "SNAPSHOT_EVERY", 4)
    scribe.make_ready()
    for state_id in range(1, 12):
        scribe.writer.take([action(state_id, volume=0.5)])
    kept = [commit.snapshot for commit in scribe.commit() if commit.snapshot is not None]
    assert [one.seq for one in kept] == [4 * trade_state.SNAPSHOT_PATIENCE]


def test_a_snapshot_that_a_killed_process_owed_is_due_at_once(scribe: Scribe) -> None:
    scribe.make_ready()
    scribe.writer.seq, scribe.writer.snapshot_seq = 50_000, 30_001
    assert not scribe.writer.snapshot_due
    scribe.writer.snapshot_seq = 30_000
    assert scribe.writer.snapshot_due


def test_where_the_disk_has_failed_its_own_error_ends_the_service(scribe: Scribe) -> None:
    scribe.make_ready()
    scribe.commits.close()
    scribe.writer.take([action()])
    scribe.writer.take_snapshot()


def test_a_burst_is_one_commit(scribe: Scribe) -> None:
    scribe.make_ready()
    scribe.writer.take([action(state_id, volume=0.01) for state_id in range(1, 101)])
    (commit,) = scribe.commit()
    assert len(commit.entries) == len(commit.settle) == 100


async def test_after_the_drain_every_channel_to_others_is_closed() -> None:
    with open_scribe() as scribe:
        inbox, arrivals = trio.open_memory_channel[JournaledInput](10)
        scribe.make_ready()
        scribe.take()
        for arrival in (action(), journaled_inputs.DRAIN):
            inbox.send_nowait(arrival)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_state, arrivals, scribe.writer)
            order = await scribe.orders.receive()
            assert scribe.orders.statistics().open_send_channels == 1, "an order is unanswered"
            answer = journaled_inputs.OwnAnswer(
                (order.effect.cl_ord_id,), False, Verdict.UNKNOWN, "lost"
            )
            await inbox.send(journaled_inputs.own_answer(answer))
        assert scribe.writer.drained
        last = scribe.commit()[-1]
        assert last.snapshot is not None
        assert last.snapshot.seq == scribe.writer.seq
        with pytest.raises(trio.EndOfChannel):
            await scribe.orders.receive()
        with pytest.raises(trio.BrokenResourceError):
            await inbox.send(action(2))


async def test_the_sender_has_its_turn_before_the_record_is_made(scribe: Scribe) -> None:
    scribe.make_ready()
    inbox, arrivals = trio.open_memory_channel[JournaledInput](4)
    seen: list[str] = []

    async def send() -> None:
        await scribe.orders.receive()
        seen.append("order")

    async def commit() -> None:
        await scribe.commits.receive()
        seen.append("record")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(commit)
        await wait_all_tasks_blocked()
        with inbox:
            await inbox.send(action())
            nursery.start_soon(keep_state, arrivals, scribe.writer)
    assert seen == ["order", "record"]
