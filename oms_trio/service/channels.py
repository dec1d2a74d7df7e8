"""What the tasks hand to each other, beside the arrivals that all of them send to one inbox."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from oms_trio.core.effects import (
    CancelOrders,
    LookUpOrder,
    PlaceOrder,
    RequestFills,
    RequestListing,
    RequestSnapshot,
    SettleDelivery,
)
from oms_trio.journal.model import Entry, Message, StateSnapshot
from oms_trio.service.journaled_inputs import JournaledInput


@attrs.frozen
class Order:
    """An order to send, by the instrument's code of the day (None: not known yet, so by REST).

    ``recalls`` is how often orders had been recalled when this one was decided.
    """

    effect: PlaceOrder
    inst_id_code: int | None
    recalls: int = 0


@attrs.define
class Recall:
    """How often the trading state has called back the orders that wait to be sent."""

    count: int = 0

    def covers(self, order: Order) -> bool:
        """Whether this order must not be sent any more."""
        return order.recalls != self.count and not order.effect.reduce_only


@attrs.frozen
class Cancel:
    """Orders to cancel, by the instrument's code of the day."""

    effect: CancelOrders
    inst_id_code: int | None


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
