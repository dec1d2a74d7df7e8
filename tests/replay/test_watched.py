"""A watched replay as a user starts it: a broker of its own kind, a browser, and Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pika
import pytest
from click.testing import CliRunner

from oms_trio.cli import main
from tests.ops.web.browser import browser
from tests.rabbitmq import RabbitNode
from tests.replay.sample import SAMPLE, SAMPLES
from tests.service.producer import EXECUTIONS, QUEUE, agent_on
from tests.service.programs import Program, broker_at, environment, run, running

GOLDEN = (SAMPLES / "eventful.messages.jsonl").read_text().splitlines()
OWN = f"{EXECUTIONS}.replay"
PAGE = re.compile(r"status page of the replay: (\S+)")


def page_of(program: Program) -> str:
    program.wait_for(PAGE.pattern)
    found = PAGE.search(program.text)
    assert found is not None
    return found[1]


def status(program: Program) -> dict[str, Any]:
    with urllib.request.urlopen(page_of(program) + "status") as answer:  # noqa: S310 - our own
        told: dict[str, Any] = json.load(answer)
        return told


def test_a_client_that_is_not_ours_hears_exactly_what_was_told_then(
    rabbitmq_node: RabbitNode, tmp_path: Path
) -> None:
    """On the replay's exchange and in its queue; who listens to the live one hears nothing."""
    env = environment(tmp_path, **broker_at(rabbitmq_node.port))
    with agent_on(rabbitmq_node, "live-agent") as live, agent_on(rabbitmq_node, "student") as agent:
        agent.channel.exchange_declare(OWN, "topic", durable=True)
        agent.channel.queue_unbind("student", EXECUTIONS, "execution.*")
        agent.channel.queue_bind("student", OWN, "execution.*")
        done = run("replay", str(SAMPLE), "--rabbitmq", "--speed", "max", env=env)
        assert (done.code, done.err) == (0, "")
        assert f"messages go to exchange {OWN} and the queue of that name" in done.out
        assert f"{len(GOLDEN)} messages are published and confirmed" in done.out
        heard = list(agent.hear())
        assert [told.body.decode() for told in heard] == GOLDEN
        assert len({told.properties.message_id for told in heard}) == len(GOLDEN)
        assert {told.properties.delivery_mode for told in heard} == {2}
        assert {told.key for told in heard} == {"execution.update", "execution.reject"}
        again = list(agent.hear(OWN))
        assert [(told.properties.message_id, told.body) for told in again] == [
            (told.properties.message_id, told.body) for told in heard
        ]
        assert list(live.hear()) == []
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
            live.connection.channel().queue_declare(QUEUE, passive=True)
        agent.connection.channel().queue_delete(OWN)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--rabbitmq", "--exchange", EXECUTIONS], "would teach it twice"),
        (["--rabbitmq", "--exchange", "oms_action_queue"], "must end in .replay"),
        (["--exchange", "mine.replay"], "--exchange needs --rabbitmq"),
        (["--http", "nowhere"], "must be host:port or [IPv6]:port, not nowhere"),
        (["--http", "off"], "must be host:port or [IPv6]:port, not off"),
        (["--http", "127.0.0.1:0", "--verify"], "cannot be combined with --http or --rabbitmq"),
        (["--rabbitmq", "--show", "state"], "cannot be combined with --http or --rabbitmq"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_a_line(arguments: list[str], line: str) -> None:
    result = CliRunner().invoke(main, ["replay", str(SAMPLE), *arguments])
    assert result.exit_code == 2
    assert line in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_a_broker_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = run("replay", str(SAMPLE), "--rabbitmq", env=environment(tmp_path, **broker_at(1)))
    assert done.code == 1
    assert done.text.count("\n") == 1
    assert "127.0.0.1:1" in done.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_with_what_was_seen_so_far(
    number: signal.Signals, tmp_path: Path
) -> None:
    env = environment(tmp_path)
    arguments = ("replay", str(SAMPLE), "--http", "127.0.0.1:0")
    with running(*arguments, env=env, output=tmp_path / "log") as program:
        page_of(program)
        time.sleep(0.5)
        first, began = status(program), time.monotonic()
        time.sleep(0.5)
        passed, went_on = time.monotonic() - began, status(program)["at_ns"] - first["at_ns"]
        # Nobody said how fast: as it was then.
        assert first["replay"]["speed"] == 1.0
        assert went_on / 1e9 == pytest.approx(passed, abs=0.4)
        ended = program.stop(number)
    assert ended.code == 0
    assert ended.seconds < 3
    assert "stopped at 2026-11-02T09:00:" in ended.text
    assert "Traceback" not in ended.text
    assert "\nstarts      1" in ended.text


def test_the_page_stays_behind_the_end_until_a_signal(tmp_path: Path) -> None:
    env = environment(tmp_path)
    arguments = ("replay", str(SAMPLE), "--http", "127.0.0.1:0", "--speed", "max")
    with running(*arguments, env=env, output=tmp_path / "log") as program:
        program.wait_for("the page stays up until Ctrl-C")
        assert "trades    " in program.text
        assert status(program)["replay"]["ended"]
        ended = program.stop(signal.SIGINT)
    assert ended.code == 0
    assert "stopped" not in ended.text


async def test_a_browser_shows_that_it_is_a_replay(tmp_path: Path) -> None:
    env = environment(tmp_path)
    arguments = ("replay", str(SAMPLE), "--http", "127.0.0.1:0", "--speed", "200")
    with running(*arguments, env=env, output=tmp_path / "log") as program:
        async with browser(tmp_path / "chromium") as tab:
            await tab.open(page_of(program))
            text = "document.getElementById('{}')?.textContent"
            await tab.until(f"{text.format('state')} === 'REPLAY \\u00d7 200'")
            why = await tab.value(text.format("why"))
            assert "2 Nov 2026" in why
            assert "Nothing is traded. At that time:" in why
            assert await tab.value("document.getElementById('steer').hidden")
            assert (await tab.value("document.title")).startswith("replay BTC-USDT-SWAP")
            assert "switch" not in await tab.value(text.format("controls"))
            await tab.until(f"{text.format('state')} === 'REPLAY, ended'")
            for width in (1280, 390):
                await tab.resize(width, 844)
                await tab.until(f"innerWidth === {width}")
                assert await tab.value("document.documentElement.scrollWidth - innerWidth") <= 0
            assert not tab.errors
