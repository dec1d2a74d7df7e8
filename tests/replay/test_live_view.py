"""A live replay: the messages that an agent gets, when it gets them, and what the page shows."""

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
from oms_trio.replay.live_view import LiveView, show_live
from oms_trio.replay.player import BeforeStep, play
from oms_trio.replay.recording_clock import RecordingClock
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.recordings.recording import PlayedStep, RecordedStep, RecordingError, Watcher
from oms_trio.replay.replay_command import ReplayOptions, replay
from oms_trio.replay.republish import replay_settings, republishing
from oms_trio.replay.times import parse_time
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


def drained(published: trio.MemoryReceiveChannel[Outgoing]) -> list[Outgoing]:
    """Take the messages that were published to a broker in memory so far."""
    found = []
    while published.statistics().current_buffer_used:
        found.append(published.receive_nowait())
    return found


async def test_an_agent_gets_the_recorded_messages_in_order() -> None:
    broker = MemoryBroker()
    published = broker.subscribe()
    output = io.StringIO()
    await replay(
        ReplayOptions(path=SAMPLE, broker=nullcontext(broker), destination="memory"),
        Console(file=output, width=100),
    )
    received = drained(published)
    assert [message.body.decode() for message in received] == GOLDEN
    assert len({message.message_id for message in received}) == len(received)
    lines = output.getvalue().splitlines()
    assert lines[0] == "messages go to memory"
    assert f"{len(GOLDEN)} messages were published and confirmed" in lines


@pytest.mark.parametrize("speed", [1.0, 20.0])
async def test_messages_are_published_at_the_recorded_times_or_as_much_faster_as_requested(
    speed: float, tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "journal.sqlite"
    write_journal(path)
    broker = MemoryBroker()
    expected: list[tuple[str, Any]] = []
    received: list[tuple[str, float]] = []
    first_ns = 0

    def note(played: PlayedStep) -> None:
        nonlocal first_ns
        first_ns = first_ns or played.step.at_ns
        due = (played.step.at_ns - first_ns) / SECOND / speed
        expected.extend(
            (name, pytest.approx(due, abs=0.01))
            for effect in played.effects
            if (name := getattr(effect, "message_id", None)) is not None
        )

    async def listen_to(published: trio.MemoryReceiveChannel[Outgoing], began: float) -> None:
        async for message in published:
            received.extend([(message.message_id, trio.current_time() - began)])

    with open_recording(path) as recording:
        view = LiveView(recording, clock := RecordingClock(speed), Monitor("", clock))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen_to, broker.subscribe(), trio.current_time())
            async with republishing(broker, at_once) as view.republisher:
                await play(recording, [note, view.republisher], before=view.before)
            nursery.cancel_scope.cancel()
    assert received == expected
    assert len(received) > 6


async def test_messages_of_an_outage_follow_in_order_when_the_broker_is_back() -> None:
    """The replay goes on meanwhile, as trading does, and ends only when all messages are confirmed."""
    broker = MemoryBroker()
    published = broker.subscribe()
    with open_recording(SAMPLE) as recording:
        view = LiveView(recording, clock := RecordingClock(), Monitor("", clock))
        async with trio.open_nursery() as nursery:

            async def perform() -> None:
                async with republishing(broker, trio.to_thread.run_sync) as republisher:
                    view.republisher = republisher

                    async def before(step: RecordedStep) -> None:
                        await view.before(step)
                        if step.seq == 200:
                            while republisher.waiting:  # noqa: ASYNC110 - it is polled
                                await trio.sleep(0.01)
                            broker.set_available(False)

                    await play(recording, [republisher], before=before)
                    view.ended = True

            nursery.start_soon(perform)
            with trio.fail_after(10):
                while not view.ended:  # noqa: ASYNC110 - it is polled
                    await trio.sleep(0.01)
            assert view.republisher is not None
            assert view.republisher.collected == len(GOLDEN)
            assert 0 < view.republisher.published < view.republisher.collected
            broker.set_available(True)
    assert view.republisher.waiting == 0
    assert [message.body.decode() for message in drained(published)] == GOLDEN


