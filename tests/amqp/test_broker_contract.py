"""The behaviour that RabbitMQ and the broker in memory have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import attrs
import pytest
import trio

from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.memory import DeadLetter, MemoryBroker
from oms_trio.amqp.model import (
    EXPIRED_PREFETCH,
    HELD_S,
    Broker,
    BrokerUnavailable,
    Outgoing,
)
from tests.amqp.agents import Agent, MemoryAgent, PikaAgent, fresh_settings, take, until
from tests.amqp.proxy import open_proxy
from tests.rabbitmq import RabbitNode

PREFETCH = 5
QUIET_S = 0.1
"""How long a test waits for something that must not happen."""
TTL_S = 0.3


@attrs.frozen
class World:
    broker: Broker
    agent: Agent


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def node(request: pytest.FixtureRequest) -> RabbitNode | None:
    if request.param == "memory":
        return None
    found: RabbitNode = request.getfixturevalue("rabbitmq_node")
    return found


@pytest.fixture
def ttl_s() -> float:
    return 60.0


@pytest.fixture
async def world(node: RabbitNode | None, ttl_s: float) -> AsyncIterator[World]:
    if node is None:
        memory = MemoryBroker(prefetch=PREFETCH, message_ttl_s=ttl_s)
        yield World(memory, MemoryAgent(memory))
        return
    async with open_proxy(node.port) as proxy:
        settings = fresh_settings(proxy.port, prefetch=PREFETCH, message_ttl_ms=round(1000 * ttl_s))
        agent = PikaAgent(settings, node, proxy=proxy)
        await agent.open()
        async with open_broker(settings) as broker:
            agent.broker = broker
            yield World(broker, agent)
        await agent.close()


async def test_no_action_is_delivered_before_consuming_starts(world: World) -> None:
    await world.agent.act(b"a")
    with trio.move_on_after(QUIET_S):
        await world.broker.receive()
        pytest.fail("an action came")
    assert await world.agent.depth() == 1


async def test_actions_are_delivered_whole_in_order_and_with_different_tags(world: World) -> None:
    world.broker.consume(True)
    await world.agent.act(b"a", message_id="id-a")
    await world.agent.act(b"", b"\x00" * 200_000)
    deliveries = await take(world.broker, 3)
    assert [delivery.body for delivery in deliveries] == [b"a", b"", b"\x00" * 200_000]
    assert [delivery.message_id for delivery in deliveries] == ["id-a", None, None]
    assert not any(delivery.redelivered for delivery in deliveries)
    assert len({delivery.tag for delivery in deliveries}) == 3


async def test_at_most_prefetch_deliveries_are_unacknowledged(world: World) -> None:
    world.broker.consume(True)
    await world.agent.act(*[b"%d" % number for number in range(PREFETCH + 2)])
    held = await take(world.broker, PREFETCH)
    with trio.move_on_after(QUIET_S):
        await world.broker.receive()
        pytest.fail("an action came")
    world.broker.ack([held[0].tag, held[3].tag])
    assert [delivery.body for delivery in await take(world.broker, 2)] == [b"5", b"6"]


async def test_unacknowledged_deliveries_are_repeated_after_an_outage(world: World) -> None:
    world.broker.consume(True)
    await world.agent.act(b"a", b"b", b"c")
    first = await take(world.broker, 3)
    world.broker.ack([first[1].tag])
    await trio.sleep(QUIET_S)
    await world.agent.begin_outage()
    assert not world.broker.connected
    await world.agent.end_outage()
    again = await take(world.broker, 2)
    assert [delivery.body for delivery in again] == [b"a", b"c"]
    assert all(delivery.redelivered for delivery in again)
    assert {delivery.tag for delivery in again}.isdisjoint(delivery.tag for delivery in first)


async def test_deliveries_that_were_not_received_before_an_outage_come_once(world: World) -> None:
    world.broker.consume(True)
    await world.agent.act(b"a", b"b")
    await trio.sleep(QUIET_S)
    await world.agent.begin_outage()
    await world.agent.end_outage()
    assert [delivery.body for delivery in await take(world.broker, 2)] == [b"a", b"b"]


async def test_tags_of_a_lost_connection_and_unknown_ones_are_ignored(world: World) -> None:
    world.broker.consume(True)
    await world.agent.act(b"a")
    old = await take(world.broker, 1)
    await world.agent.begin_outage()
    await world.agent.end_outage()
    new = await take(world.broker, 1)
    world.broker.ack([old[0].tag, 10**9])
    with trio.fail_after(5):
        await world.broker.dead_letter(old[0].tag, "too late")
    world.broker.ack([new[0].tag])
    await world.agent.act(b"b")
    assert [delivery.body for delivery in await take(world.broker, 1)] == [b"b"]


async def test_stopping_returns_prefetched_deliveries_and_keeps_received_ones(
    world: World,
) -> None:
    world.broker.consume(True)
    await world.agent.act(b"a")
    received = await take(world.broker, 1)
    await world.agent.act(b"b", b"c")
    await trio.sleep(QUIET_S)
    world.broker.consume(False)
    await until(partial(_depth_is, world, 2))
    with trio.move_on_after(QUIET_S):
        await world.broker.receive()
        pytest.fail("an action came")
    world.broker.ack([received[0].tag])
    world.broker.consume(True)
    assert [delivery.body for delivery in await take(world.broker, 2)] == [b"b", b"c"]


async def test_a_cancelled_receive_loses_nothing(world: World) -> None:
    world.broker.consume(True)
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.broker.receive()
    await world.agent.act(b"a")
    await trio.sleep(QUIET_S)
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.broker.receive()
    assert [delivery.body for delivery in await take(world.broker, 1)] == [b"a"]


async def test_a_dead_letter_keeps_body_and_id_has_a_reason_and_leaves_the_queue(
    world: World,
) -> None:
    world.broker.consume(True)
    await world.agent.act(b"?", message_id="odd")
    (delivery,) = await take(world.broker, 1)
    await world.broker.dead_letter(delivery.tag, "1 bytes instead of 25")
    assert await world.agent.dead_letters(1) == [DeadLetter(b"?", "odd", "1 bytes instead of 25")]
    await trio.sleep(QUIET_S)
    await world.agent.begin_outage()
    await world.agent.end_outage()
    await world.agent.act(b"next")
    assert [delivery.body for delivery in await take(world.broker, 1)] == [b"next"]


@pytest.mark.parametrize("ttl_s", [TTL_S])
async def test_an_action_that_is_not_consumed_in_time_becomes_a_dead_letter_and_is_delivered_as_expired(
    world: World,
) -> None:
    """This does not depend on ``consume``."""
    await world.agent.act(b"late", message_id="id")
    assert await world.agent.dead_letters(1) == [DeadLetter(b"late", "id", "expired")]
    (delivery,) = await take(world.broker, 1)
    assert (delivery.body, delivery.message_id, delivery.expired) == (b"late", "id", True)
    assert delivery.redelivered, "for all that anybody knows"
    world.broker.ack([delivery.tag])
    await trio.sleep(QUIET_S)
    await world.agent.begin_outage()
    await world.agent.end_outage()
    world.broker.consume(True)
    with trio.move_on_after(QUIET_S):
        await world.broker.receive()
        pytest.fail("an action came")


@pytest.mark.parametrize("ttl_s", [TTL_S])
async def test_an_unacknowledged_expired_action_is_repeated(world: World) -> None:
    await world.agent.act(b"late")
    (first,) = await take(world.broker, 1)
    await world.agent.begin_outage()
    await world.agent.end_outage()
    (again,) = await take(world.broker, 1)
    assert (again.body, again.expired, again.redelivered) == (b"late", True, True)
    assert again.tag != first.tag


@pytest.mark.parametrize("ttl_s", [TTL_S])
async def test_expired_actions_neither_delay_live_ones_nor_precede_them(
    world: World,
) -> None:
    late = [b"late %d" % number for number in range(EXPIRED_PREFETCH + 5)]
    await world.agent.act(*late)
    assert len(await world.agent.dead_letters(len(late))) == len(late)
    world.broker.consume(True)
    await trio.sleep(QUIET_S)
    await world.agent.act(b"live")
    await trio.sleep(QUIET_S)
    batch = await world.broker.receive()
    assert [(one.body, one.expired) for one in batch[:1]] == [(b"live", False)]
    assert [one.body for one in batch[1:]] == late[:EXPIRED_PREFETCH]
    world.broker.ack([one.tag for one in batch[1:]])
    assert [one.body for one in await take(world.broker, 5)] == late[EXPIRED_PREFETCH:]


@pytest.mark.parametrize("ttl_s", [TTL_S])
async def test_our_own_dead_letters_are_not_delivered_as_expired(world: World) -> None:
    world.broker.consume(True)
    await world.agent.act(b"?")
    (delivery,) = await take(world.broker, 1)
    await world.broker.dead_letter(delivery.tag, "no action")
    assert len(await world.agent.dead_letters(1)) == 1
    with trio.move_on_after(QUIET_S):
        await world.broker.receive()
        pytest.fail("it came back")


@pytest.mark.parametrize("ttl_s", [TTL_S])
async def test_an_expired_action_is_a_dead_letter_in_spite_of_an_outage(
    world: World,
) -> None:
    world.broker.consume(True)
    await world.agent.act(b"held", message_id="id")
    (held,) = await take(world.broker, 1)
    await trio.sleep(1.5 * TTL_S)
    await world.agent.begin_outage()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.broker.dead_letter, held.tag, "expired")
        await trio.sleep(QUIET_S)
        await world.agent.end_outage()
    assert await world.agent.dead_letters(1) == [DeadLetter(b"held", "id", "expired")]


async def test_a_delivery_that_waits_long_in_this_process_returns_to_the_queue(
    world: World,
) -> None:
    """The queue knows its age; in this process it would look new."""
    world.broker.consume(True)
    await world.agent.act(b"old", message_id="id")
    await trio.sleep(1.1 * HELD_S)
    (delivery,) = await take(world.broker, 1)
    assert (delivery.body, delivery.redelivered) == (b"old", True)


@pytest.mark.parametrize("ttl_s", [TTL_S])
async def test_a_delivery_that_waits_in_this_process_beyond_its_time_to_live_expires(
    world: World,
) -> None:
    world.broker.consume(True)
    await world.agent.act(b"old", message_id="id")
    await trio.sleep(1.1 * HELD_S)
    (delivery,) = await take(world.broker, 1)
    assert (delivery.body, delivery.message_id, delivery.expired) == (b"old", "id", True)
    assert await world.agent.dead_letters(1) == [DeadLetter(b"old", "id", "expired")]


@pytest.mark.parametrize("ttl_s", [TTL_S])
async def test_a_received_action_does_not_expire(world: World) -> None:
    world.broker.consume(True)
    await world.agent.act(b"held", b"probe")
    held, probe = await take(world.broker, 2)
    await trio.sleep(2 * TTL_S)
    world.broker.ack([held.tag])
    await world.broker.dead_letter(probe.tag, "probe")
    assert [letter.body for letter in await world.agent.dead_letters(1)] == [b"probe"]


async def test_published_messages_arrive_in_order_before_publish_returns(world: World) -> None:
    sent = [
        Outgoing(f"m-{number}", "execution.reject" if number % 3 else "execution.update", b"{}")
        for number in range(100)
    ]
    await world.broker.publish(sent[:1])
    await world.broker.publish([])
    await world.broker.publish(sent[1:])
    assert await world.agent.executions(100) == sent


async def test_a_message_carries_its_cause(world: World) -> None:
    sent = [Outgoing("a", "execution.update", b"{}", "liquidation")]
    sent.append(Outgoing("b", "execution.update", b"{}"))
    await world.broker.publish(sent)
    assert await world.agent.executions(2) == sent


async def test_messages_that_no_queue_takes_are_confirmed_and_counted(world: World) -> None:
    messages = [Outgoing(f"m-{number}", "execution.update", b"{}") for number in range(3)]
    await world.broker.publish(messages)
    assert world.broker.unroutable == 0
    await world.agent.leave()
    await world.broker.publish(messages)
    await world.broker.publish(messages[:1])
    assert world.broker.unroutable == 4
    assert world.broker.connected


async def test_publishing_in_an_outage_fails_and_works_again_afterwards(world: World) -> None:
    message = Outgoing("m", "execution.update", b"{}")
    await world.agent.begin_outage()
    with pytest.raises(BrokerUnavailable):
        await world.broker.publish([message])
    with trio.move_on_after(QUIET_S) as waited:
        await world.broker.wait_publishable()
    assert waited.cancelled_caught
    await trio.sleep(5 * QUIET_S)
    await world.agent.end_outage()
    with trio.fail_after(5):
        await world.broker.wait_publishable()
        await world.broker.publish([message])
    assert await world.agent.executions(1) == [message]


async def _depth_is(world: World, depth: int) -> bool:
    return await world.agent.depth() == depth
