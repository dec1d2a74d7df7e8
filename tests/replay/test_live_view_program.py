"""A live replay as a user starts it: with a real broker, a browser, and Ctrl-C."""

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
        found: dict[str, Any] = json.load(answer)
        return found


def test_a_foreign_client_gets_exactly_the_recorded_messages(
    rabbitmq_node: RabbitNode, tmp_path: Path
) -> None:
    """On the replay's exchange and in its queue; a client of the live exchange gets nothing."""
    env = environment(tmp_path, **broker_at(rabbitmq_node.port))
    with agent_on(rabbitmq_node, "live-agent") as live, agent_on(rabbitmq_node, "student") as agent:
        agent.channel.exchange_declare(OWN, "topic", durable=True)
        agent.channel.queue_unbind("student", EXECUTIONS, "execution.*")
        agent.channel.queue_bind("student", OWN, "execution.*")
        done = run("replay", str(SAMPLE), "--rabbitmq", "--speed", "max", env=env)
        assert (done.code, done.err) == (0, "")
        assert f"messages go to exchange {OWN} and queue {OWN}" in done.out
        assert f"{len(GOLDEN)} messages were published and confirmed" in done.out
        received = list(agent.hear())
        assert [message.body.decode() for message in received] == GOLDEN
        assert len({message.properties.message_id for message in received}) == len(GOLDEN)
        assert {message.properties.delivery_mode for message in received} == {2}
        assert {message.key for message in received} == {"execution.update", "execution.reject"}
        again = list(agent.hear(OWN))
        assert [(message.properties.message_id, message.body) for message in again] == [
            (message.properties.message_id, message.body) for message in received
        ]
        assert list(live.hear()) == []
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
            live.connection.channel().queue_declare(QUEUE, passive=True)
        agent.connection.channel().queue_delete(OWN)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--rabbitmq", "--exchange", EXECUTIONS], "messages twice"),
        (["--rabbitmq", "--exchange", "oms_action_queue"], "must end in .replay"),
        (["--exchange", "mine.replay"], "--exchange needs --rabbitmq"),
        (["--http", "nowhere"], "nowhere is not host:port"),
        (["--http", "off"], "off is not host:port"),
        (["--http", "127.0.0.1:0", "--verify"], "cannot be combined"),
        (["--rabbitmq", "--show", "state"], "cannot be combined"),
    ],
)
def test_options_that_do_not_fit_are_rejected_in_one_line(arguments: list[str], line: str) -> None:
    result = CliRunner().invoke(main, ["replay", str(SAMPLE), *arguments])
    assert result.exit_code == 2
    assert line in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_an_unreachable_broker_is_one_line(tmp_path: Path) -> None:
    done = run("replay", str(SAMPLE), "--rabbitmq", env=environment(tmp_path, **broker_at(1)))
    assert done.code == 1
    assert done.text.count("\n") == 1
    assert "127.0.0.1:1" in done.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_with_the_summary_so_far(
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
        # Real time is the default.
        assert first["replay"]["speed"] == 1.0
        assert went_on / 1e9 == pytest.approx(passed, abs=0.4)
        ended = program.stop(number)
    assert ended.code == 0
    assert ended.seconds < 3
    assert "stopped at 2026-11-02T09:00:" in ended.text
    assert "Traceback" not in ended.text
    assert "\nstarts      1" in ended.text


def test_the_page_stays_after_the_end_until_a_signal(tmp_path: Path) -> None:
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
