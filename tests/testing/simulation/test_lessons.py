"""Twenty bugs that others had in public, each as a scenario that the whole service must survive.

Every scenario ends at rest and is audited: one order per action, the exchange's position, exactly
the messages that are owed, nothing secret, a journal that replays.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from oms_trio.core.model import OrderState
from oms_trio.okx.errors import RetriesExhaustedError
from oms_trio.service.state_codec import encode_state
from oms_trio.testing.simulation.coverage import CONDITIONS
from oms_trio.testing.simulation.troubles import Trouble
from oms_trio.testing.simulation.wire_trace import Tape
from oms_trio.testing.simulation.world import open_world
from tests.testing.simulation.stage import PATIENT, end, stage

MINUTE = 60.0


async def test_01_ambiguous_submit_stays_unknown_until_there_is_evidence(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4152."""
    async with stage(tmp_path, autojump_clock) as scene:
        scene.faults.answer_submits("50004", executed=True)
        ord_id = await scene.order("buy")
        scene.fill(ord_id)
        await scene.at_rest()
        assert scene.refusals == []
        scene.faults.answer_submits("51149", executed=False)
        scene.act("buy")
        await trio.sleep(5)
        assert scene.refusals == []
        assert any(order.outcome_unknown for order in scene.state.orders)
        await scene.at_rest()
        assert scene.refusals == ["exchange"]


