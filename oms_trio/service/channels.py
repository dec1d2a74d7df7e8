"""What the tasks send to each other, besides the journaled inputs that all of them send to one inbox."""

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

Query = RequestSnapshot | RequestListing | RequestFills | LookUpOrder
"""What the exchange is asked by REST."""


@attrs.frozen
class Commit:
    """Entries that become durable together, and what may be done only after that."""

    entries: tuple[Entry, ...]
    settle: tuple[SettleDelivery, ...]
    snapshot: StateSnapshot | None = None
    on_durable: tuple[Callable[[], object], ...] = ()


@attrs.frozen
class Batch:
    """Durable messages to publish; ``first`` is the outbox position of the first of them."""

    first: int
    messages: tuple[Message, ...]


Inbox = trio.MemorySendChannel[JournaledInput]


async def deliver(inbox: Inbox, journaled: JournaledInput) -> None:
    """Send to the inbox; a checkpoint only when it is full, so the caller must have its own.

    ``send`` lets every other task run before it returns: per frame of the exchange and per
    action, one round of the scheduler.
    """
    try:
        inbox.send_nowait(journaled)
    except trio.WouldBlock:
        await inbox.send(journaled)
