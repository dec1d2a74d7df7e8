"""The composition root: the state recovered, channels opened, nurseries nested, start and stop.

    beside     status, controls                nothing of the others waits for these
      links    journal, publisher              what was begun ends here
      flow     trade state, session, senders, reconciler
        sources   ingest, ticker               what comes in starts here

Start goes inwards: the state is read back, the session comes up and is reconciled, and only then
actions are taken. Stop goes from the sources outwards, under a deadline for each step.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from random import Random

import attrs
import msgspec
import structlog
import trio

from oms_trio.amqp.codec import ActionLayout
from oms_trio.amqp.model import Broker
from oms_trio.core.effects import Effect
from oms_trio.core.model import Rules
from oms_trio.core.state import TradeState
from oms_trio.journal.errors import JournalFull, StateError
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import StateSnapshot
from oms_trio.journal.worker import JournalWorker
from oms_trio.okx.errors import OkxError
from oms_trio.okx.pending_requests import PendingRequests
from oms_trio.okx.rate_limits import OKX_LIMITS, OrderLimits
from oms_trio.okx.rest import Rest
from oms_trio.okx.websocket import OkxConnection
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Batch, Cancel, Commit, Inbox, Order, Question, Recall
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import DecodeContext, JournaledInput
from oms_trio.service.state_codec import decode_state, encode_state
from oms_trio.settings.clock import Clock, system_clock
from oms_trio.tasks.commit import Keeper, keep_journal
from oms_trio.tasks.ingest import ingest
from oms_trio.tasks.publisher import publish
from oms_trio.tasks.reconciler import Reconciler, anybody, reconcile
from oms_trio.tasks.retention import retain
from oms_trio.tasks.sender import Desk, send_cancels, send_orders
from oms_trio.tasks.session import Exchange, keep_session
from oms_trio.tasks.ticker import QUIET_S, Ticker
from oms_trio.tasks.trade_state import (
    Observer,
    Outlets,
    Writer,
    keep_state,
)

log = structlog.get_logger()

INBOX = 1024
"""Inputs that wait for the writer: some milliseconds of work. Behind it the senders wait."""

BATCHES = 64
"""Commits that wait for the publisher in memory; more of them wait on disk."""

DRAIN_S = 2.0
"""How long answers to what is in flight are waited for at a stop; what is left is in doubt and
looked up at the next start."""

FLUSH_S = 1.0
"""How long the outbox is emptied at a stop; the rest is published at the next start."""


def unobserved(_arrival: JournaledInput, _effects: tuple[Effect, ...], _state: TradeState) -> None:
    """Nobody watches."""


@attrs.frozen
class Insides:
    """What those who watch and steer the service from beside it are given."""

    inbox: Inbox
    gate: Gate
    line: PendingRequests
    stop: trio.Event


async def alone(_insides: Insides) -> None:
    """Nobody is beside the service."""


@attrs.frozen(kw_only=True)
class Parts:
    """What the service is made of; live, demo and simulation choose differently."""

    broker: Broker
    rest: Rest
    connect: Callable[[], AbstractAsyncContextManager[OkxConnection]]
    disk: JournalWorker
    rules: Rules
    scope: DecodeContext
    max_retries: int
    random: Random
    keep_ns: int | None = None
    """How long the journal keeps records that it does not need for recovery; None: for ever."""
    clock: Clock = system_clock
    mono_clock: Clock = time.monotonic_ns
    observe: Observer = unobserved
    beside: Callable[[Insides], Awaitable[None]] = alone
    """Runs as long as the service, until its last message is out; it is cancelled then."""
    account_seen: Callable[[str], object] = anybody
    """See ``tasks.reconciler.Reconciler``."""
    limits: OrderLimits = OKX_LIMITS
    layout: ActionLayout = ActionLayout.BYTES_25
    """Which actions are accepted."""
    quiet_s: float = QUIET_S
    """How often time is told to the trading state while nothing is due."""


@attrs.frozen
class Recovered:
    """The trading state as the journal has it, with sequence and time of its last record."""

    state: TradeState
    seq: int
    at_ns: int = 0
    snapshot_seq: int = 0
    """Up to which record a start needs to apply nothing."""


def recover(journal: Journal, rules: Rules, scope: DecodeContext) -> Recovered:
    """Read the last snapshot and apply what came after it.

    A snapshot that another release wrote and this one cannot read is passed over: the one before
    it, or the beginning, and the records behind that say the same. The effects are dropped: they
    left before, or are in the outbox, or reconciliation finds what became of them.

    Raises:
        StateError: the journal is damaged or was written by another release.
    """
    newest = journal.latest_snapshot()
    state, snapshot_seq = _last_readable(journal, newest) or (TradeState(rules), 0)
    seq = snapshot_seq
    try:
        for number, record in journal.tail(seq):
            seq = number
            arrival = journaled_inputs.read(record.kind, record.raw, record.context, scope)
            for event in arrival.inputs(record.at_ns):
                state.apply(event)
    except (ValueError, msgspec.ValidationError, OkxError) as error:
        raise StateError(
            f"the journal cannot be read behind record {seq} ({error}): it was written by another "
            "release or for another instrument; start that one, or choose another state folder"
        ) from error
    if newest is not None and newest.seq != snapshot_seq and _keep(journal, state, seq):
        snapshot_seq = seq
    return Recovered(state, seq, journal.last_at_ns, snapshot_seq)


def _keep(journal: Journal, state: TradeState, seq: int) -> bool:
    """Save what was recovered past snapshots that cannot be read; returns whether it is.

    Whatever compacts the journal takes any snapshot for one that a start can begin with.
    """
    try:
        journal.save_snapshot(seq, encode_state(state), state.digest())
    except JournalFull as error:
        log.warning("snapshot_skipped", why=str(error))
        return False
    return True


def _last_readable(
    journal: Journal, snapshot: StateSnapshot | None
) -> tuple[TradeState, int] | None:
    """Return the newest state that this release can read, with its sequence."""
    while snapshot is not None:
        try:
            return decode_state(snapshot.blob), snapshot.seq
        except msgspec.DecodeError as error:
            log.warning("snapshot_passed_over", seq=snapshot.seq, why=str(error))
            snapshot = journal.latest_snapshot(snapshot.seq - 1)
    return None


async def run_service(
    parts: Parts, recovered: Recovered, *, stop: trio.Event, started: Callable[[], object]
) -> None:
    """Run until ``stop`` is set; ``started`` is called when actions are taken for the first time.

    Raises:
        OkxError, StateError: why the service cannot go on; in exception groups.
    """
    broker, scope = parts.broker, parts.scope
    gate = Gate(broker.consume)
    line = PendingRequests()
    inbox, arrivals = trio.open_memory_channel[JournaledInput](INBOX)
    orders, orders_out = trio.open_memory_channel[Order](float("inf"))
    cancels, cancels_out = trio.open_memory_channel[Cancel](float("inf"))
    questions, questions_out = trio.open_memory_channel[Question](float("inf"))
    commits, commits_out = trio.open_memory_channel[Commit](float("inf"))
    durable, durable_out = trio.open_memory_channel[Batch](BATCHES)
    recall = Recall()
    ticker = Ticker(inbox, recovered.state, parts.clock, parts.quiet_s)
    outlets = Outlets(
        orders, cancels, questions, commits, gate, _stirring(ticker, parts.observe), recall
    )
    writer = Writer(
        recovered.state,
        recovered.seq,
        parts.clock,
        parts.mono_clock,
        outlets,
        recovered.at_ns,
        recovered.snapshot_seq,
    )
    desk = Desk(
        line,
        inbox,
        parts.clock,
        scope.tag,
        rest=parts.rest,
        limits=parts.limits,
        recall=recall,
    )
    exchange = Exchange(parts.connect, parts.rest.measure_offset, parts.max_retries, parts.random)
    written = trio.Event()

    async def write() -> None:
        await keep_state(arrivals, writer)
        written.set()

    async with trio.open_nursery() as beside:
        beside.start_soon(parts.beside, Insides(inbox, gate, line, stop))
        async with trio.open_nursery() as links:
            links.start_soon(keep_journal, commits_out, Keeper(parts.disk, broker, gate, durable))
            links.start_soon(publish, durable_out, parts.disk, broker)
            # Until the flow is gone somebody may still tell something, the receiver of a session in
            # the very turn in which it is cancelled: it must not find the inbox broken just because
            # the state has returned.
            with arrivals.clone():
                async with trio.open_nursery() as flow:
                    flow.start_soon(write)
                    if parts.keep_ns is not None:
                        flow.start_soon(retain, parts.disk, parts.keep_ns, parts.clock)
                    flow.start_soon(send_orders, orders_out, desk)
                    flow.start_soon(send_cancels, cancels_out, desk)
                    reconciler = Reconciler(
                        parts.rest, inbox, scope, parts.rules, parts.account_seen
                    )
                    flow.start_soon(reconcile, questions_out, reconciler)
                    await inbox.send(journaled_inputs.started(parts.rules))
                    flow.start_soon(keep_session, exchange, line, inbox)
                    async with trio.open_nursery() as sources:
                        sources.start_soon(
                            ingest,
                            broker,
                            inbox,
                            parts.clock,
                            parts.layout,
                            parts.disk.journal.knows_action,
                        )
                        sources.start_soon(ticker.run)
                        sources.start_soon(_announce, gate, started)
                        await stop.wait()
                        sources.cancel_scope.cancel()
                    gate.close("stop", "the service is stopping")
                    with trio.move_on_after(DRAIN_S) as patience:
                        await inbox.send(journaled_inputs.DRAIN)
                        await written.wait()
                    log.info("drained", in_time=not patience.cancelled_caught)
                    flow.cancel_scope.cancel()
            links.cancel_scope.deadline = trio.current_time() + FLUSH_S
        beside.cancel_scope.cancel()


def _stirring(ticker: Ticker, observe: Observer) -> Observer:
    """Let the ticker know of effects as well."""

    def both(arrival: JournaledInput, effects: tuple[Effect, ...], state: TradeState) -> None:
        ticker.stir(effects)
        observe(arrival, effects, state)

    return both


async def _announce(gate: Gate, started: Callable[[], object]) -> None:
    await gate.opened.wait()
    started()
