"""What the tasks hand to each other, beside the arrivals that all of them send to one inbox."""

from __future__ import annotations

import attrs
import trio

from oms_trio.core.effects import (
    CancelOrders,
    LookUpOrder,
    PlaceOrder,
    RequestFills,
    RequestSnapshot,
    SettleDelivery,
)
from oms_trio.journal.model import Entry, Message, Snapshot
from oms_trio.records import Arrival


@attrs.frozen
class Order:
    """An order to send, by the instrument's code of the day."""

    effect: PlaceOrder
    inst_id_code: int


@attrs.frozen
class Cancel:
    """Orders to cancel, by the instrument's code of the day."""

    effect: CancelOrders
    inst_id_code: int


Question = RequestSnapshot | RequestFills | LookUpOrder


@attrs.frozen
class Commit:
    """Entries that become durable together, and what may be done only then."""

    entries: tuple[Entry, ...]
    settle: tuple[SettleDelivery, ...]
    snapshot: Snapshot | None = None


@attrs.frozen
class Batch:
    """Durable messages to publish; ``first`` is the outbox position of the first of them."""

    first: int
    messages: tuple[Message, ...]


Inbox = trio.MemorySendChannel[Arrival]
