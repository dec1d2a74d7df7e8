"""The one task that changes trading state; others read the state only between its awaits.

Orders leave at once, before their action is on disk: a commit costs milliseconds, and what a crash
takes from the journal is found again on the exchange by the order's name. What must not come before
the commit (acknowledging an action, publishing a message) goes with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
    FillBooked,
    LookUpOrder,
    PlaceOrder,
    Publication,
    PublishClosure,
    PublishExecution,
    PublishRejection,
    Readiness,
    RequestFills,
    RequestListing,
    RequestSnapshot,
    SettleDelivery,
)
from oms_trio.core.events import Action
from oms_trio.core.identity import name_of_action
from oms_trio.core.state import TradeState
from oms_trio.journal.model import Entry, Message, Record, StateSnapshot
from oms_trio.service.channels import Commit, Query
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import JournaledInput, Kind, encode_effects
from oms_trio.service.state_codec import snapshot_of
from oms_trio.settings.clock import Clock

log = structlog.get_logger()

Observer = Callable[[JournaledInput, tuple[Effect, ...], TradeState], None]
"""Sees every input, what it caused, and the state after it, for pages and summaries; it must not
change anything, and must be quick."""

BATCH = 256
"""Inputs taken at once: a burst shares one commit, and other tasks get their turn in between."""

SNAPSHOT_EVERY = 20_000
"""Records between snapshots; replaying that many at a start takes about a second."""

SNAPSHOT_PATIENCE = 3
"""So many times as many records may pass before a snapshot is taken although inputs keep coming."""

SILENCE_S = 0.25
"""Silence in which a snapshot is taken. Encoding the whole state takes 20 ms when memory is full: not
a moment for an order to come."""


@attrs.frozen
class _Decided:
    """An input with what it caused and when, before it is written down."""

    journaled: JournaledInput
    effects: tuple[Effect, ...]
    at_ns: int
    mono_ns: int
    action_name: str
    """By which the journal knows this action again; empty where there is no action or no id."""


@attrs.define(kw_only=True)
class Writer:
    """Applies inputs to the state, numbers them, and sends their effects to where they belong.

    ``seq`` and ``now_ns`` are the last record's. The channels must have no bound: this never waits.
    """

    state: TradeState
    orders: trio.MemorySendChannel[PlaceOrder]
    cancels: trio.MemorySendChannel[CancelOrders]
    queries: trio.MemorySendChannel[Query]
    commits: trio.MemorySendChannel[Commit]
    gate: Gate
    clock: Clock
    mono_clock: Clock
    observers: Sequence[Observer] = ()
    seq: int = 0
    now_ns: int = 0
    snapshot_seq: int = 0
    """The last record that the newest snapshot contains."""
    drained: trio.Event = attrs.Factory(trio.Event)
    _decided: list[_Decided] = attrs.Factory(list)
    _outbox: list[Message] = attrs.Factory(list)
    # Bound once: else a line costs 3 us before its level is looked at, 6 % of a push.
    _log: Any = attrs.field(init=False, factory=lambda: log.bind())  # noqa: PLW0108 - once configured
    _settle: list[SettleDelivery] = attrs.Factory(list)
    _on_durable: list[Callable[[], object]] = attrs.Factory(list)

    def take(self, inputs: list[JournaledInput]) -> None:
        """Apply inputs, send their effects, and send the records to be made durable."""
        self.decide(inputs)
        self.record()

    def decide(self, inputs: list[JournaledInput]) -> bool:
        """Apply inputs and let requests to the exchange go; ``record`` has to follow.

        Returns:
            Whether there is an order among the requests.
        """
        orders = False
        for journaled in inputs:
            self.now_ns = self.clock()
            gap = bool(self.state.orders.waiting)
            effects = tuple(
                effect
                for event in journaled.events
                for effect in self.state.apply(event, self.now_ns)
            )
            for effect in effects:
                orders = self._request(effect) or orders
            for observe in self.observers:
                observe(journaled, effects, self.state)
            if journaled.kind is Kind.TICK and not effects and not gap:
                # Nothing has changed, so there is nothing to remember. While a fill is missing a
                # tick may note since when positions differ, and a later decision hangs on that.
                continue
            self._decided.append(
                _Decided(journaled, effects, self.now_ns, self.mono_clock(), _name_of(journaled))
            )
        return orders

    def record(self) -> None:
        """Make records of what was decided, and send them to be committed with all that waits for that."""
        decided, self._decided = self._decided, []
        if not decided:
            return
        entries = tuple(map(self._entry, decided))
        settle, self._settle = tuple(self._settle), []
        overdue = self.seq - self.snapshot_seq >= SNAPSHOT_PATIENCE * SNAPSHOT_EVERY
        snapshot = self._snapshot() if overdue or self.drained.is_set() else None
        callbacks, self._on_durable = tuple(self._on_durable), []
        self._send_commit(Commit(entries, settle, snapshot, callbacks))

    @property
    def snapshot_due(self) -> bool:
        """Whether the next silence is to be used for a snapshot."""
        return self.seq - self.snapshot_seq >= SNAPSHOT_EVERY

    def take_snapshot(self) -> None:
        """Send the whole state as it is to be saved."""
        self._send_commit(Commit((), (), self._snapshot()))

    def _send_commit(self, commit: Commit) -> None:
        # Where the disk has failed nobody takes it any more, and that failure ends the service.
        with suppress(trio.BrokenResourceError):
            self.commits.send_nowait(commit)

    def _entry(self, decided: _Decided) -> Entry:
        journaled, effects = decided.journaled, decided.effects
        for effect in effects:
            self._carry_out(effect)
        if journaled.on_durable is not None:
            self._on_durable.append(journaled.on_durable)
        self.seq += 1
        outbox, self._outbox = tuple(self._outbox), []
        record = Record(
            journaled.kind.value,
            journaled.raw,
            decided.at_ns,
            decided.mono_ns,
            journaled.context,
            encode_effects(effects),
        )
        return Entry(self.seq, record, outbox, decided.action_name)

    def _request(self, effect: Effect) -> bool:
        """Let go what is for the exchange; returns whether it is an order."""
        match effect:
            case PlaceOrder():
                self.orders.send_nowait(effect)
                return True
            case CancelOrders():
                self.cancels.send_nowait(effect)
            case _:
                pass
        return False

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case PlaceOrder() | CancelOrders() | FillBooked():
                pass  # requests are on their way since the decision
            case RequestSnapshot() | RequestListing() | RequestFills() | LookUpOrder():
                self.queries.send_nowait(effect)
            case PublishExecution() | PublishClosure() | PublishRejection():
                self._publish(effect)
            case SettleDelivery():
                self._settle.append(effect)
            case Readiness(ready=True):
                self.gate.open("state")
            case Readiness(why=why):
                self.gate.close("state", why)
            case Alert(event=event, detail=detail, urgent=urgent):
                (self._log.error if urgent else self._log.warning)(event, detail=detail)
            case Drained():
                self.drained.set()
            case _:
                assert_never(effect)

    def _publish(self, effect: Publication) -> None:
        message = encode_publication(effect)
        self._outbox.append(
            Message(message.message_id, message.routing_key, message.body, message.cause)
        )
        match effect:
            case PublishClosure(ord_id=ord_id, reward=reward):
                self._log.info("trade_closed", ord_id=ord_id, reward=reward)
            case PublishRejection(state_id=state_id, reason=reason, detail=detail):
                self._log.info("action_rejected", state_id=state_id, reason=reason, detail=detail)
            case PublishExecution(ord_id=ord_id):
                self._log.debug("order_executed", ord_id=ord_id)

    def _snapshot(self) -> StateSnapshot:
        self.snapshot_seq = self.seq
        return snapshot_of(self.state, self.seq)


def _name_of(journaled: JournaledInput) -> str:
    if journaled.kind is not Kind.ACTION:
        return ""
    (action,) = journaled.events
    assert isinstance(action, Action)
    return "" if action.known else name_of_action(action) or ""


async def keep_state(inbox: trio.MemoryReceiveChannel[JournaledInput], writer: Writer) -> None:
    """Take inputs in until all is drained, or until the inbox is closed.

    It waits for its inbox and for nothing else: the exchange waits for this task, so this task
    must not wait for the exchange. At its end it closes the channels that it sends to.
    """
    with inbox, writer.orders, writer.cancels, writer.queries, writer.commits:
        while True:
            with trio.move_on_after(SILENCE_S if writer.snapshot_due else math.inf) as silence:
                try:
                    first = await inbox.receive()
                except trio.EndOfChannel:
                    return
            if silence.cancelled_caught:
                writer.take_snapshot()
                continue
            taken = [first]
            while len(taken) < BATCH:
                try:
                    taken.append(inbox.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            if writer.decide(taken):
                # The sender's turn, before the records are made and the disk's task wakes up: 50 us
                # off the way of an order. Two rounds, since within one Trio draws who is first.
                # Not cancelled: what was decided must be on record.
                await trio.lowlevel.cancel_shielded_checkpoint()
                await trio.lowlevel.cancel_shielded_checkpoint()
            writer.record()
            if writer.drained.is_set():
                return
