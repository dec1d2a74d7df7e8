"""The one task that changes trading state: inputs in, effects out, everything on record.

Orders leave at once, before the disk has their action: a commit costs milliseconds, and what a
crash takes from the record is found again on the exchange by the order's name. What must not
come before the commit (acknowledging an action, telling the agent) goes with it instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, assert_never

import attrs
import structlog
import trio

from oms_trio.amqp.codec import encode_publication
from oms_trio.core.effects import (
    Alert,
    CancelOrders,
    Drained,
    Effect,
    LookUpOrder,
    PlaceOrder,
    Publication,
    PublishClosure,
    PublishExecution,
    PublishRejection,
    Readiness,
    RecallOrders,
    RequestFills,
    RequestListing,
    RequestSnapshot,
    SettleDelivery,
)
from oms_trio.core.identity import name_by_message_id
from oms_trio.core.inputs import Action, Input
from oms_trio.core.state import TradeState
from oms_trio.journal.model import Entry, Message, Record, StateSnapshot
from oms_trio.service.channels import Cancel, Commit, Order, Question, Recall
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import JournaledInput, Kind, encode_effects
from oms_trio.service.state_codec import encode_state
from oms_trio.settings.clock import Clock

log = structlog.get_logger()

Observer = Callable[[JournaledInput, tuple[Effect, ...], TradeState], None]
"""Sees every input, what it caused, and the state behind it, for pages and summaries; it must not
change anything."""

BATCH = 256
"""Inputs taken at once: a burst shares one commit, and other tasks get their turn in between."""

SNAPSHOT_EVERY = 20_000
"""Records between snapshots; replaying that many at a start takes about a second."""

SNAPSHOT_PATIENCE = 3
"""So many times as many records may pass before a snapshot is taken although inputs keep coming."""

SILENCE_S = 0.25
"""Silence in which a snapshot is taken. Writing the whole state down holds the writer up for 20 ms
and its digest for 65 when memory is full: not a moment for an order to come."""


@attrs.frozen
class Outlets:
    """Where effects go.

    The channels have no bound, because the writer must never wait: orders are bounded
    by the rate of actions and their age, cancels and questions by the open orders, commits by
    what the exchange and the broker can send while one commit lasts.
    """

    orders: trio.MemorySendChannel[Order]
    cancels: trio.MemorySendChannel[Cancel]
    questions: trio.MemorySendChannel[Question]
    commits: trio.MemorySendChannel[Commit]
    gate: Gate
    observe: Observer
    recall: Recall = attrs.Factory(Recall)


@attrs.frozen
class _Decided:
    """An input with what it caused and when, before it is written down."""

    arrival: JournaledInput
    effects: tuple[Effect, ...]
    at_ns: int
    mono_ns: int
    action_name: str
    """By which the journal knows this action again; empty where there is no action or no id."""


@attrs.define
class Writer:
    """The state with its sequence and clocks; ``seq`` and ``now_ns`` are the last record's."""

    state: TradeState
    seq: int
    clock: Clock
    mono_clock: Clock
    outlets: Outlets
    now_ns: int = 0
    snapshot_seq: int = 0
    """Behind which record the last snapshot was taken."""
    drained: bool = False
    _decided: list[_Decided] = attrs.Factory(list)
    _outbox: list[Message] = attrs.Factory(list)
    # Bound once: else a line costs 3 us before its level is looked at, 6 % of a push.
    _log: Any = attrs.field(init=False, factory=lambda: log.bind())  # noqa: PLW0108 - once configured
    _settle: list[SettleDelivery] = attrs.Factory(list)
    _then: list[Callable[[], object]] = attrs.Factory(list)

    def take(self, arrivals: list[JournaledInput]) -> None:
        """Apply inputs, let their effects go, and hand the record over to be made durable."""
        self.decide(arrivals)
        self.record()

    def decide(self, arrivals: list[JournaledInput]) -> bool:
        """Apply inputs and let requests to the exchange go; ``record`` has to follow.

        Returns:
            Whether there is an order among the requests.
        """
        orders = False
        for arrival in arrivals:
            self.now_ns = self.clock()
            gap = bool(self.state.orders.waiting)
            events = arrival.inputs(self.now_ns)
            effects = tuple(effect for event in events for effect in self.state.apply(event))
            for effect in effects:
                orders = self._request(effect) or orders
            self.outlets.observe(arrival, effects, self.state)
            if arrival.kind is Kind.TICK and not effects and not gap:
                # Nothing has changed, so there is nothing to remember. While a fill is missing a
                # tick may note since when positions differ, and a later decision hangs on that.
                continue
            self._decided.append(
                _Decided(
                    arrival, effects, self.now_ns, self.mono_clock(), _name_of(arrival, events)
                )
            )
        return orders

    def record(self) -> None:
        """Write down what was decided, and hand it over with all that waits for the disk."""
        decided, self._decided = self._decided, []
        if not decided:
            return
        entries = tuple(map(self._entry, decided))
        settle, self._settle = tuple(self._settle), []
        overdue = self.seq - self.snapshot_seq >= SNAPSHOT_PATIENCE * SNAPSHOT_EVERY
        snapshot = self._snapshot() if overdue or self.drained else None
        then, self._then = tuple(self._then), []
        self._hand_over(Commit(entries, settle, snapshot, then))

    @property
    def snapshot_due(self) -> bool:
        """Whether the next silence is to be used for a snapshot."""
        return self.seq - self.snapshot_seq >= SNAPSHOT_EVERY

    def take_snapshot(self) -> None:
        """Hand over the whole state as it is."""
        self._hand_over(Commit((), (), self._snapshot()))

    def _hand_over(self, commit: Commit) -> None:
        # Where the disk has failed nobody takes it any more, and that failure ends the service.
        with suppress(trio.BrokenResourceError):
            self.outlets.commits.send_nowait(commit)

    def _entry(self, decided: _Decided) -> Entry:
        arrival, effects = decided.arrival, decided.effects
        for effect in effects:
            self._carry_out(effect)
        if arrival.durable is not None:
            self._then.append(arrival.durable)
        self.seq += 1
        outbox, self._outbox = tuple(self._outbox), []
        record = Record(
            arrival.kind.value,
            arrival.raw,
            decided.at_ns,
            decided.mono_ns,
            arrival.context,
            encode_effects(effects),
        )
        return Entry(self.seq, record, outbox, decided.action_name)

    def _request(self, effect: Effect) -> bool:
        """Let go what is for the exchange; returns whether it is an order."""
        outlets = self.outlets
        match effect:
            case PlaceOrder():
                order = Order(effect, self._inst_id_code, outlets.recall.count)
                outlets.orders.send_nowait(order)
                return True
            case RecallOrders():
                outlets.recall.count += 1
            case CancelOrders():
                outlets.cancels.send_nowait(Cancel(effect, self._inst_id_code))
            case _:
                pass
        return False

    def _carry_out(self, effect: Effect) -> None:
        outlets = self.outlets
        match effect:
            case PlaceOrder() | RecallOrders() | CancelOrders():
                pass  # on its way since the decision
            case RequestSnapshot() | RequestListing() | RequestFills() | LookUpOrder():
                outlets.questions.send_nowait(effect)
            case PublishExecution() | PublishClosure() | PublishRejection():
                self._tell(effect)
            case SettleDelivery():
                self._settle.append(effect)
            case Readiness(ready=True):
                outlets.gate.open("state")
            case Readiness(why=why):
                outlets.gate.close("state", why)
            case Alert(event=event, detail=detail, urgent=urgent):
                (self._log.error if urgent else self._log.warning)(event, detail=detail)
            case Drained():
                self.drained = True
            case _:
                assert_never(effect)

    @property
    def _inst_id_code(self) -> int | None:
        instrument = self.state.instrument
        return None if instrument is None else instrument.inst_id_code

    def _tell(self, effect: Publication) -> None:
        message = encode_publication(effect)
        self._outbox.append(
            Message(message.message_id, message.routing_key, message.body, message.cause)
        )
        match effect:
            case PublishClosure(ord_id=ord_id, reward=reward):
                self._log.info("trade_closed", ord_id=ord_id, reward=reward)
            case PublishRejection(state_id=state_id, reason=reason, detail=detail):
                self._log.info("action_refused", state_id=state_id, reason=reason, detail=detail)
            case PublishExecution(ord_id=ord_id):
                self._log.debug("order_executed", ord_id=ord_id)

    def _snapshot(self) -> StateSnapshot:
        self.snapshot_seq = self.seq
        return StateSnapshot(self.seq, encode_state(self.state), self.state.digest())


