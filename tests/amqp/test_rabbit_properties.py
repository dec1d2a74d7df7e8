"""Messages with properties that aiormq cannot decode, over a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pika
import pytest
import structlog.testing
import trio

from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.rabbit import RabbitBroker
from tests.amqp.agents import PikaAgent, fresh_settings, take
from tests.amqp.test_frames import nested, short, table
from tests.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq

NS = 1_763_985_600_000_000_000


class RawProperties(pika.BasicProperties):  # type: ignore[misc]  # pika has no types
    """Properties as bytes, since pika would not write them."""

    def __init__(self, flags: int, data: bytes) -> None:
        super().__init__()
        self._raw = flags.to_bytes(2) + data

    def encode(self) -> list[bytes]:
        return [self._raw]


MESSAGE_ID, TIMESTAMP, HEADERS, CONTENT_TYPE = 1 << 7, 1 << 6, 1 << 13, 1 << 15

ODD = {
    "milliseconds": pika.BasicProperties(message_id="id", timestamp=NS // 1_000_000),
    "microseconds": pika.BasicProperties(message_id="id", timestamp=NS // 1_000),
    "nanoseconds": pika.BasicProperties(message_id="id", timestamp=NS),
    "end of time": pika.BasicProperties(message_id="id", timestamp=2**63),
    "deep headers": RawProperties(
        HEADERS | MESSAGE_ID, table(short(b"deep") + nested(2_000)) + short(b"id")
    ),
    "header name": RawProperties(
        HEADERS | MESSAGE_ID, table(short(b"\xff\xfe") + b"V") + short(b"id")
    ),
    "header time": RawProperties(
        HEADERS | MESSAGE_ID, table(short(b"at") + b"T" + NS.to_bytes(8)) + short(b"id")
    ),
    "content type": RawProperties(CONTENT_TYPE | MESSAGE_ID, short(b"\xff") + short(b"id")),
}
odd = pytest.mark.parametrize("properties", ODD.values(), ids=ODD.keys())


@attrs.frozen
class World:
    broker: RabbitBroker
    agent: PikaAgent

    async def act(self, body: bytes, properties: Any) -> None:
        settings = self.agent.settings
        self.agent.channel.basic_publish(
            settings.action_exchange, settings.action_routing_key, body, properties
        )
        await self.agent.depth()

    async def dead_letter(self) -> tuple[Any, bytes]:
        ((_, properties, body),) = await self.agent.raw_dead_letters(1)
        return properties, body


@pytest.fixture
async def world(rabbitmq_node: RabbitNode, ttl_ms: int) -> AsyncIterator[World]:
    agent = PikaAgent(fresh_settings(rabbitmq_node.port, message_ttl_ms=ttl_ms), rabbitmq_node)
    await agent.open()
    with structlog.testing.capture_logs() as logged:
        async with open_broker(agent.settings) as broker:
            yield World(broker, agent)
        assert not [line for line in logged if line["event"] == "broker_connection_lost"]
    await agent.close()


@pytest.fixture
def ttl_ms() -> int:
    return 60_000


@odd
async def test_an_unused_property_does_no_harm(world: World, properties: Any) -> None:
    world.broker.consume(True)
    await world.act(b"odd", properties)
    await world.act(b"next", None)
    first, second = await take(world.broker, 2)
    assert (first.body, first.message_id, first.flaw) == (b"odd", "id", "")
    assert (second.body, second.message_id) == (b"next", None)
    assert not first.redelivered


@odd
async def test_a_dead_letter_does_not_fail_because_of_a_property_of_its_message(
    world: World, properties: Any
) -> None:
    world.broker.consume(True)
    await world.act(b"odd", properties)
    (delivery,) = await take(world.broker, 1)
    with trio.fail_after(5):
        await world.broker.dead_letter(delivery.tag, "3 bytes instead of 25")
    found, body = await world.dead_letter()
    assert (body, found.message_id) == (b"odd", "id")
    assert found.headers == {"x-oms-reason": "3 bytes instead of 25"}


async def test_a_timestamp_in_seconds_is_kept_in_the_dead_letter(world: World) -> None:
    world.broker.consume(True)
    await world.act(b"?", pika.BasicProperties(timestamp=NS // 10**9))
    (delivery,) = await take(world.broker, 1)
    await world.broker.dead_letter(delivery.tag, "why")
    found, _ = await world.dead_letter()
    assert found.timestamp == NS // 10**9


async def test_an_id_that_is_not_utf_8_is_a_flaw_and_does_not_block_the_queue(world: World) -> None:
    world.broker.consume(True)
    await world.act(b"odd", RawProperties(MESSAGE_ID, short(b"\xff\xfe")))
    await world.act(b"next", None)
    first, second = await take(world.broker, 2)
    assert (first.body, first.message_id) == (b"odd", None)
    assert "message_id is not UTF-8" in first.flaw
    assert (second.body, second.flaw) == (b"next", "")
    await world.broker.dead_letter(first.tag, first.flaw)
    found, body = await world.dead_letter()
    assert (body, found.headers) == (b"odd", {"x-oms-reason": first.flaw})


@pytest.mark.parametrize("ttl_ms", [300])
@odd
async def test_an_expired_action_is_delivered_whatever_its_properties(
    world: World, properties: Any
) -> None:
    await world.act(b"odd", properties)
    (delivery,) = await take(world.broker, 1)
    assert (delivery.body, delivery.message_id, delivery.expired) == (b"odd", "id", True)


@pytest.mark.parametrize("ttl_ms", [300])
async def test_an_action_published_directly_to_the_queue_is_delivered_when_it_expires(
    world: World,
) -> None:
    """It uses the default exchange and the queue's name, as the first example of every client does."""
    world.agent.channel.basic_publish("", world.agent.settings.action_queue, b"direct")
    (delivery,) = await take(world.broker, 1)
    assert (delivery.body, delivery.expired) == (b"direct", True)


async def test_dead_letters_of_others_are_not_taken_for_our_expired_actions(
    world: World,
) -> None:
    settings = world.agent.settings
    foreign = {"x-death": [{"reason": "expired", "queue": "another", "count": 1}]}
    rejected = {"x-death": [{"reason": "rejected", "queue": settings.action_queue, "count": 1}]}
    for headers in (None, foreign, rejected):
        world.agent.channel.basic_publish(
            settings.dead_letter_exchange,
            settings.action_routing_key,
            b"foreign",
            pika.BasicProperties(headers=headers),
        )
    with trio.move_on_after(0.3):
        await world.broker.receive()
        pytest.fail("it was taken for ours")
    depth = world.agent.channel.queue_declare(settings.expired_queue, passive=True)
    assert depth.method.message_count == 0
