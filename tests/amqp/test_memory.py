"""What only the broker in memory can do: follow a jumping clock, and fail on demand, repeatably."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from oms_trio.amqp.memory import DeadLetter, MemoryBroker
from oms_trio.amqp.model import BrokerUnavailable, Outgoing

MESSAGE = Outgoing("m", "execution.update", b"{}")


async def test_expiry_follows_trios_clock(autojump_clock: trio.testing.MockClock) -> None:
    broker = MemoryBroker(message_ttl_s=5)
    broker.publish_action(b"a")
    await trio.sleep(4)
    broker.publish_action(b"b")
    await trio.sleep(1)
    assert broker.dead_letters == [DeadLetter(b"a", None, "expired")]
    assert broker.depth == 1
    assert autojump_clock.current_time() >= 5


async def test_a_returned_action_keeps_its_age(autojump_clock: trio.testing.MockClock) -> None:
    broker = MemoryBroker(message_ttl_s=5)
    broker.consume(True)
    broker.publish_action(b"a")
    await trio.sleep(6)
    assert autojump_clock.current_time() >= 6
    assert broker.dead_letters == []
    broker.consume(False)
    assert broker.dead_letters == [DeadLetter(b"a", None, "expired")]


async def test_agents_go_on_publishing_during_our_outage() -> None:
    broker = MemoryBroker()
    broker.consume(True)
    broker.set_available(False)
    broker.publish_action(b"a")
    assert broker.depth == 1
    broker.set_available(True)
    (delivery,) = await broker.receive()
    assert (delivery.body, delivery.redelivered) == (b"a", False)


async def test_a_restart_repeats_unacknowledged_deliveries_in_order() -> None:
    broker = MemoryBroker()
    broker.consume(True)
    for body in (b"a", b"b", b"c"):
        broker.publish_action(body)
    first = await broker.receive()
    broker.ack([first[1].tag])
    broker.restart()
    again = await broker.receive()
    assert [(delivery.body, delivery.redelivered) for delivery in again] == [
        (b"a", True),
        (b"c", True),
    ]


async def test_a_lost_confirm_fails_a_publish_that_was_delivered() -> None:
    broker = MemoryBroker()
    heard = broker.subscribe()
    broker.lose_confirms(1)
    with pytest.raises(BrokerUnavailable):
        await broker.publish([MESSAGE])
    await broker.publish([MESSAGE])
    assert [heard.receive_nowait(), heard.receive_nowait()] == [MESSAGE, MESSAGE]


async def test_every_subscriber_receives_all_messages_until_it_unsubscribes() -> None:
    broker = MemoryBroker()
    stays, leaves = broker.subscribe(), broker.subscribe()
    await broker.publish([MESSAGE])
    assert leaves.receive_nowait() == MESSAGE
    leaves.close()
    await broker.publish([MESSAGE])
    assert [stays.receive_nowait(), stays.receive_nowait()] == [MESSAGE, MESSAGE]


async def test_an_action_wakes_a_waiting_receive() -> None:
    broker = MemoryBroker()
    broker.consume(True)
    bodies: list[bytes] = []

    async def receive() -> None:
        bodies.extend(delivery.body for delivery in await broker.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        broker.publish_action(b"a")
    assert bodies == [b"a"]
