"""Faults of RabbitMQ, of the network and of operators, and the recovery from them."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from functools import partial

import attrs
import pika
import pytest
import trio

from oms_trio.amqp import broker as broker_module
from oms_trio.amqp import connection as wire
from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.codec import decode_action, encode_action, encode_publication
from oms_trio.amqp.consuming import _Settlement
from oms_trio.amqp.memory import DeadLetter
from oms_trio.amqp.model import BrokerUnavailable, Outgoing
from oms_trio.amqp.rabbit import RabbitBroker
from oms_trio.core.effects import PublishExecution
from oms_trio.core.model import OrderType, OrdId, StateId
from tests.amqp.agents import PATIENCE_S, PikaAgent, fresh_settings, take, until
from tests.amqp.proxy import Proxy, open_proxy
from tests.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq

UPDATE = "execution.update"


@attrs.frozen
class World:
    broker: RabbitBroker
    agent: PikaAgent
    proxy: Proxy


@pytest.fixture
async def world(rabbitmq_node: RabbitNode) -> AsyncIterator[World]:
    async with open_proxy(rabbitmq_node.port) as proxy:
        settings = fresh_settings(proxy.port)
        agent = PikaAgent(settings, rabbitmq_node, proxy=proxy)
        await agent.open()
        async with open_broker(settings) as broker:
            agent.broker = broker
            yield World(broker, agent, proxy)
        await agent.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set deadlines and heartbeats that are short enough for a test."""
    monkeypatch.setattr(wire, "ANSWER_S", 0.5)
    monkeypatch.setattr(wire, "HEARTBEAT_S", 1)


@pytest.fixture
def alarm(rabbitmq_node: RabbitNode) -> Iterator[None]:
    """Raise a memory alarm, in which the broker stops reading from connections that publish."""
    rabbitmq_node.control("set_vm_memory_high_watermark", "0.00001")
    yield
    rabbitmq_node.control("set_vm_memory_high_watermark", "0.4")


async def works(world: World) -> None:
    """Check that both directions work, tolerating messages that were sent twice."""
    world.broker.consume(True)
    await world.agent.act(b"works?")
    with trio.fail_after(PATIENCE_S):
        while True:
            batch = await world.broker.receive()
            world.broker.ack([delivery.tag for delivery in batch])
            if b"works?" in [delivery.body for delivery in batch]:
                break
        await publish_until_confirmed(world.broker, [Outgoing("works", UPDATE, b"{}")])


async def publish_until_confirmed(broker: RabbitBroker, messages: list[Outgoing]) -> None:
    while True:
        await broker.wait_publishable()
        try:
            await broker.publish(messages)
        except BrokerUnavailable:
            continue
        return


async def test_an_action_and_its_execution_are_readable_by_another_client(
    world: World,
) -> None:
    wire = bytes.fromhex("010000000000000000000000a00000000000006000e03b6600")
    world.broker.consume(True)
    await world.agent.act(wire, message_id="a-1")
    (delivery,) = await take(world.broker, 1)
    action = decode_action(delivery, 0)
    execution = PublishExecution("m-1", action.state_id, OrdId("397"))
    await world.broker.publish([encode_publication(execution)])
    world.broker.ack([delivery.tag])
    ((method, properties, body),) = await world.agent.raw_executions(1)
    assert method.routing_key == UPDATE
    assert body == b'{"state_id":1,"okx_id":"397","is_trade_closed":false}'
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == pika.DeliveryMode.Persistent.value
    assert properties.message_id == "m-1"


async def test_connections_closed_by_the_operator_are_restored(world: World) -> None:
    await works(world)
    node = world.agent.node
    await trio.to_thread.run_sync(node.control, "close_all_connections", "maintenance")
    await world.agent.open()
    await works(world)


async def test_a_deleted_queue_is_declared_again_and_consumed(world: World) -> None:
    await works(world)
    queue = world.agent.settings.action_queue
    await trio.to_thread.run_sync(world.agent.channel.queue_delete, queue)
    await world.agent.until_connected(connected=False)
    await world.agent.until_connected(connected=True)
    await works(world)


