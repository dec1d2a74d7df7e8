"""The exchange's cancel-all-after: armed while the state is reconciled, left to trigger when it is not."""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from oms_trio.okx.errors import RestUnavailableError
from oms_trio.service.intake_gate import Gate
from oms_trio.tasks.deadman import DeadMan, keep_armed
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from tests.service.station import Station, serving


@attrs.define
class ShiftedClock:
    """The exchange's clock: a test can let minutes pass."""

    ahead_ns: int = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns


def by_hand(exchange: SimulatedExchange) -> None:
    """Place an order without our tag."""
    args = {"tdMode": "cross", "side": "buy", "ordType": "limit", "sz": "1", "px": "66000"}
    exchange.place(args, lambda _args, _instrument: None)


async def armed(station: Station) -> None:
    await station.until(lambda status: status["controls"]["dead_man_s"] is not None)


async def test_after_a_crash_the_exchange_cancels_our_orders_only(tmp_path: Path) -> None:
    clock = ShiftedClock()
    exchange = SimulatedExchange(mode=MatchingMode.MANUAL, clock=clock)
    with trio.CancelScope() as crash:
        async with serving(tmp_path, exchange, OMS_DEAD_MAN="10") as station:
            by_hand(exchange)
            station.act(1)
            await station.orders(2)
            await armed(station)
            crash.cancel()
            await trio.sleep_forever()
    assert len(exchange.engine.book.pending) == 2
    clock.ahead_ns += 11_000_000_000
    exchange.tick()
    assert [order.tag for order in exchange.engine.book.pending] == [""]


async def test_a_clean_stop_disarms_and_leaves_orders_open(tmp_path: Path) -> None:
    clock = ShiftedClock()
    exchange = SimulatedExchange(mode=MatchingMode.MANUAL, clock=clock)
    async with serving(tmp_path, exchange, OMS_DEAD_MAN="10") as station:
        station.act(1)
        await station.orders(1)
        await armed(station)
    clock.ahead_ns += 60_000_000_000
    exchange.tick()
    assert len(exchange.engine.book.pending) == 1


@attrs.define
class ScriptedRest:
    """Records the requests to the exchange, and may fail."""

    requests: list[tuple[float, int, str]] = attrs.Factory(list)
    failures: int = 0

    async def cancel_all_after(self, timeout_s: int, tag: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise RestUnavailableError("down")
        self.requests.append((trio.current_time(), timeout_s, tag))


@pytest.fixture
def gate() -> Gate:
    return Gate(lambda _wanted: None)


async def tended(rest: ScriptedRest, gate: Gate, nursery: trio.Nursery) -> trio.Event:
    """Keep a countdown of 30 s."""
    stop = trio.Event()
    run = partial(keep_armed, rest=rest, gate=gate, timeout_s=30, tag="t", stop=stop)  # type: ignore[arg-type] # a script
    nursery.start_soon(run, DeadMan())
    await trio.testing.wait_all_tasks_blocked()
    return stop


async def test_it_is_refreshed_three_times_in_its_period(
    gate: Gate, autojump_clock: trio.testing.MockClock
) -> None:
    rest = ScriptedRest()
    async with trio.open_nursery() as nursery:
        stop = await tended(rest, gate, nursery)
        await trio.sleep(5)
        assert not rest.requests, "nothing is armed before the state is reconciled"
        gate.open("state")
        await trio.sleep(35)
        gate.close("state", "no session")
        await trio.sleep(60)
        stop.set()
    times = [round(at) for at, timeout_s, _ in rest.requests if timeout_s == 30]
    assert len(times) == 4
    assert {later - earlier for earlier, later in pairwise(times)} <= {10, 11}
    assert rest.requests[-1][1:] == (0, "t")
    assert autojump_clock.current_time() >= 100


async def test_disarming_is_repeated_since_a_refresh_may_have_been_a_moment_ago(
    gate: Gate, autojump_clock: trio.testing.MockClock
) -> None:
    rest = ScriptedRest()
    gate.open("state")
    async with trio.open_nursery() as nursery:
        stop = await tended(rest, gate, nursery)
        rest.failures = 2
        stop.set()
        nursery.cancel_scope.cancel()
    assert rest.requests[-1][1:] == (0, "t")
    assert autojump_clock.current_time() < 3


async def test_an_exchange_that_does_not_answer_does_not_delay_the_stop(
    gate: Gate, autojump_clock: trio.testing.MockClock
) -> None:
    rest = ScriptedRest(failures=1000)
    gate.open("state")
    async with trio.open_nursery() as nursery:
        stop = await tended(rest, gate, nursery)
        stop.set()
    assert autojump_clock.current_time() == pytest.approx(3)


async def test_a_refresh_that_failed_is_tried_again_soon(
    gate: Gate, autojump_clock: trio.testing.MockClock
) -> None:
    rest = ScriptedRest(failures=3)
    gate.open("state")
    async with trio.open_nursery() as nursery:
        stop = await tended(rest, gate, nursery)
        await trio.sleep(5)
        stop.set()
    assert rest.requests[0][0] == pytest.approx(autojump_clock.current_time() - 2, abs=1.1)
