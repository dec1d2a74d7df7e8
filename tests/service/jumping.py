"""The whole service under the jumping clock: no network, no threads, hours in a moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Outgoing
from oms_trio.core.effects import Effect
from oms_trio.core.model import OrderType
from oms_trio.core.state import TradeState
from oms_trio.journal.journal import Journal
from oms_trio.journal.worker import JournalWorker
from oms_trio.okx.pending_requests import PendingRequests
from oms_trio.service.app import run_service
from oms_trio.service.channels import Inbox
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import JournaledInput, Kind
from oms_trio.service.recovery import recover
from oms_trio.testing.okx_server.values import ExchangeOrder
from tests.core.desk import RULES
from tests.tasks.venue import CONTEXT, Venue


async def at_once(function: Callable[[], Any]) -> Any:
    """Run a blocking call without a thread: the clock must not jump while one works."""
    await trio.lowlevel.checkpoint()
    return function()


@attrs.define
class Service:
    """A service at work, and what is seen of it."""

    venue: Venue
    broker: MemoryBroker
    told: trio.MemoryReceiveChannel[Outgoing]
    kinds: list[Kind] = attrs.Factory(list)
    """What came in, so far."""
    state: TradeState | None = None
    gate: Gate | None = None

    async def run_beside(self, _inbox: Inbox, gate: Gate, _requests: PendingRequests) -> None:
        """Run beside the service, as its status page does."""
        self.gate = gate
        await trio.sleep_forever()

    def observe(
        self, arrival: JournaledInput, _effects: tuple[Effect, ...], state: TradeState
    ) -> None:
        """Watch from inside."""
        self.kinds.append(arrival.kind)
        self.state = state

    def act(self, state_id: int, price: float, volume: float) -> None:
        """Publish a limit action at the market's price."""
        mid = self.venue.exchange.engine.market.bid
        body = encode_action(state_id, OrderType.LIMIT, price, volume, mid)
        self.broker.publish_action(body, f"action-{state_id}")

    @property
    def ready(self) -> bool:
        """Whether the state is known to be the exchange's."""
        return self.state is not None and self.state.ready

    @property
    def reasons(self) -> dict[str, str]:
        """Who keeps actions from being taken, and why."""
        assert self.gate is not None
        return self.gate.reasons

    @property
    def position(self) -> Decimal:
        """The position by our own fills."""
        return Decimal(0) if self.state is None else self.state.book.position

    @property
    def exchange_position(self) -> Decimal:
        """The position that the exchange holds."""
        return self.venue.exchange.engine.ledger.pos

    @property
    def orders(self) -> list[ExchangeOrder]:
        """The exchange's own log of orders."""
        return self.venue.exchange.ground_truth.orders()

    def heard(self) -> list[Outgoing]:
        """What the agent was told since it was last asked."""
        told = []
        while self.told.statistics().current_buffer_used:
            told.append(self.told.receive_nowait())
        return told


async def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Let time pass until something is so."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - looked at from outside
            await trio.sleep(0.05)


@asynccontextmanager
async def serving(folder: Path, venue: Venue, max_retries: int = 50) -> AsyncIterator[Service]:
    """Run a service until the block ends, then stop it cleanly."""
    broker = MemoryBroker(message_ttl_s=5)
    service = Service(venue, broker, broker.subscribe())
    stop, ready = trio.Event(), trio.Event()
    run_sync: Callable[[Callable[[], Any]], Awaitable[Any]] = at_once
    async with venue.open_rest() as rest:
        with Journal.open(folder / "journal.sqlite") as journal:
            run = partial(
                run_service,
                recover(journal, RULES, CONTEXT),
                broker=broker,
                rest=rest,
                connect=venue.connector(rest),
                disk=JournalWorker(journal, run_sync),
                rules=RULES,
                context=CONTEXT,
                max_retries=max_retries,
                random=Random(1),
                clock=venue.clock,
                mono_clock=venue.clock,
                observers=(service.observe,),
                sidecar=service.run_beside,
                stop=stop,
                on_started=ready.set,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await ready.wait()
                yield service
                stop.set()