async def test_a_deleted_exchange_fails_one_publish_and_is_declared_again(world: World) -> None:
    """A publish to a missing exchange closes the channel with 404; consuming is not affected."""
    world.broker.consume(True)
    await world.agent.act(b"held")
    (held,) = await take(world.broker, 1)
    settings = world.agent.settings
    world.agent.channel.exchange_delete(settings.execution_exchange)
    with pytest.raises(BrokerUnavailable):
        await world.broker.publish([Outgoing("m", UPDATE, b"{}")])
    await publish_until_confirmed(world.broker, [Outgoing("m", UPDATE, b"{}")])
    world.broker.ack([held.tag])
    await world.agent.act(b"next")
    (following,) = await take(world.broker, 1)
    assert (following.body, following.redelivered) == (b"next", False)


async def test_a_dead_letter_waits_for_a_queue_to_hold_it(world: World) -> None:
    world.broker.consume(True)
    await world.agent.act(b"?", message_id="odd")
    (delivery,) = await take(world.broker, 1)
    world.agent.channel.exchange_delete(world.agent.settings.dead_letter_exchange)
    with trio.fail_after(PATIENCE_S):
        await world.broker.dead_letter(delivery.tag, "why")
    world.agent.channel.queue_unbind(
        world.agent.settings.dead_letter_queue, world.agent.settings.dead_letter_exchange, "#"
    )
    await world.agent.act(b"!", message_id="odder")
    (delivery,) = await take(world.broker, 1)
    with trio.fail_after(PATIENCE_S):
        await world.broker.dead_letter(delivery.tag, "why")
    assert await world.agent.dead_letters(2) == [
        DeadLetter(b"?", "odd", "why"),
        DeadLetter(b"!", "odder", "why"),
    ]


async def test_a_channel_closed_because_of_an_unknown_delivery_tag_is_restored(
    world: World,
) -> None:
    await works(world)
    await world.agent.act(b"twice")
    (delivery,) = await take(world.broker, 1)
    consuming = world.broker._asyncio_side._consumer  # type: ignore[attr-defined]  # a fault that our own calls cannot make
    message = consuming.unsettled(delivery.tag)
    world.broker.ack([delivery.tag])
    consuming._settlements.append(_Settlement(message, requeue=False))
    consuming._work.set()
    world.broker.ack([delivery.tag])
    await world.agent.until_connected(connected=False)
    await world.agent.until_connected(connected=True)
    await works(world)


@pytest.mark.usefixtures("impatient")
async def test_a_confirm_that_never_comes_fails_at_its_deadline(world: World) -> None:
    await works(world)
    world.proxy.freeze(frozen=True)
    with trio.fail_after(5), pytest.raises(BrokerUnavailable, match="not confirmed in time"):
        await world.broker.publish([Outgoing("m", UPDATE, b"{}")])
    world.proxy.freeze(frozen=False)
    await works(world)


@pytest.mark.usefixtures("impatient")
async def test_a_silent_broker_is_detected_by_its_missing_heartbeats(
    rabbitmq_node: RabbitNode,
) -> None:
    async with open_proxy(rabbitmq_node.port) as proxy:
        agent = PikaAgent(fresh_settings(proxy.port), rabbitmq_node, proxy=proxy)
        async with open_broker(agent.settings) as broker:
            agent.broker = broker
            proxy.freeze(frozen=True)
            await agent.until_connected(connected=False)
            proxy.freeze(frozen=False)
            await agent.until_connected(connected=True)


@pytest.mark.usefixtures("impatient", "alarm")
async def test_with_a_blocked_broker_consuming_goes_on_and_publishing_fails_in_time(
    rabbitmq_node: RabbitNode,
) -> None:
    settings = fresh_settings(rabbitmq_node.port, prefetch=1)
    async with open_broker(settings) as broker:
        broker.consume(True)
        await until_blocked(broker)
        # Actions cannot be published now either; these come back from the queue by rejection.
        agent = PikaAgent(settings, rabbitmq_node)
        await trio.to_thread.run_sync(rabbitmq_node.control, "set_vm_memory_high_watermark", "0.4")
        await agent.open()
        broker.consume(False)
        await agent.act(b"a", b"b", b"c")
        await trio.to_thread.run_sync(
            rabbitmq_node.control, "set_vm_memory_high_watermark", "0.00001"
        )
        await until_blocked(broker)
        broker.consume(True)
        for body in (b"a", b"b", b"c"):
            (delivery,) = await take(broker, 1)
            assert delivery.body == body
            broker.ack([delivery.tag])
        await agent.close()


