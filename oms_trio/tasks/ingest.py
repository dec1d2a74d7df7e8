"""Takes actions from the broker and hands them to the trade-state task."""

from __future__ import annotations

import structlog
import trio

from oms_trio import records
from oms_trio.amqp.codec import MalformedAction, decode_action
from oms_trio.amqp.model import Broker
from oms_trio.channels import Inbox, hand_over
from oms_trio.clock import Clock

log = structlog.get_logger()


async def ingest(broker: Broker, inbox: Inbox, clock: Clock) -> None:
    """Decode actions for ever; what is none goes to the dead letters with the reason.

    Ends only by cancellation. How many dead letters are on their way at once is bounded by the
    broker's prefetch, since each of them is an unacknowledged delivery.
    """
    async with trio.open_nursery() as nursery:
        while True:
            deliveries = await broker.receive()
            received_ns = clock()
            for delivery in deliveries:
                try:
                    decoded = decode_action(delivery.body)
                except MalformedAction as error:
                    log.warning("action_malformed", why=str(error), length=len(delivery.body))
                    nursery.start_soon(broker.dead_letter, delivery.tag, str(error))
                else:
                    await hand_over(inbox, records.action(delivery, decoded, received_ns))
