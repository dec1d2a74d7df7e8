"""Takes actions from the broker and sends them to the trade-state task."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import structlog
import trio

from oms_trio.amqp.codec import ActionLayout, MalformedAction, decode_action
from oms_trio.amqp.model import Broker
from oms_trio.core.identity import name_of_action
from oms_trio.core.model import ClOrdId
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Inbox, deliver
from oms_trio.settings.clock import Clock

log = structlog.get_logger()


async def ingest(
    broker: Broker,
    inbox: Inbox,
    clock: Clock,
    layout: ActionLayout = ActionLayout.BYTES_25,
    knows_action: Callable[[ClOrdId], bool] = lambda _: False,
) -> None:
    """Decode actions until cancelled; a message that is not one becomes a dead letter, with the reason.

    Expired actions are sent on like any other, flagged. Those that cannot be decoded are dead letters
    already. ``knows_action`` returns whether the journal has an action of this name.

    How many dead letters are on their way at once is bounded by the
    broker's prefetch, since each of them is an unacknowledged delivery.
    """
    async with trio.open_nursery() as nursery:
        while True:
            deliveries = await broker.receive()
            # At once: what happens from here on counts towards the actions' age.
            received_ns = clock()
            for delivery in deliveries:
                try:
                    action = decode_action(delivery, received_ns, layout)
                except MalformedAction as error:
                    if delivery.expired:
                        broker.ack([delivery.tag])
                        continue
                    log.warning("action_malformed", why=str(error), length=len(delivery.body))
                    nursery.start_soon(broker.dead_letter, delivery.tag, str(error))
                else:
                    name = name_of_action(action)
                    if name is not None and knows_action(name):
                        action = attrs.evolve(action, known=True)
                    await deliver(inbox, journaled_inputs.action(action))