async def test_ctrl_c_discards_messages_when_the_broker_is_unavailable() -> None:
    broker = MemoryBroker()
    broker.set_available(False)
    announced: list[str] = []

    def announce(text: str) -> None:
        announced.append(text)
        if "is unavailable" in text:
            os.kill(os.getpid(), signal.SIGINT)

    with open_recording(SAMPLE) as recording, trio.fail_after(10):
        view = LiveView(recording, clock := RecordingClock(), Monitor("", clock))

        async def perform(watchers: Sequence[Watcher], before: BeforeStep) -> None:
            await play(recording, watchers, before=before)

        await show_live(
            view,
            perform,
            http=None,
            broker=nullcontext(broker),
            destination="memory",
            announce=announce,
        )
    assert announced == [
        "messages go to memory",
        (
            "the broker is unavailable: the remaining messages are published when it is back; "
            "Ctrl-C discards them"
        ),
        f"{len(GOLDEN)} messages were not published",
    ]


@attrs.define
class PausedReplay:
    """A replay of the sample with a page, which pauses after a chosen step."""

    announced: list[str] = attrs.Factory(list)
    reached: trio.Event = attrs.Factory(trio.Event)
    go_on: trio.Event = attrs.Factory(trio.Event)
    last: list[PlayedStep] = attrs.Factory(list)

    @property
    def url(self) -> str:
        """The address of the page."""
        return next(text for text in self.announced if "status page" in text).split()[-1]

    async def run(
        self, view: LiveView, wait_at: Callable[[PlayedStep], bool], broker: MemoryBroker | None
    ) -> None:
        """Play until cancelled."""

        def note(played: PlayedStep) -> None:
            self.last[:] = [played]
            if wait_at(played):
                self.reached.set()

        async def perform(watchers: Sequence[Watcher], before: BeforeStep) -> None:
            async def stopping(step: RecordedStep) -> None:
                if self.reached.is_set():
                    await self.go_on.wait()
                await before(step)

            await play(view.recording, [note, *watchers], before=stopping)

        await show_live(
            view,
            perform,
            http=ANYWHERE,
            broker=None if broker is None else nullcontext(broker),
            destination="memory",
            announce=self.announced.append,
        )


async def looked_at(
    wait_at: Callable[[PlayedStep], bool],
    look: Callable[[PausedReplay, httpx.AsyncClient], Awaitable[None]],
    broker: MemoryBroker | None = None,
) -> None:
    """Look at the page of a paused replay."""
    paused = PausedReplay()
    with open_recording(SAMPLE) as recording:
        view = LiveView(recording, clock := RecordingClock(), Monitor(recording.inst_id, clock))
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(paused.run, view, wait_at, broker)
                await paused.reached.wait()
                async with httpx.AsyncClient(base_url=paused.url) as client:
                    await look(paused, client)
                nursery.cancel_scope.cancel()


def trade_with_orders(played: PlayedStep) -> bool:
    """During the second run of the service, when the page has something to show everywhere."""
    state = played.state
    second = played.step.seq > 700
    pushed = played.step.journaled_input.kind is Kind.PUSH
    return second and pushed and state.book.trade is not None and len(state.orders) > 3


async def test_page_shows_the_recorded_state_at_the_recorded_time() -> None:
    async def look(paused: PausedReplay, client: httpx.AsyncClient) -> None:
        (played,) = paused.last
        state, at_ns = played.state, played.step.at_ns
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
        assert status["store"] == {"seq": played.step.seq, "outbox": 0}
        assert 0.4 < status["replay"].pop("progress") < 0.8
        assert status["replay"] == {
            "title": "journal eventful.sqlite.gz",
            "speed": None,
            "ended": False,
        }

    await looked_at(trade_with_orders, look)


async def test_a_replay_is_never_ready_and_accepts_no_commands() -> None:
    async def look(_paused: PausedReplay, client: httpx.AsyncClient) -> None:
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
        rejected = await client.post("/control/kill", headers={"Authorization": "Bearer None"})
        assert rejected.status_code == 403
        assert rejected.json() == {"error": "this is a replay: it accepts no commands"}
        assert (await client.get("/status")).json()["can_control"] is False
        foreign = await client.get("/status", headers={"Host": "evil.example"})
        assert foreign.status_code == 421

    await looked_at(trade_with_orders, look)


