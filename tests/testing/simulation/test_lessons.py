"""Twenty bugs that other projects reported in public, each as a scenario that the service survives.

Every scenario ends at rest and is audited: at most one order per action, the exchange's position,
exactly the expected messages, no secret, and a journal that replays.
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
from oms_trio.testing.simulation.impairments import Impairment
from oms_trio.testing.simulation.wire_trace import WireTrace
from oms_trio.testing.simulation.world import open_world
from tests.testing.simulation.scenario import PATIENT, open_scenario, stop_service

MINUTE = 60.0


async def test_01_ambiguous_submit_stays_unknown_until_there_is_evidence(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4152."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        scenario.faults.answer_submits("50004", executed=True)
        ord_id = await scenario.place_order("buy")
        scenario.fill(ord_id)
        await scenario.at_rest()
        assert scenario.rejections == []
        scenario.faults.answer_submits("51149", executed=False)
        scenario.publish_action("buy")
        await trio.sleep(5)
        assert scenario.rejections == []
        assert any(order.outcome_unknown for order in scenario.state.orders)
        await scenario.at_rest()
        assert scenario.rejections == ["exchange"]


async def test_02_order_without_a_known_venue_id_is_found_by_ours(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4958."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        scenario.faults.cut_after_op = 1
        scenario.publish_action("buy")
        await scenario.at_rest()
        (order,) = scenario.state.orders
        assert order.okx_order_id == scenario.orders[0].ord_id
        assert order.order_state is OrderState.LIVE


async def test_03_fills_during_a_lost_session_are_published(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/pull/4991."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        first, second = (
            await scenario.place_order("buy", "2"),
            await scenario.place_order("sell", "2"),
        )
        scenario.faults.refuse_connections = True
        scenario.faults.cut()
        await scenario.until(lambda: not scenario.state.sync.has_session)
        scenario.fill(first, "1")
        scenario.fill(second, "1", "67010")
        scenario.fill(first, "1", "66990")
        scenario.publish_action("buy")
        await trio.sleep(10)
        assert len(scenario.orders) == 2
        scenario.faults.refuse_connections = False
        await scenario.at_rest()
        assert [message["okx_id"] for message in scenario.messages if "okx_id" in message] == [
            first,
            second,
            second,
            first,
        ]


async def test_04_missing_answer_never_counts_as_flat(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4617."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        scenario.fill(await scenario.place_order("buy", "3"), "3")
        await scenario.at_rest()
        published = len(scenario.messages)
        with scenario.world.impairments.during({Impairment.REST}):
            scenario.faults.rest_status = 503
            scenario.faults.cut()
            await trio.sleep(5 * MINUTE)
            assert scenario.state.book.position == 3
            assert not scenario.state.ready
            assert len(scenario.messages) == published
            scenario.faults.rest_status = 0
        await scenario.at_rest()
        assert scenario.state.book.position == 3


async def test_05_snapshot_taken_before_a_fill_does_not_undo_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/pull/4517."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        ord_id = await scenario.place_order("buy", "5")
        for number in range(5):
            scenario.faults.cut()
            await scenario.world.wait_for_state(CONDITIONS["no session"])
            await scenario.world.wait_for_state(CONDITIONS["reconciling"])
            await trio.sleep(0.004 * number)
            scenario.fill(ord_id)
            await scenario.at_rest()
            assert scenario.state.book.position == number + 1


async def test_06_unexplained_position_stops_orders_without_endless_queries(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/3622."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        assert scenario.world.market.trade_by_hand("buy")
        scenario.fill(scenario.exchange.engine.book.pending[0].ord_id)
        await scenario.until(lambda: not scenario.state.ready)
        scenario.publish_action("buy")
        await trio.sleep(4 * MINUTE)  # by then it is certain that the action became no order
        requests = scenario.state.sync.request
        await trio.sleep(10 * MINUTE)
        assert scenario.state.sync.request - requests <= 20
        assert [order for order in scenario.orders if order.tag] == []
        assert "position is 1" in scenario.state.sync.why
        assert scenario.world.market.trade_by_hand("sell")
        scenario.fill(scenario.exchange.engine.book.pending[0].ord_id)
        await scenario.at_rest()


async def test_07_messages_keep_their_ids_over_restarts(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/3878."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        ord_id = await scenario.place_order("buy", "2")
        scenario.world.broker.set_available(available=False)
        scenario.fill(ord_id)
        await trio.sleep(1)
        scenario.world.kill()
        process = await scenario.world.next_process()
        scenario.world.broker.set_available(available=True)
        scenario.world.broker.lose_confirms(1)
        await process.started.wait()
        scenario.fill(ord_id)
        await scenario.at_rest()
        ids = [message.message_id for message in scenario.world.received]
        assert len(ids) > len(set(ids))
        assert len(scenario.messages) == 1


async def test_08_fill_beyond_the_position_closes_one_trade_and_opens_another(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4106, .../issues/4975."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        scenario.fill(await scenario.place_order("buy", "3"), "3")
        await trio.sleep(1)
        scenario.fill(await scenario.place_order("sell", "5"), "5", "67100")
        await scenario.at_rest()
        assert scenario.state.book.position == -2
        assert [message["is_trade_closed"] for message in scenario.messages] == [
            False,
            False,
            True,
            False,
        ]


async def test_09_state_does_not_grow_with_pushes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4663, .../issues/4533."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        scenario.fill(await scenario.place_order("buy", "3"), "3")
        await trio.sleep(MINUTE)
        size = len(encode_state(scenario.state))
        await trio.sleep(10 * MINUTE)
        assert abs(len(encode_state(scenario.state)) - size) < 64


async def test_10_rejection_of_the_instrument_is_published_to_the_agent(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4964."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        scenario.exchange.reject_next_orders("51001", times=3)
        for _ in range(3):
            scenario.publish_action("buy")
        await scenario.until(lambda: len(scenario.rejections) == 3)
        assert scenario.orders == []
        await scenario.place_order("buy")


async def test_11_cl_ord_ids_have_the_form_that_the_exchange_accepts(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/nautechsystems/nautilus_trader/issues/4116."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        scenario.publish_action(
            "buy", message_id="a-message-id/with 'signs' and much more than 32 characters"
        )
        scenario.publish_action("sell")
        await scenario.until(lambda: len(scenario.orders) == 2)
        assert all(re.fullmatch(r"[A-Za-z0-9]{1,32}", o.cl_ord_id) for o in scenario.orders)


async def test_12_failed_send_that_was_executed_is_not_sent_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/hummingbot/hummingbot/issues/7294, .../issues/601, .../issues/3374."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        scenario.faults.cut_after_op = 1
        scenario.publish_action("buy", message_id="a")
        await scenario.until(lambda: scenario.orders)
        scenario.fill(scenario.orders[0].ord_id)
        scenario.world.broker.restart()
        await scenario.at_rest()
        assert len(scenario.orders) == 1
        assert scenario.state.book.position == 1


async def test_13_silent_session_is_noticed_and_an_idle_one_is_kept(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/hummingbot/hummingbot/issues/8296."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        await trio.sleep(5 * MINUTE)
        assert scenario.world.inputs["session_up"] == 1
        scenario.faults.silence = True
        began = trio.current_time()
        await scenario.until(lambda: not scenario.state.sync.has_session)
        assert trio.current_time() - began <= 31
        scenario.faults.silence = False


async def test_14_fractions_of_a_contract_and_empty_numbers_are_read(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/hummingbot/hummingbot/issues/8248."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        buy, sell = (
            await scenario.place_order("buy", "0.1"),
            await scenario.place_order("sell", "0.1"),
        )
        scenario.fill(buy, "0.05")
        scenario.fill(buy, "0.05")
        scenario.fill(sell, "0.1")
        await trio.sleep(10)
        await scenario.at_rest()
        assert scenario.state.book.position == 0
        assert [message["is_trade_closed"] for message in scenario.messages] == [False, False, True]


async def test_15_order_that_has_ended_is_not_cancelled_again_and_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/hummingbot/hummingbot/issues/5896."""
    rules = attrs.evolve(PATIENT, max_order_age_ns=20_000_000_000)
    async with open_scenario(tmp_path, autojump_clock, rules=rules) as scenario:
        ord_id = await scenario.place_order("buy")
        scenario.faults.drop_order_pushes = 1
        scenario.fill(ord_id)
        await trio.sleep(5 * MINUTE)
        await scenario.at_rest()
        assert scenario.world.inputs["cancel_answer"] <= 2
        assert not list(scenario.state.orders)


