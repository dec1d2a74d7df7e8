"""The broker's side of the contenders on asyncio: plain aiormq, one connection each way."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aiormq
import aiormq.abc

from bench.peers.common import PREFETCH, Place

_ids = itertools.count(1)


async def publisher(where: Place) -> Callable[[bytes], Coroutine[Any, Any, None]]:
    """Connect for executions; gives what publishes one, persistently, waiting for its confirm."""
    connection = await aiormq.connect(where.amqp)
    channel = await connection.channel()
    assert isinstance(channel, aiormq.Channel)
    await channel.exchange_declare(where.executions, exchange_type="topic", durable=True)

    async def publish(body: bytes) -> None:
        await channel.basic_publish(
            body,
            exchange=where.executions,
            routing_key="execution.update",
            properties=aiormq.spec.Basic.Properties(
                content_type="application/json", delivery_mode=2, message_id=f"m{next(_ids)}"
            ),
            wait=False,
        )

    return publish


async def consume(where: Place, take: Callable[[bytes], Awaitable[None]]) -> None:
    """Connect for actions; ``take`` is called for each, which is acknowledged then."""
    connection = await aiormq.connect(where.amqp)
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=PREFETCH)
    await channel.exchange_declare(where.actions, exchange_type="topic", durable=True)
    await channel.queue_declare(where.queue, durable=True)
    await channel.queue_bind(where.queue, where.actions, routing_key="oms.action")

    async def arrived(message: aiormq.abc.DeliveredMessage) -> None:
        await take(message.body)
        assert message.delivery_tag is not None
        await channel.basic_ack(message.delivery_tag, wait=False)

    await channel.basic_consume(where.queue, arrived)