async def test_page_shows_why_the_service_took_no_actions_at_that_time() -> None:
    async def look(_paused: PausedReplay, client: httpx.AsyncClient) -> None:
        status = (await client.get("/status")).json()
        assert set(status["reasons"]) == {"replay", "state"}
        assert status["connections"]["okx"] is False

    def lost(played: PlayedStep) -> bool:
        return played.step.journaled_input.kind is Kind.SESSION_DOWN

    await looked_at(lost, look)


async def test_page_shows_the_broker_and_its_unpublished_messages() -> None:
    broker = MemoryBroker()
    broker.set_available(False)

    async def look(_paused: PausedReplay, client: httpx.AsyncClient) -> None:
        status = (await client.get("/status")).json()
        assert status["connections"]["broker"] is False
        assert status["store"]["outbox"] > 50

    await looked_at(trade_with_orders, look, broker)


async def test_page_stays_after_the_end() -> None:
    async def look(paused: PausedReplay, client: httpx.AsyncClient) -> None:
        paused.go_on.set()
        while not any("stays up" in text for text in paused.announced):  # noqa: ASYNC110 - it is polled
            await trio.sleep(0.01)
        status = (await client.get("/status")).json()
        assert (status["replay"]["ended"], status["replay"]["progress"]) == (True, 1.0)
        assert status["at_ns"] == paused.last[0].step.at_ns

    await looked_at(lambda _moment: True, look)


async def test_frames_of_other_programs_can_be_shown_live(tmp_path: Path) -> None:
    """Without actions and answers the page shows less, and nothing of the present."""
    file = tmp_path / "frames.jsonl"
    push = fill_push("77", "x77", "buy", "2", "67000", 1001, tag="")
    frames = [{"session": "up"}, {"msg": push}, {"msg": position_push("2", "-0.1", 1001)}]
    first = START_NS // 10**9
    file.write_text(
        "".join(json.dumps({"ts": first + n} | one) + "\n" for n, one in enumerate(frames))
    )
    with open_recording(file) as recording:
        view = LiveView(recording, clock := RecordingClock(), Monitor(recording.inst_id, clock))
        await play(recording, [view], before=view.before)
    status = view.status()
    assert status is not None
    assert (status.instrument, status.at_ns) == ("BTC-USDT-SWAP", (first + 2) * 10**9)
    assert (status.position.ours, status.counts["executions"]) == (Decimal(2), 1)
    assert (status.ready, status.connections.push_age_s, status.uptime_s) == (False, 0.0, 2.0)


async def test_what_is_before_from_is_neither_shown_nor_published() -> None:
    """The state is there; the messages that led to it are not published again."""
    broker = MemoryBroker()
    published = broker.subscribe()
    from_ns = parse_time("2026-11-02T09:05:00Z")
    options = ReplayOptions(path=SAMPLE, from_ns=from_ns, broker=nullcontext(broker))
    await replay(options, Console(file=io.StringIO()))
    received = [message.body.decode() for message in drained(published)]
    assert 10 < len(received) < len(GOLDEN)
    assert received == GOLDEN[-len(received) :]


async def test_a_port_in_use_is_one_line() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        options = ReplayOptions(path=SAMPLE, http=HttpAddress("127.0.0.1", port))
        with pytest.raises(RecordingError, match=f"--http=127.0.0.1:{port} cannot be used"):
            await replay(options, Console(file=io.StringIO()))


LIVE = BrokerSettings(password="a-secret")


def test_a_replay_has_an_exchange_and_a_queue_of_its_own() -> None:
    """Nothing that a live service or its agents use is declared, bound or published to."""
    settings = replay_settings(LIVE, None)
    assert settings.execution_exchange == settings.action_exchange == "execution-exchange.replay"
    assert settings.action_queue == "execution-exchange.replay"
    assert settings.action_routing_key == "execution.*"
    assert (settings.host, settings.password) == (LIVE.host, LIVE.password)
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
def test_no_other_name_is_accepted(name: str) -> None:
    with pytest.raises(ValueError, match=r"messages twice|printable ASCII"):
        replay_settings(LIVE, name)


def test_a_live_exchange_that_is_named_like_a_replay_is_rejected_as_well() -> None:
    live = attrs.evolve(LIVE, execution_exchange="odd.replay")
    with pytest.raises(ValueError, match="messages twice"):
        replay_settings(live, "odd.replay")
    assert replay_settings(live, None).execution_exchange == "odd.replay.replay"
