"""A replay that others watch: what an agent is told, when, and what the page shows."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Outgoing
from oms_trio.amqp.settings import BrokerSettings
from oms_trio.ops.monitor import Monitor
from oms_trio.ops.web.server import listen
from oms_trio.replay.pace import Pace
from oms_trio.replay.player import Before, play
from oms_trio.replay.program import Wanted, replay
from oms_trio.replay.recordings.files import open_recording
from oms_trio.replay.recordings.model import Moment, RecordingError, Step, Watcher
from oms_trio.replay.relay import relaying, replay_settings
from oms_trio.replay.times import unix_ns
from oms_trio.replay.watched import Doors, Stage, watch
from oms_trio.service.journaled_inputs import Kind
from oms_trio.settings.config import HttpAddress
from tests.core.desk import SECOND, START_NS
from tests.replay.journals import fill_push, position_push, write_journal
from tests.replay.sample import SAMPLE, SAMPLES

GOLDEN = (SAMPLES / "eventful.messages.jsonl").read_text().splitlines()
ANYWHERE = HttpAddress("127.0.0.1", 0)


async def at_once(function: Callable[[], Any]) -> Any:
    """Call in place of a thread: a jumping clock must not jump while one works."""
    await trio.lowlevel.checkpoint()
    return function()


def drained(told: trio.MemoryReceiveChannel[Outgoing]) -> list[Outgoing]:
    """Take what a broker in memory was told so far."""
    found = []
    while told.statistics().current_buffer_used:
        found.append(told.receive_nowait())
    return found


async def test_an_agent_hears_what_it_heard_then_in_order() -> None:
    broker = MemoryBroker()
    told = broker.subscribe()
    said = io.StringIO()
    doors = Doors(broker=nullcontext(broker), where="memory")
    await replay(Wanted(path=SAMPLE, doors=doors), Console(file=said, width=100))
    heard = drained(told)
    assert [message.body.decode() for message in heard] == GOLDEN
    assert len({message.message_id for message in heard}) == len(heard)
    lines = said.getvalue().splitlines()
    assert lines[0] == "messages go to memory"
    assert f"{len(GOLDEN)} messages are published and confirmed" in lines


@pytest.mark.parametrize("speed", [1.0, 20.0])
async def test_messages_come_when_they_came_or_so_many_times_faster(
    speed: float, tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "journal.sqlite"
    write_journal(path)
    broker = MemoryBroker()
    expected: list[tuple[str, Any]] = []
    heard: list[tuple[str, float]] = []
    first_ns = 0

    def note(moment: Moment) -> None:
        nonlocal first_ns
        first_ns = first_ns or moment.step.at_ns
        due = (moment.step.at_ns - first_ns) / SECOND / speed
        expected.extend(
            (name, pytest.approx(due, abs=0.01))
            for effect in moment.effects
            if (name := getattr(effect, "message_id", None)) is not None
        )

    async def listen_to(told: trio.MemoryReceiveChannel[Outgoing], began: float) -> None:
        async for message in told:
            heard.extend([(message.message_id, trio.current_time() - began)])

    with open_recording(path) as recording:
        stage = Stage(recording, pace := Pace(speed), Monitor("", pace))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen_to, broker.subscribe(), trio.current_time())
            async with relaying(broker, at_once) as stage.relay:
                await play(recording, [note, stage.relay], before=stage.before)
            nursery.cancel_scope.cancel()
    assert heard == expected
    assert len(heard) > 6


async def test_what_a_broker_misses_it_gets_when_it_is_back_in_order() -> None:
    """A replay goes on meanwhile as trading does, and does not end before all is confirmed."""
    broker = MemoryBroker()
    told = broker.subscribe()
    with open_recording(SAMPLE) as recording:
        stage = Stage(recording, pace := Pace(), Monitor("", pace))
        async with trio.open_nursery() as nursery:

            async def perform() -> None:
                async with relaying(broker, trio.to_thread.run_sync) as relay:
                    stage.relay = relay

                    async def before(step: Step) -> None:
                        await stage.before(step)
                        if step.seq == 200:
                            while relay.waiting:  # noqa: ASYNC110 - it is polled
                                await trio.sleep(0.01)
                            broker.set_available(False)

                    await play(recording, [relay], before=before)
                    stage.ended = True

            nursery.start_soon(perform)
            with trio.fail_after(10):
                while not stage.ended:  # noqa: ASYNC110 - it is polled
                    await trio.sleep(0.01)
            assert stage.relay is not None
            assert stage.relay.told == len(GOLDEN)
            assert 0 < stage.relay.published < stage.relay.told
            broker.set_available(True)
    assert stage.relay.waiting == 0
    assert [message.body.decode() for message in drained(told)] == GOLDEN


async def test_ctrl_c_gives_up_what_a_broker_that_is_away_has_not_taken() -> None:
    broker = MemoryBroker()
    broker.set_available(False)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "is away" in text:
            os.kill(os.getpid(), signal.SIGINT)

    with open_recording(SAMPLE) as recording, trio.fail_after(10):
        stage = Stage(recording, pace := Pace(), Monitor("", pace))

        async def perform(watchers: Sequence[Watcher], before: Before) -> None:
            await play(recording, watchers, before=before)

        await watch(stage, perform, Doors(broker=nullcontext(broker), where="memory"), say)
    assert said == [
        "messages go to memory",
        "the broker is away: what is left goes out when it is back, Ctrl-C gives it up",
        f"{len(GOLDEN)} messages were not published",
    ]


@attrs.define
class Audience:
    """A replay of the sample that waits behind the first step of its choice, with its page."""

    said: list[str] = attrs.Factory(list)
    reached: trio.Event = attrs.Factory(trio.Event)
    go_on: trio.Event = attrs.Factory(trio.Event)
    last: list[Moment] = attrs.Factory(list)

    @property
    def url(self) -> str:
        """Where the page is."""
        return next(text for text in self.said if "status page" in text).split()[-1]

    async def run(self, stage: Stage, wait_at: Callable[[Moment], bool], doors: Doors) -> None:
        """Play until cancelled."""

        def note(moment: Moment) -> None:
            self.last[:] = [moment]
            if wait_at(moment):
                self.reached.set()

        async def perform(watchers: Sequence[Watcher], before: Before) -> None:
            async def stopping(step: Step) -> None:
                if self.reached.is_set():
                    await self.go_on.wait()
                await before(step)

            await play(stage.recording, [note, *watchers], before=stopping)

        await watch(stage, perform, doors, self.said.append)


async def looked_at(
    wait_at: Callable[[Moment], bool],
    look: Callable[[Audience, httpx.AsyncClient], Awaitable[None]],
    doors: Doors,
) -> None:
    """Look at the page of a replay that waits."""
    audience = Audience()
    with open_recording(SAMPLE) as recording:
        stage = Stage(recording, pace := Pace(), Monitor(recording.inst_id, pace))
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(audience.run, stage, wait_at, doors)
                await audience.reached.wait()
                async with httpx.AsyncClient(base_url=audience.url) as client:
                    await look(audience, client)
                nursery.cancel_scope.cancel()


def trade_with_orders(moment: Moment) -> bool:
    """In the second life, with something of everything on the page."""
    state = moment.state
    second = moment.step.seq > 700
    pushed = moment.step.arrival.kind is Kind.PUSH
    return second and pushed and state.book.trade is not None and len(state.orders) > 3


async def test_page_shows_the_state_of_then_at_the_time_of_then() -> None:
    async def look(audience: Audience, client: httpx.AsyncClient) -> None:
        (moment,) = audience.last
        state, at_ns = moment.state, moment.step.at_ns
        assert state.book.trade is not None
        status = (await client.get("/status")).json()
        assert status["at_ns"] == at_ns
        assert status["position"]["ours"] == str(state.book.position)
        assert status["trade"]["okx_id"] == state.book.trade.okx_id
        assert status["orders"]["open"] == len(state.orders)
        ages = {shown["cl_ord_id"]: shown["age_s"] for shown in status["orders"]["shown"]}
        assert ages == {
            order.cl_ord_id: round((at_ns - order.created_ns) / 1e9, 1) for order in state.orders
        }
        assert status["connections"] | {"sessions": 0, "reconciled_age_s": 0} == {
            "okx": True,
            "broker": None,
            "sessions": 0,
            "push_age_s": 0.0,
            "reconciled_age_s": 0,
            "unroutable": 0,
        }
        assert 0 < status["connections"]["reconciled_age_s"] < 600
        assert 60 < status["uptime_s"] < 600
        assert status["counts"]["closures"] > 1
        assert status["latest"][0]["at_ns"] <= at_ns
        assert status["latencies"]["order_to_ack"]["count"] > 50
        assert status["latencies"]["order_to_ack"]["p50_ms"] < 100
        assert status["store"] == {"seq": moment.step.seq, "outbox": 0}
        assert 0.4 < status["replay"].pop("progress") < 0.8
        assert status["replay"] == {
            "title": "journal eventful.sqlite.gz",
            "speed": None,
            "ended": False,
        }

    await looked_at(trade_with_orders, look, Doors(http=ANYWHERE))


async def test_a_replay_is_never_ready_and_cannot_be_steered() -> None:
    async def look(_audience: Audience, client: httpx.AsyncClient) -> None:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.text.startswith("not taking actions (replay: ")) == (
            503,
            True,
        )
        assert (await client.get("/healthz")).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert "\noms_ready 0.0\n" in metrics
        assert "\noms_replay 1.0\n" in metrics
        assert "\noms_broker_up NaN\n" in metrics
        refused = await client.post("/control/kill", headers={"Authorization": "Bearer None"})
        assert refused.status_code == 403
        assert refused.json() == {"error": "this is a replay: there is nothing to steer"}
        assert (await client.get("/status")).json()["can_control"] is False
        foreign = await client.get("/status", headers={"Host": "evil.example"})
        assert foreign.status_code == 421

    await looked_at(trade_with_orders, look, Doors(http=ANYWHERE))


async def test_page_says_why_the_service_then_took_no_actions() -> None:
    async def look(_audience: Audience, client: httpx.AsyncClient) -> None:
        status = (await client.get("/status")).json()
        assert set(status["reasons"]) == {"replay", "state"}
        assert status["connections"]["okx"] is False

    def lost(moment: Moment) -> bool:
        return moment.step.arrival.kind is Kind.SESSION_DOWN

    await looked_at(lost, look, Doors(http=ANYWHERE))


async def test_page_tells_of_the_broker_and_what_it_has_not_taken() -> None:
    broker = MemoryBroker()
    broker.set_available(False)

    async def look(_audience: Audience, client: httpx.AsyncClient) -> None:
        status = (await client.get("/status")).json()
        assert status["connections"]["broker"] is False
        assert status["store"]["outbox"] > 50

    doors = Doors(http=ANYWHERE, broker=nullcontext(broker))
    await looked_at(trade_with_orders, look, doors)


async def test_page_stays_behind_the_end() -> None:
    async def look(audience: Audience, client: httpx.AsyncClient) -> None:
        audience.go_on.set()
        while not any("stays up" in text for text in audience.said):  # noqa: ASYNC110 - it is polled
            await trio.sleep(0.01)
        status = (await client.get("/status")).json()
        assert (status["replay"]["ended"], status["replay"]["progress"]) == (True, 1.0)
        assert status["at_ns"] == audience.last[0].step.at_ns

    await looked_at(lambda _moment: True, look, Doors(http=ANYWHERE))


async def test_frames_of_others_can_be_watched_as_well(tmp_path: Path) -> None:
    """Without actions and answers there is less on the page, and nothing of today."""
    file = tmp_path / "frames.jsonl"
    push = fill_push("77", "x77", "buy", "2", "67000", 1001, tag="")
    told = [{"link": "up"}, {"msg": push}, {"msg": position_push("2", "-0.1", 1001)}]
    first = START_NS // 10**9
    file.write_text(
        "".join(json.dumps({"ts": first + n} | one) + "\n" for n, one in enumerate(told))
    )
    with open_recording(file) as recording:
        stage = Stage(recording, pace := Pace(), Monitor(recording.inst_id, pace))
        await play(recording, [stage], before=stage.before)
    status = stage.status()
    assert status is not None
    assert (status.instrument, status.at_ns) == ("BTC-USDT-SWAP", (first + 2) * 10**9)
    assert (status.position.ours, status.counts["executions"]) == (Decimal(2), 1)
    assert (status.ready, status.connections.push_age_s, status.uptime_s) == (False, 0.0, 2.0)


async def test_what_comes_before_the_first_time_is_not_shown_nor_told() -> None:
    """The state of before is there; nobody is told again how it came to be."""
    broker = MemoryBroker()
    told = broker.subscribe()
    doors = Doors(broker=nullcontext(broker))
    from_ns = unix_ns("2026-11-02T09:05:00Z")
    wanted = Wanted(path=SAMPLE, from_ns=from_ns, doors=doors)
    await replay(wanted, Console(file=io.StringIO()))
    heard = [message.body.decode() for message in drained(told)]
    assert 10 < len(heard) < len(GOLDEN)
    assert heard == GOLDEN[-len(heard) :]


async def test_a_port_that_is_taken_is_one_line() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        wanted = Wanted(path=SAMPLE, doors=Doors(http=HttpAddress("127.0.0.1", port)))
        with pytest.raises(RecordingError, match=f"--http=127.0.0.1:{port} cannot be used"):
            await replay(wanted, Console(file=io.StringIO()))


LIVE = BrokerSettings(password="a-secret")


def test_a_replay_has_an_exchange_and_a_queue_of_its_own() -> None:
    """Nothing that a live service or its agents listen to is declared, bound or published to."""
    own = replay_settings(LIVE, None)
    assert own.execution_exchange == own.action_exchange == "execution-exchange.replay"
    assert own.action_queue == "execution-exchange.replay"
    assert own.action_routing_key == "execution.*"
    assert (own.host, own.password) == (LIVE.host, LIVE.password)
    assert replay_settings(LIVE, "mine.replay").execution_exchange == "mine.replay"


@pytest.mark.parametrize(
    "name",
    [
        "execution-exchange",
        "oms",
        "oms_action_queue",
        "oms_action_queue.dead",
        "oms.dead-letter",
        "agents",
        "",
        "a b.replay",
        "x" * 250 + ".replay",
    ],
)
def test_no_other_name_is_taken(name: str) -> None:
    with pytest.raises(ValueError, match=r"teach it twice|printable ASCII"):
        replay_settings(LIVE, name)


def test_a_live_exchange_that_is_called_like_a_replay_is_refused_as_well() -> None:
    live = attrs.evolve(LIVE, execution_exchange="odd.replay")
    with pytest.raises(ValueError, match="teach it twice"):
        replay_settings(live, "odd.replay")
    assert replay_settings(live, None).execution_exchange == "odd.replay.replay"
