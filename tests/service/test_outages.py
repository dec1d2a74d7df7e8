"""The exchange goes away, again and again; what was asked and what has filled stays right."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from oms_trio.okx.errors import RetriesExhaustedError
from oms_trio.service.journaled_inputs import Kind
from oms_trio.testing.okx_server.exchange import MatchingMode
from oms_trio.testing.simulation.invariants.oracle import TrueFill, run_oracle
from tests.service.jumping import Service, serving, until
from tests.tasks.venue import failure_of, open_venue


def fill_all(service: Service) -> None:
    """Fill every open order at its price."""
    for order in service.orders:
        if order.is_open and order.px is not None:
            service.venue.exchange.fill(order.ord_id, order.remaining, order.px)


async def test_thirty_cuts_in_a_row_lose_no_fill_and_double_no_order(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """An order before each cut; it fills while nobody is connected."""
    async with open_venue() as venue, serving(tmp_path, venue) as service:
        for number in range(1, 31):
            await until(lambda: service.ready)
            service.act(number, -0.2 if number % 2 else 0.2, 0.5)
            await until(lambda count=number: len(service.orders) == count)  # type: ignore[misc]
            venue.exchange.faults.cut()
            fill_all(service)
            await until(lambda: not service.ready)
        await until(lambda: service.ready)
        assert len(service.orders) == 30
        assert service.kinds.count(Kind.SESSION_DOWN) == 30
        assert service.position == service.exchange_position
        closures = [told for told in service.heard() if b'"is_trade_closed":true' in told.body]
        assert len(closures) == 15


async def test_an_order_that_is_cut_off_from_its_answer_is_found_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_venue() as venue, serving(tmp_path, venue) as service:
        for number in range(1, 11):
            await until(lambda: service.ready)
            venue.exchange.faults.cut_after_op = 1
            service.act(number, -0.2, 0.1)
            await until(lambda count=number: len(service.orders) == count)  # type: ignore[misc]
            await until(lambda: not service.ready)
        await until(lambda: service.ready)
        assert service.state is not None
        assert len(service.state.orders) == len(service.orders) == 10
        assert all(order.has_okx_id for order in service.state.orders)
        assert not service.heard()


async def test_the_fiftieth_failed_attempt_is_the_last(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_venue() as venue:

        async def run() -> None:
            async with serving(tmp_path, venue):
                venue.exchange.faults.refuse_connections = True
                venue.exchange.faults.cut()
                venue.rest_calls.clear()
                await trio.sleep(24 * 3600)

        error = await failure_of(run())
        assert isinstance(error, RetriesExhaustedError)
        assert "no session in 50 attempts" in str(error)
        assert venue.rest_calls.count("GET /api/v5/public/time") == 50


async def test_an_upgrade_of_the_exchange_goes_unnoticed_by_the_agent(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Ten actions a second through the whole change-over: each is one order, and none waits."""
    async with open_venue() as venue, serving(tmp_path, venue) as service:
        for number in range(1, 401):
            if number == 50:
                venue.exchange.faults.announce_upgrade(30)
            service.act(number, -0.2 if number % 2 else 0.2, 0.3)
            await trio.sleep(0.1)
            assert service.ready
            fill_all(service)
        await trio.sleep(5)
        assert len(venue.tried) == 2
        assert Kind.SESSION_DOWN not in service.kinds
        assert len({order.cl_ord_id for order in service.orders}) == len(service.orders) == 400
        waits = [
            order.c_time_ms - before.c_time_ms
            for before, order in zip(service.orders, service.orders[1:], strict=False)
        ]
        assert max(waits) <= 150
        assert service.position == service.exchange_position
        assert not [told for told in service.heard() if told.routing_key == "execution.reject"]


async def test_a_moving_market_under_repeated_cuts_ends_with_the_exchanges_position(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_venue(mode=MatchingMode.AUTO) as venue, serving(tmp_path, venue) as service:
        for number in range(1, 121):
            service.act(number, -0.1 if number % 3 else 0.1, 1.0)
            await trio.sleep(0.7)
            if number % 20 == 0:
                venue.exchange.faults.cut()
        await until(lambda: service.ready and service.position == service.exchange_position)
        assert len(venue.exchange.ground_truth.fills()) > 30


@pytest.mark.parametrize("days", [0.001, 1, 5, 40])
async def test_fills_of_a_gap_of_any_length_are_told_in_order_once(
    tmp_path: Path, autojump_clock: MockClock, days: float
) -> None:
    """The service was down for seconds or for weeks; the exchange's quick endpoints reach 3 days."""
    async with open_venue() as venue:
        fill = venue.exchange.fill
        async with serving(tmp_path, venue) as service:
            for state_id, price in ((1, -0.1), (2, 0.1), (3, -0.1)):
                service.act(state_id, price, 1.0)
                await until(lambda: len(service.orders) == state_id)  # noqa: B023 - awaited here
            first, second, third = (order.ord_id for order in service.orders)
            fill(first, Decimal("0.5"), Decimal(67_000))
            await until(lambda: service.position == Decimal("0.5"))
            await trio.sleep(1)
            before = service.heard()
        fill(second, Decimal("0.7"), Decimal(67_100))
        fill(first, Decimal("0.4"), Decimal(67_010))
        autojump_clock.jump(days * 86_400)
        await trio.sleep(90)
        fill(third, Decimal("0.3"), Decimal(66_990))
        await trio.sleep(1)
        async with serving(tmp_path, venue) as service:
            await until(lambda: service.ready)
            assert service.position == service.exchange_position == Decimal("0.5")
            await trio.sleep(1)
            told = [message.message_id for message in before + service.heard()]
    oracle = run_oracle(
        TrueFill(one.ord_id, one.side.sign, Fraction(order.sz), Fraction(one.sz), Fraction(one.px))
        for one in venue.exchange.ground_truth.fills()
        for order in venue.exchange.ground_truth.orders()
        if order.ord_id == one.ord_id
    )
    named = [
        (name.split(".")[0], "closure" if name.endswith(".c") else "execution") for name in told
    ]
    assert named == [(name, kind) for kind, name, _, _ in oracle.summaries]
    assert len(set(told)) == len(told)


async def test_an_action_that_grew_too_old_becomes_no_order(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Redelivered to a fresh process, it is looked up until nothing older can come alive.

    On an account on which nothing happens, no read shows how far it is behind.
    """
    async with open_venue() as venue, serving(tmp_path, venue) as service:
        service.act(7, -0.1, 1.0)
        service.broker.restart()
        await trio.sleep(180)
        assert not service.heard()
        await trio.sleep(30)
        (told,) = service.heard()
        assert told.routing_key == "execution.reject"
        assert b'"reason":"stale"' in told.body
        assert not service.orders
