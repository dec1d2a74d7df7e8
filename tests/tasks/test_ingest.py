"""The ingesting task: actions to the trading state, everything else to the dead letters."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from oms_trio.amqp.codec import ActionLayout, encode_action
from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Delivery
from oms_trio.core.events import Action
from oms_trio.core.model import OrderType
from oms_trio.service.journaled_inputs import JournaledInput
from oms_trio.tasks.ingest import ingest
from tests.tasks.venue import START_NS, waiting_in


def action(state_id: int) -> bytes:
    """An action that can be decoded."""
    return encode_action(state_id, OrderType.LIMIT, -0.25, 3.0, Decimal(67_000))


@asynccontextmanager
async def ingesting(
    broker: MemoryBroker,
    room: float = math.inf,
    layout: ActionLayout = ActionLayout.BYTES_25,
) -> AsyncIterator[trio.MemoryReceiveChannel[JournaledInput]]:
    """Run the task."""
    inbox, arrivals = trio.open_memory_channel[JournaledInput](room)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ingest, broker, inbox, lambda: START_NS, layout)
        broker.consume(True)
        yield arrivals
        nursery.cancel_scope.cancel()


def taken(arrivals: trio.MemoryReceiveChannel[JournaledInput]) -> list[Action]:
    """The actions that have arrived."""
    told = [one for arrival in waiting_in(arrivals) for one in arrival.events]
    assert all(isinstance(one, Action) for one in told)
    return [one for one in told if isinstance(one, Action)]


async def test_an_action_arrives_with_all_that_identifies_it() -> None:
    broker = MemoryBroker()
    async with ingesting(broker) as arrivals:
        broker.publish_action(action(9), "id-9")
        await wait_all_tasks_blocked()
        broker.restart()
        await wait_all_tasks_blocked()
        first, again = taken(arrivals)
    assert (first.state_id, first.message_id, first.body) == (9, "id-9", action(9))
    assert first.received_ns == START_NS
    assert (first.redelivered, again.redelivered) == (False, True)
    assert first.delivery != again.delivery


async def test_what_is_no_action_becomes_a_dead_letter_with_the_reason() -> None:
    broker = MemoryBroker()
    async with ingesting(broker) as arrivals:
        broker.publish_action(b"short", "bad")
        broker.publish_action(action(1))
        broker.publish_action(action(2)[:4] + b"\x07" + action(2)[5:])
        await wait_all_tasks_blocked()
        assert [one.state_id for one in taken(arrivals)] == [1]
    dead = sorted(broker.dead_letters, key=lambda letter: len(letter.body))  # in no set order
    assert [(letter.body, letter.message_id) for letter in dead[:1]] == [(b"short", "bad")]
    assert "25" in dead[0].reason
    assert "action type 7" in dead[1].reason


async def test_one_bad_message_does_not_drop_the_rest_of_its_batch() -> None:
    broker = MemoryBroker()
    for state_id in range(10):
        broker.publish_action(action(state_id))
        broker.publish_action(bytes([state_id]))
    async with ingesting(broker) as arrivals:
        await wait_all_tasks_blocked()
        assert [one.state_id for one in taken(arrivals)] == list(range(10))
    assert len(broker.dead_letters) == 10


async def test_the_layout_of_23_bytes_is_taken_where_it_is_accepted() -> None:
    price, volume, mid = -0.25, 3.0, Decimal(67_000)
    body = encode_action(9, OrderType.LIMIT, price, volume, mid, ActionLayout.BYTES_23)
    broker = MemoryBroker()
    async with ingesting(broker, layout=ActionLayout.BOTH) as arrivals:
        broker.publish_action(body)
        broker.publish_action(action(10))
        await wait_all_tasks_blocked()
        first, second = taken(arrivals)
    assert (first.state_id, first.body) == (9, body)
    assert (first.price, first.volume, first.mid) == (second.price, second.volume, second.mid)
    async with ingesting(broker) as arrivals:
        broker.publish_action(body)
        await wait_all_tasks_blocked()
        assert taken(arrivals) == []
    assert [letter.reason for letter in broker.dead_letters] == ["23 bytes instead of 25"]


async def test_a_saturated_price_becomes_a_dead_letter_and_no_order() -> None:
    """Encoders that compute in doubles make these bits of exactly +1 and of exactly -1."""
    body = action(1)[:5] + (1 << 63).to_bytes(8, "little") + action(1)[13:]
    broker = MemoryBroker()
    async with ingesting(broker) as arrivals:
        broker.publish_action(body)
        await wait_all_tasks_blocked()
        assert taken(arrivals) == []
    (letter,) = broker.dead_letters
    assert letter.body == body
    assert "exactly 1 and -1" in letter.reason


async def test_an_expired_action_arrives_as_such_while_no_actions_are_taken(
    autojump_clock: MockClock,
) -> None:
    broker = MemoryBroker(message_ttl_s=5)
    async with ingesting(broker) as arrivals:
        broker.consume(False)
        broker.publish_action(action(9), "id-9")
        await trio.sleep(6)
        (expired,) = taken(arrivals)
    assert (expired.state_id, expired.message_id, expired.expired) == (9, "id-9", True)


async def test_an_expired_message_that_is_no_action_is_in_the_dead_letters_once(
    autojump_clock: MockClock,
) -> None:
    broker = MemoryBroker(message_ttl_s=5)
    async with ingesting(broker) as arrivals:
        broker.consume(False)
        broker.publish_action(b"bad", "bad")
        await trio.sleep(6)
        assert taken(arrivals) == []
        broker.restart()
        await trio.sleep(6)
    assert [letter.reason for letter in broker.dead_letters] == ["expired"]


async def test_a_flawed_message_becomes_a_dead_letter_with_that_reason() -> None:
    class Flawed(MemoryBroker):
        """A broker whose messages have an id that nobody can read."""

        async def receive(self) -> tuple[Delivery, ...]:
            batch = await super().receive()
            return tuple(attrs.evolve(one, flaw="unreadable id") for one in batch)

    broker = Flawed()
    async with ingesting(broker) as arrivals:
        broker.publish_action(action(1))
        await wait_all_tasks_blocked()
        assert taken(arrivals) == []
    assert [letter.reason for letter in broker.dead_letters] == ["unreadable id"]


async def test_actions_that_wait_behind_a_stuck_trading_state_go_back_to_the_queue(
    autojump_clock: MockClock,
) -> None:
    """Received when there is room again they would look new; in the queue they expire."""
    broker = MemoryBroker(message_ttl_s=5)
    async with ingesting(broker, room=1) as arrivals:
        for state_id in range(3):
            broker.publish_action(action(state_id))
            await wait_all_tasks_blocked()
        await trio.sleep(6)
        seen: list[Action] = []
        while len(seen) < 3:
            seen += taken(arrivals)
            await wait_all_tasks_blocked()
    assert [(one.state_id, one.expired) for one in seen] == [(0, False), (1, False), (2, True)]


async def test_dead_letters_that_wait_do_not_hold_up_actions() -> None:
    class Slow(MemoryBroker):
        """A broker that takes no dead letter for now."""

        async def dead_letter(self, _tag: int, _reason: str) -> None:
            await trio.sleep_forever()

    broker = Slow()
    async with ingesting(broker) as arrivals:
        broker.publish_action(b"bad")
        broker.publish_action(action(1))
        await wait_all_tasks_blocked()
        assert [one.state_id for one in taken(arrivals)] == [1]


async def test_a_busy_trading_state_leaves_actions_with_the_broker() -> None:
    """Neither dropped nor piled up: behind a full inbox prefetch is the bound."""
    broker = MemoryBroker(prefetch=4)
    async with ingesting(broker, room=1) as arrivals:
        for state_id in range(20):
            broker.publish_action(action(state_id))
        await wait_all_tasks_blocked()
        assert broker.depth == 16
        seen: list[int] = []
        while len(seen) < 4:
            seen += [one.state_id for one in taken(arrivals)]
            await wait_all_tasks_blocked()
        assert seen == [0, 1, 2, 3]
        assert broker.depth == 16, "none of the four is acknowledged"