def _name_of(arrival: JournaledInput, events: tuple[Input, ...]) -> str:
    if arrival.kind is not Kind.ACTION:
        return ""
    (action,) = events
    if not isinstance(action, Action) or action.message_id is None or action.known:
        return ""
    return name_by_message_id(action.state_id, action.message_id, action.body)


async def keep_state(inbox: trio.MemoryReceiveChannel[JournaledInput], writer: Writer) -> None:
    """Take in arrivals until all is drained, or until the inbox is closed.

    It waits for its inbox and for nothing else: the exchange waits for this task, so this task
    must not wait for the exchange. On its end it closes the channels to the tasks behind it.
    """
    outlets = writer.outlets
    with inbox, outlets.orders, outlets.cancels, outlets.questions, outlets.commits:
        while True:
            with trio.move_on_after(SILENCE_S if writer.snapshot_due else math.inf) as silence:
                try:
                    first = await inbox.receive()
                except trio.EndOfChannel:
                    return
            if silence.cancelled_caught:
                writer.take_snapshot()
                continue
            arrivals = [first]
            while len(arrivals) < BATCH:
                try:
                    arrivals.append(inbox.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            if writer.decide(arrivals):
                # The sender's turn, before the records are made and the disk's task wakes up: 50 us
                # off the way of an order. Two rounds, since within one Trio draws who is first.
                # Not cancelled: what was decided must be on record.
                await trio.lowlevel.cancel_shielded_checkpoint()
                await trio.lowlevel.cancel_shielded_checkpoint()
            writer.record()
            if writer.drained:
                return