async def test_16_service_that_cannot_reach_the_exchange_ends_with_an_error(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/freqtrade/freqtrade/issues/9675."""
    ended: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            world = open_world(1, tmp_path, nursery, WireTrace())
            world.exchange.faults.refuse_connections = True
            nursery.start_soon(world.supervise)
    except* RetriesExhaustedError as group:
        ended.extend(group.exceptions)
    assert len(ended) == 1
    assert autojump_clock.current_time() < 40 * MINUTE


async def test_17_missing_confirm_loses_no_message(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/mosquito/aio-pika/issues/689."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        ord_id = await scenario.place_order("buy", "3")
        scenario.world.broker.lose_confirms(3)
        for _ in range(3):
            scenario.fill(ord_id)
            await trio.sleep(0.5)
        await scenario.at_rest()
        assert len(scenario.world.received) > len(scenario.messages)


async def test_18_actions_are_consumed_again_after_a_broker_outage(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/mosquito/aio-pika/issues/231, .../issues/334, .../issues/508."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        ord_id = await scenario.place_order("buy")
        scenario.world.broker.set_available(available=False)
        scenario.fill(ord_id)
        await trio.sleep(5 * MINUTE)
        scenario.world.broker.set_available(available=True)
        await scenario.place_order("sell")
        await scenario.at_rest()
        assert [message["okx_id"] for message in scenario.messages] == [ord_id]


@pytest.mark.parametrize("where", ["exchange", "broker", "disk"])
async def test_19_stop_is_quick_while_another_part_hangs(
    tmp_path: Path, autojump_clock: MockClock, where: str
) -> None:
    """https://github.com/python-trio/trio-asyncio/pull/161."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        ord_id = await scenario.place_order("buy", "2")
        scenario.faults.silence = where == "exchange"
        scenario.world.broker.set_available(available=where != "broker")
        scenario.world.disk.full = where == "disk"
        scenario.fill(ord_id)
        scenario.publish_action("buy")
        await trio.sleep(0.2)
        assert await stop_service(scenario.world) < 5
        scenario.faults.silence = scenario.world.disk.full = False
        scenario.world.broker.set_available(available=True)
        scenario.world.keep_down = False
        await scenario.world.next_process()


async def test_20_service_reconnects_and_reconciles_after_any_end_of_a_session(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """https://github.com/python-trio/trio-websocket/issues/184, .../issues/82, .../pull/188."""
    async with open_scenario(tmp_path, autojump_clock) as scenario:
        ord_id = await scenario.place_order("buy", "5")
        scenario.faults.announce_upgrade(2.0)
        for number in range(5):
            scenario.fill(ord_id)
            await trio.sleep(0.7)
            if number % 2:
                scenario.world.network.reset()
        await scenario.at_rest()
        assert scenario.state.book.position == 5