@pytest.mark.usefixtures("impatient", "alarm")
@pytest.mark.parametrize("uvloop", [True, False])
async def test_large_dead_letters_wait_for_the_end_of_a_memory_alarm(
    rabbitmq_node: RabbitNode, monkeypatch: pytest.MonkeyPatch, *, uvloop: bool
) -> None:
    """Each try ends with a full buffer, and a socket that the broker does not read."""
    if not uvloop:
        monkeypatch.setattr(broker_module, "find_spec", lambda _name: None)
    # Short, but enough to write all 24 MB on a busy machine once the alarm is over.
    answer_s = 5.0
    monkeypatch.setattr(wire, "ANSWER_S", answer_s)
    watermark = partial(rabbitmq_node.control, "set_vm_memory_high_watermark")
    await trio.to_thread.run_sync(watermark, "0.4")
    agent = PikaAgent(fresh_settings(rabbitmq_node.port), rabbitmq_node)
    await agent.open()
    async with open_broker(agent.settings) as broker:
        broker.consume(True)
        bodies = [bytes([number]) * 3_000_000 for number in range(8)]
        await agent.act(*bodies)
        deliveries = await take(broker, len(bodies))
        await trio.to_thread.run_sync(watermark, "0.00001")
        with trio.fail_after(2 * PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for delivery in deliveries:
                    nursery.start_soon(broker.dead_letter, delivery.tag, "why")
                await trio.sleep(answer_s + 1)
                await trio.to_thread.run_sync(watermark, "0.4")
        # One whose confirm came too late is there twice.
        missing = set(bodies)
        while missing:
            (letter,) = await agent.dead_letters(1)
            assert letter.body in bodies
            missing.discard(letter.body)
    await agent.close()


async def until_blocked(broker: RabbitBroker) -> None:
    """Publish until it fails in time: an alarm takes a moment to reach the connections."""
    with trio.fail_after(PATIENCE_S):
        while True:
            await broker.wait_publishable()
            try:
                with trio.fail_after(5):
                    await broker.publish([Outgoing("m", UPDATE, b"{}")])
            except BrokerUnavailable:
                return


async def test_a_lost_connection_fails_a_large_publish_at_once_and_not_at_its_deadline(
    world: World,
) -> None:
    messages = [Outgoing(f"m-{number}", UPDATE, b"{}" * 500) for number in range(3_000)]

    async def cut() -> None:
        # Early: most of them still wait for room in aiormq's write queue.
        await trio.sleep(0.005)
        world.proxy.cut()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut)
        with trio.fail_after(wire.ANSWER_S / 2), pytest.raises(BrokerUnavailable):
            await world.broker.publish(messages)


async def test_five_thousand_messages_in_each_direction_survive_a_lost_connection(
    world: World,
) -> None:
    """Nothing is lost; repeated deliveries are flagged, repeated messages have the same message_id."""
    count, batch_size = 5_000, 250
    actions = [
        encode_action(number, OrderType.LIMIT, 0.5, 1.0, Decimal(67_000)) for number in range(count)
    ]
    taken: list[int] = []
    heard: list[str] = []
    confirmed: list[str] = []

    async def consume() -> None:
        world.broker.consume(True)
        while len(set(taken)) < count:
            batch = await world.broker.receive()
            for delivery in batch:
                state_id = decode_action(delivery, 0).state_id
                assert delivery.redelivered or state_id not in taken[-1:]
                taken.append(state_id)
            world.broker.ack([delivery.tag for delivery in batch])

    async def publish() -> None:
        for start in range(0, count, batch_size):
            batch = [
                encode_publication(PublishExecution(f"m-{number}", StateId(number), OrdId("1")))
                for number in range(start, start + batch_size)
            ]
            await publish_until_confirmed(world.broker, batch)
            confirmed.extend(message.message_id for message in batch)

    async def cut_in_the_middle() -> None:
        await until(lambda: min(len(taken), len(confirmed)) >= count // 4)
        world.proxy.cut()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.agent.act, *actions)
            nursery.start_soon(consume)
            nursery.start_soon(publish)
            nursery.start_soon(cut_in_the_middle)
        while not heard or heard[-1] != f"m-{count - 1}":
            heard.extend(message.message_id for message in await world.agent.executions(1))
    assert set(taken) == set(range(count))
    assert list(dict.fromkeys(heard)) == [f"m-{number}" for number in range(count)]