async def test_02_order_without_a_known_venue_id_is_found_by_ours(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4958."""
    async with stage(tmp_path, autojump_clock) as scene:
        scene.faults.cut_after_op = 1
        scene.act("buy")
        await scene.at_rest()
        (order,) = scene.state.orders
        assert order.okx_order_id == scene.orders[0].ord_id
        assert order.order_state is OrderState.LIVE


async def test_03_what_happened_while_the_link_was_down_is_told(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/pull/4991."""
    async with stage(tmp_path, autojump_clock) as scene:
        first, second = await scene.order("buy", "2"), await scene.order("sell", "2")
        scene.faults.refuse_connections = True
        scene.faults.cut()
        await scene.until(lambda: not scene.state.sync.has_session)
        scene.fill(first, "1")
        scene.fill(second, "1", "67010")
        scene.fill(first, "1", "66990")
        scene.act("buy")
        await trio.sleep(10)
        assert len(scene.orders) == 2
        scene.faults.refuse_connections = False
        await scene.at_rest()
        assert [text["okx_id"] for text in scene.told if "okx_id" in text] == [
            first,
            second,
            second,
            first,
        ]


async def test_04_no_answer_is_never_flat(tmp_path: Path, autojump_clock: MockClock) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4617."""
    async with stage(tmp_path, autojump_clock) as scene:
        scene.fill(await scene.order("buy", "3"), "3")
        await scene.at_rest()
        told = len(scene.told)
        with scene.world.troubles.during({Trouble.REST}):
            scene.faults.rest_status = 503
            scene.faults.cut()
            await trio.sleep(5 * MINUTE)
            assert scene.state.book.position == 3
            assert not scene.state.ready
            assert len(scene.told) == told
            scene.faults.rest_status = 0
        await scene.at_rest()
        assert scene.state.book.position == 3


async def test_05_snapshot_taken_before_a_fill_does_not_undo_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/pull/4517."""
    async with stage(tmp_path, autojump_clock) as scene:
        ord_id = await scene.order("buy", "5")
        for number in range(5):
            scene.faults.cut()
            await scene.world.moment(CONDITIONS["link down"])
            await scene.world.moment(CONDITIONS["reconciling"])
            await trio.sleep(0.004 * number)
            scene.fill(ord_id)
            await scene.at_rest()
            assert scene.state.book.position == number + 1


async def test_06_position_that_nothing_explains_stops_orders_and_does_not_spin(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/3622."""
    async with stage(tmp_path, autojump_clock) as scene:
        assert scene.world.trade_by_hand("buy")
        scene.fill(scene.exchange.engine.book.pending[0].ord_id)
        await scene.until(lambda: not scene.state.ready)
        scene.act("buy")
        await trio.sleep(4 * MINUTE)  # by then it is proved that no order came of the action
        asked = scene.state.sync.request
        await trio.sleep(10 * MINUTE)
        assert scene.state.sync.request - asked <= 20
        assert [order for order in scene.orders if order.tag] == []
        assert "position is 1" in scene.state.sync.why
        assert scene.world.trade_by_hand("sell")
        scene.fill(scene.exchange.engine.book.pending[0].ord_id)
        await scene.at_rest()


async def test_07_messages_keep_their_ids_over_restarts(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/3878."""
    async with stage(tmp_path, autojump_clock) as scene:
        ord_id = await scene.order("buy", "2")
        scene.world.broker.set_available(available=False)
        scene.fill(ord_id)
        await trio.sleep(1)
        scene.world.kill()
        life = await scene.world.begun()
        scene.world.broker.set_available(available=True)
        scene.world.broker.lose_confirms(1)
        await life.started.wait()
        scene.fill(ord_id)
        await scene.at_rest()
        ids = [message.message_id for message in scene.world.heard]
        assert len(ids) > len(set(ids))
        assert len(scene.told) == 1


async def test_08_fill_beyond_the_position_closes_one_trade_and_opens_another(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4106, .../issues/4975."""
    async with stage(tmp_path, autojump_clock) as scene:
        scene.fill(await scene.order("buy", "3"), "3")
        await trio.sleep(1)
        scene.fill(await scene.order("sell", "5"), "5", "67100")
        await scene.at_rest()
        assert scene.state.book.position == -2
        assert [text["is_trade_closed"] for text in scene.told] == [False, False, True, False]


async def test_09_state_does_not_grow_with_pushes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4663, .../issues/4533."""
    async with stage(tmp_path, autojump_clock) as scene:
        scene.fill(await scene.order("buy", "3"), "3")
        await trio.sleep(MINUTE)
        size = len(encode_state(scene.state))
        await trio.sleep(10 * MINUTE)
        assert abs(len(encode_state(scene.state)) - size) < 64


async def test_10_exchange_that_refuses_the_instrument_is_told_to_the_agent(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4964."""
    async with stage(tmp_path, autojump_clock) as scene:
        scene.exchange.reject_next_orders("51001", times=3)
        for _ in range(3):
            scene.act("buy")
        await scene.until(lambda: len(scene.refusals) == 3)
        assert scene.orders == []
        await scene.order("buy")


async def test_11_names_of_orders_are_what_the_exchange_takes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4116."""
    async with stage(tmp_path, autojump_clock) as scene:
        scene.act("buy", message_id="a-message-id/with 'signs' and much more than 32 characters")
        scene.act("sell")
        await scene.until(lambda: len(scene.orders) == 2)
        assert all(re.fullmatch(r"[A-Za-z0-9]{1,32}", o.cl_ord_id) for o in scene.orders)


async def test_12_failed_send_that_was_executed_is_not_sent_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/hummingbot/hummingbot/issues/7294, .../issues/601, .../issues/3374."""
    async with stage(tmp_path, autojump_clock) as scene:
        scene.faults.cut_after_op = 1
        scene.act("buy", message_id="a")
        await scene.until(lambda: scene.orders)
        scene.fill(scene.orders[0].ord_id)
        scene.world.broker.restart()
        await scene.at_rest()
        assert len(scene.orders) == 1
        assert scene.state.book.position == 1


async def test_13_silent_link_is_noticed_and_an_idle_one_is_kept(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/hummingbot/hummingbot/issues/8296."""
    async with stage(tmp_path, autojump_clock) as scene:
        await trio.sleep(5 * MINUTE)
        assert scene.world.arrivals["session_up"] == 1
        scene.faults.silence = True
        began = trio.current_time()
        await scene.until(lambda: not scene.state.sync.has_session)
        assert trio.current_time() - began <= 31
        scene.faults.silence = False


async def test_14_fractions_of_a_contract_and_empty_numbers_are_read(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/hummingbot/hummingbot/issues/8248."""
    async with stage(tmp_path, autojump_clock) as scene:
        buy, sell = await scene.order("buy", "0.1"), await scene.order("sell", "0.1")
        scene.fill(buy, "0.05")
        scene.fill(buy, "0.05")
        scene.fill(sell, "0.1")
        await trio.sleep(10)
        await scene.at_rest()
        assert scene.state.book.position == 0
        assert [text["is_trade_closed"] for text in scene.told] == [False, False, True]


async def test_15_order_that_is_gone_is_not_cancelled_for_ever(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/hummingbot/hummingbot/issues/5896."""
    rules = attrs.evolve(PATIENT, max_order_age_ns=20_000_000_000)
    async with stage(tmp_path, autojump_clock, rules=rules) as scene:
        ord_id = await scene.order("buy")
        scene.faults.drop_order_pushes = 1
        scene.fill(ord_id)
        await trio.sleep(5 * MINUTE)
        await scene.at_rest()
        assert scene.world.arrivals["cancel_answer"] <= 2
        assert not list(scene.state.orders)


async def test_16_service_that_cannot_reach_the_exchange_ends_loudly(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/freqtrade/freqtrade/issues/9675."""
    ended: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            world = open_world(1, tmp_path, nursery, Tape())
            world.exchange.faults.refuse_connections = True
            nursery.start_soon(world.live)
    except* RetriesExhaustedError as group:
        ended.extend(group.exceptions)
    assert len(ended) == 1
    assert autojump_clock.current_time() < 40 * MINUTE


async def test_17_confirm_that_never_comes_delays_and_loses_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/mosquito/aio-pika/issues/689."""
    async with stage(tmp_path, autojump_clock) as scene:
        ord_id = await scene.order("buy", "3")
        scene.world.broker.lose_confirms(3)
        for _ in range(3):
            scene.fill(ord_id)
            await trio.sleep(0.5)
        await scene.at_rest()
        assert len(scene.world.heard) > len(scene.told)


async def test_18_actions_are_taken_again_after_the_broker_was_away(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/mosquito/aio-pika/issues/231, .../issues/334, .../issues/508."""
    async with stage(tmp_path, autojump_clock) as scene:
        ord_id = await scene.order("buy")
        scene.world.broker.set_available(available=False)
        scene.fill(ord_id)
        await trio.sleep(5 * MINUTE)
        scene.world.broker.set_available(available=True)
        await scene.order("sell")
        await scene.at_rest()
        assert [text["okx_id"] for text in scene.told] == [ord_id]


@pytest.mark.parametrize("where", ["exchange", "broker", "disk"])
async def test_19_nothing_that_hangs_holds_up_a_stop(
    tmp_path: Path, autojump_clock: MockClock, where: str
) -> None:
    """https://github.com/python-trio/trio-asyncio/pull/161."""
    async with stage(tmp_path, autojump_clock) as scene:
        ord_id = await scene.order("buy", "2")
        scene.faults.silence = where == "exchange"
        scene.world.broker.set_available(available=where != "broker")
        scene.world.room.full = where == "disk"
        scene.fill(ord_id)
        scene.act("buy")
        await trio.sleep(0.2)
        assert await end(scene.world) < 5
        scene.faults.silence = scene.world.room.full = False
        scene.world.broker.set_available(available=True)
        scene.world.down = False
        await scene.world.begun()


async def test_20_any_end_of_a_session_is_reconnect_and_reconcile(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/python-trio/trio-websocket/issues/184, .../issues/82, .../pull/188."""
    async with stage(tmp_path, autojump_clock) as scene:
        ord_id = await scene.order("buy", "5")
        scene.faults.announce_upgrade(2.0)
        for number in range(5):
            scene.fill(ord_id)
            await trio.sleep(0.7)
            if number % 2:
                scene.world.network.reset()
        await scene.at_rest()
        assert scene.state.book.position == 5
