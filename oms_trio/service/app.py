"""The running service: channels opened, nurseries nested, start and stop.

    sidecar     status, operator commands      the others do not wait for these
      links     journal, publisher             what was begun ends here
      flow      trade state, session, senders, reconciler
        sources   ingest, ticker               what comes in starts here

Start goes inwards: the session comes up and is reconciled, and only then actions are taken. Stop goes
from the sources outwards, with a deadline for each step.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from random import Random

import structlog
import trio

from oms_trio.amqp.codec import ActionLayout
from oms_trio.amqp.model import Broker
from oms_trio.core.effects import CancelOrders, PlaceOrder
from oms_trio.core.model import Rules
from oms_trio.journal.worker import JournalWorker
from oms_trio.okx.pending_requests import PendingRequests
from oms_trio.okx.rate_limits import OKX_LIMITS, OrderLimits
from oms_trio.okx.rest import Rest
from oms_trio.okx.websocket import OkxConnection
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Batch, Commit, Inbox, Query
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import DecodeContext, JournaledInput
from oms_trio.service.recovery import Recovered
from oms_trio.settings.clock import Clock, system_clock
from oms_trio.tasks.commit import keep_journal
from oms_trio.tasks.ingest import ingest
from oms_trio.tasks.publisher import publish
from oms_trio.tasks.reconciler import any_account, reconcile
from oms_trio.tasks.retention import retain
from oms_trio.tasks.sender import send_cancels, send_orders
from oms_trio.tasks.session import keep_session
from oms_trio.tasks.ticker import QUIET_S, Ticker
from oms_trio.tasks.trade_state import Observer, Writer, keep_state

log = structlog.get_logger()

INBOX = 1024
"""Inputs that wait for the trade-state task: some milliseconds of work. When it is full their senders
wait."""

BATCHES = 64
"""Commits that wait for the publisher in memory; more of them wait on disk."""

DRAIN_S = 2.0
"""How long a stop waits for answers to what is in flight; the rest is of unknown outcome, and looked
up at the next start."""

FLUSH_S = 1.0
"""How long the outbox is emptied at a stop; the rest is published at the next start."""

Sidecar = Callable[[Inbox, Gate, PendingRequests], Awaitable[None]]
"""Runs as long as the service, until its last message is published; it is cancelled then."""


async def run_service(
    recovered: Recovered,
    *,
    broker: Broker,
    rest: Rest,
    connect: Callable[[], AbstractAsyncContextManager[OkxConnection]],
    disk: JournalWorker,
    rules: Rules,
    context: DecodeContext,
    max_retries: int,
    random: Random,
    stop: trio.Event,
    on_started: Callable[[], object],
    keep_ns: int | None = None,
    clock: Clock = system_clock,
    mono_clock: Clock = time.monotonic_ns,
    observers: Sequence[Observer] = (),
    sidecar: Sidecar | None = None,
    on_account: Callable[[str], object] = any_account,
    limits: OrderLimits = OKX_LIMITS,
    layout: ActionLayout = ActionLayout.BYTES_25,
    quiet_s: float = QUIET_S,
) -> None:
    """Run until ``stop`` is set; ``on_started`` is called when actions are taken for the first time.

    ``keep_ns`` is how long the journal keeps records that recovery does not need (None: all of them),
    ``quiet_s`` how often a tick comes while nothing is due. ``on_account`` is called with the
    account's ``uid`` before anything else of the account is used; what it raises ends the service.

    Raises:
        OkxError, StateError: why the service cannot go on; in exception groups.
    """
    gate = Gate(broker.consume)
    requests = PendingRequests()
    inbox, inputs = trio.open_memory_channel[JournaledInput](INBOX)
    # Those that the trade-state task sends to have no bound, because it must never wait. Orders are
    # bounded by the rate of actions and their age, cancels and queries by the open orders, commits by
    # what exchange and broker can send while one commit lasts.
    orders, orders_out = trio.open_memory_channel[PlaceOrder](float("inf"))
    cancels, cancels_out = trio.open_memory_channel[CancelOrders](float("inf"))
    queries, queries_out = trio.open_memory_channel[Query](float("inf"))
    commits, commits_out = trio.open_memory_channel[Commit](float("inf"))
    durable, durable_out = trio.open_memory_channel[Batch](BATCHES)
    state = recovered.state
    ticker = Ticker(inbox, state, clock, quiet_s)
    writer = Writer(
        state=state,
        seq=recovered.seq,
        now_ns=recovered.at_ns,
        snapshot_seq=recovered.snapshot_seq,
        clock=clock,
        mono_clock=mono_clock,
        orders=orders,
        cancels=cancels,
        queries=queries,
        commits=commits,
        gate=gate,
        observers=(ticker.observe, *observers),
    )
    place = partial(
        send_orders,
        requests=requests,
        rest=rest,
        inbox=inbox,
        clock=clock,
        tag=context.tag,
        is_withdrawn=state.risk.is_withdrawn,
        limits=limits,
    )
    cancel = partial(send_cancels, requests=requests, rest=rest, inbox=inbox, limits=limits)
    query = partial(
        reconcile,
        rest=rest,
        inbox=inbox,
        context=context,
        rules=rules,
        gate=gate,
        on_account=on_account,
    )
    hold_session = partial(
        keep_session,
        connect=connect,
        measure_offset=rest.measure_offset,
        requests=requests,
        inbox=inbox,
        max_retries=max_retries,
        random=random,
    )
    async with trio.open_nursery() as outermost:
        if sidecar is not None:
            outermost.start_soon(sidecar, inbox, gate, requests)
        async with trio.open_nursery() as links:
            links.start_soon(keep_journal, commits_out, durable, disk, broker, gate)
            links.start_soon(publish, durable_out, disk, broker)
            # Until the flow has ended a task may still send, the receiver of a session in the very
            # turn in which it is cancelled: it must not find the inbox broken just because the
            # trade-state task has returned.
            with inputs.clone():
                async with trio.open_nursery() as flow:
                    flow.start_soon(keep_state, inputs, writer)
                    if keep_ns is not None:
                        flow.start_soon(retain, disk, keep_ns, clock)
                    flow.start_soon(place, orders_out)
                    flow.start_soon(cancel, cancels_out)
                    flow.start_soon(query, queries_out)
                    await inbox.send(journaled_inputs.started(rules))
                    flow.start_soon(hold_session)
                    async with trio.open_nursery() as sources:
                        knows_action = disk.journal.knows_action
                        sources.start_soon(ingest, broker, inbox, clock, layout, knows_action)
                        sources.start_soon(ticker.run)
                        sources.start_soon(_announce, gate, on_started)
                        await stop.wait()
                        sources.cancel_scope.cancel()
                    gate.close("stop", "the service is stopping")
                    with trio.move_on_after(DRAIN_S) as deadline:
                        await inbox.send(journaled_inputs.DRAIN)
                        await writer.drained.wait()
                    log.info("drained", in_time=not deadline.cancelled_caught)
                    flow.cancel_scope.cancel()
            links.cancel_scope.deadline = trio.current_time() + FLUSH_S
        outermost.cancel_scope.cancel()


async def _announce(gate: Gate, on_started: Callable[[], object]) -> None:
    await gate.opened.wait()
    on_started()