async def test_a_killed_node_is_found_again_with_all_confirmed_messages(
    rabbitmq_node: RabbitNode,
) -> None:
    """After a power cut confirmed executions and unacknowledged actions are on the node's disk."""
    agent = PikaAgent(fresh_settings(rabbitmq_node.port), rabbitmq_node)
    await agent.open()
    async with open_broker(agent.settings) as broker:
        agent.broker = broker
        broker.consume(True)
        agent.channel.confirm_delivery()
        await agent.act(b"a", b"b")
        first = await take(broker, 2)
        broker.ack([first[0].tag])
        await broker.publish([Outgoing("m-1", UPDATE, b"{}")])
        await trio.sleep(1)  # acknowledgements reach the node's disk a moment later
        await trio.to_thread.run_sync(rabbitmq_node.kill)
        await agent.until_connected(connected=False)
        with pytest.raises(BrokerUnavailable):
            await broker.publish([Outgoing("m-2", UPDATE, b"{}")])
        await trio.to_thread.run_sync(rabbitmq_node.start)
        await agent.until_connected(connected=True)
        await agent.open()
        (again,) = await take(broker, 1)
        assert (again.body, again.redelivered) == (b"b", True)
        broker.ack([again.tag])
        await publish_until_confirmed(broker, [Outgoing("m-2", UPDATE, b"{}")])
        assert [message.message_id for message in await agent.executions(2)] == ["m-1", "m-2"]
    await agent.close()


async def test_acknowledgements_just_before_closing_reach_the_broker(
    rabbitmq_node: RabbitNode,
) -> None:
    agent = PikaAgent(fresh_settings(rabbitmq_node.port), rabbitmq_node)
    await agent.open()
    async with open_broker(agent.settings) as broker:
        broker.consume(True)
        await agent.act(*[b"a"] * 200)
        deliveries = await take(broker, 200)
        broker.ack([delivery.tag for delivery in deliveries])
    assert await agent.depth() == 0
    await agent.close()


async def test_closing_is_quick_when_the_broker_does_not_answer_and_ends_every_wait(
    rabbitmq_node: RabbitNode,
) -> None:
    ended: list[str] = []

    async def receive(broker: RabbitBroker) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await broker.receive()
        ended.append("receive")

    async def publish(broker: RabbitBroker) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await broker.publish([Outgoing("m", UPDATE, b"{}")])
        ended.append("publish")

    threads = threading.active_count()
    async with open_proxy(rabbitmq_node.port) as proxy, trio.open_nursery() as nursery:
        async with open_broker(fresh_settings(proxy.port)) as broker:
            broker.consume(True)
            proxy.freeze(frozen=True)
            nursery.start_soon(receive, broker)
            nursery.start_soon(publish, broker)
            await trio.sleep(0.1)
            began = time.monotonic()
        assert time.monotonic() - began < 2
    assert sorted(ended) == ["publish", "receive"]
    assert threading.active_count() <= threads + 1, "only Trio's own idle worker may stay"


async def test_a_cancelled_service_closes_the_broker(rabbitmq_node: RabbitNode) -> None:
    with trio.fail_after(10), trio.CancelScope() as scope:
        async with open_broker(fresh_settings(rabbitmq_node.port)) as broker:
            scope.cancel()
            await broker.receive()
    with pytest.raises(trio.ClosedResourceError):
        await broker.receive()


async def test_a_cancelled_first_connect_leaves_nothing_behind() -> None:
    async def say_nothing(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, say_nothing, 0)
        settings = fresh_settings(listeners[0].socket.getsockname()[1])
        with trio.fail_after(5):
            with trio.move_on_after(0.2) as scope:
                async with open_broker(settings):
                    pytest.fail("it connected")
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_lost_during_a_call_leaves_no_unretrieved_error(
    world: World,
) -> None:
    """The task that waits for the answer fails by itself, besides the end of the connection."""
    await works(world)
    world.proxy.freeze(frozen=True)
    world.broker.consume(False)
    await trio.sleep(0.1)
    world.proxy.cut()
    await world.agent.until_connected(connected=False)
    world.proxy.freeze(frozen=False)
    await world.agent.until_connected(connected=True)
