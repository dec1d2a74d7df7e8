"""What the tasks hand to each other, beside the arrivals that all of them send to one inbox."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from oms_trio.core.effects import (
    LookUpOrder,
    RequestFills,
    RequestListing,
    RequestSnapshot,
    SettleDelivery,
)
from oms_trio.journal.model import Entry, Message, StateSnapshot
from oms_trio.service.journaled_inputs import JournaledInput

Question = RequestSnapshot | RequestListing | RequestFills | LookUpOrder


@attrs.frozen
class Commit:
    """Entries that become durable together, and what may be done only then."""

    entries: tuple[Entry, ...]
    settle: tuple[SettleDelivery, ...]
    snapshot: StateSnapshot | None = None
    then: tuple[Callable[[], object], ...] = ()


@attrs.frozen
class Batch:
    """Durable messages to publish; ``first`` is the outbox position of the first of them."""

    first: int
    messages: tuple[Message, ...]


Inbox = trio.MemorySendChannel[JournaledInput]


async def hand_over(inbox: Inbox, arrival: JournaledInput) -> None:
    """Send to the inbox; a checkpoint only when it is full, so the caller must have its own.

    ``send`` lets every other task run before it returns: per frame of the exchange and per
    action, one round of the scheduler.
    """
    try:
        inbox.send_nowait(arrival)
    except trio.WouldBlock:
        await inbox.send(arrival)
