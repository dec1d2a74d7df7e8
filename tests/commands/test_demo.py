"""The demo as a new user starts it: no broker, no key, no configuration."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest

from oms_trio.commands.demo import program as demo_run
from oms_trio.commands.demo.agent import DemoAgent
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from tests.rabbitmq import RabbitNode
from tests.service.programs import broker_at, command, environment, run, running


def test_the_demo_needs_no_configuration_and_ends_with_a_summary(tmp_path: Path) -> None:
    ended = run("demo", "--seconds", "1.5", "--seed", "7", env=environment(tmp_path))
    assert ended.code == 0, ended.text
    assert ended.err == ""
    assert "they agree" in ended.out
    assert "oms-trio demo --seed 7" in " ".join(ended.out.split())
    assert "\x1b" not in ended.out, "no escape codes into a file"
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_settings_of_a_real_service_do_not_reach_the_demo(tmp_path: Path) -> None:
    env = environment(tmp_path, OKX_API_KEY="real", OMS_STATE_DIR=str(tmp_path / "real"))
    ended = run("demo", "--seconds", "1", env=env)
    assert ended.code == 0, ended.text
    assert not (tmp_path / "real").exists()


def test_ctrl_c_in_the_middle_ends_with_a_summary(tmp_path: Path) -> None:
    env = environment(tmp_path)
    with running("demo", "--seconds", "600", env=env, output=tmp_path / "log") as demo:
        demo.wait_for(r"price \d+")
        ended = demo.stop(signal.SIGINT)
    assert ended.code == 0, ended.text
    assert ended.seconds < 5
    assert "they agree" in ended.text or "filled at the stop" in ended.text
    assert "THEY DIFFER" not in ended.text
    assert "Traceback" not in ended.text


def in_terminal(arguments: list[str], env: Mapping[str, str], shown: bytes) -> tuple[int, str]:
    """Run a command on a terminal, with Ctrl-C when it shows this; returns code and output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603 - our own program
        arguments, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    output = b""
    deadline = time.monotonic() + 30
    os.set_blocking(ours, False)
    interrupted = False
    while process.poll() is None or not interrupted:
        try:
            output += os.read(ours, 65_536)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # the other end is closed
            break
        if not interrupted and shown in output:
            process.send_signal(signal.SIGINT)
            interrupted = True
        assert time.monotonic() < deadline, output[-2000:]
    code = process.wait(10)
    with suppress(OSError):
        while more := os.read(ours, 65_536):
            output += more
    os.close(ours)
    return code, output.decode(errors="replace")


def test_a_terminal_shows_a_live_table_and_is_left_as_it_was(tmp_path: Path) -> None:
    env = environment(tmp_path, TERM="xterm-256color", COLUMNS="100", LINES="40")
    code, output = in_terminal(command("demo", "--seconds", "60"), env, b"executions,")
    assert code == 0, output[-2000:]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    for shown in ("Ctrl-C ends it", "balance", "state id", "executions", "they agree"):
        assert shown in plain
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h"), "the cursor is shown again"


@pytest.mark.rabbitmq
def test_the_demo_runs_over_a_real_broker_and_leaves_its_queues_empty(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    env = environment(tmp_path, **broker_at(rabbitmq_node.port))
    ended = run("demo", "--seconds", "2", "--seed", "3", "--rabbitmq", env=env)
    assert ended.code == 0, ended.text
    assert "they agree" in ended.out
    found = re.search(r"(\d+) actions: (\d+) orders", ended.out)
    assert found is not None
    assert int(found[1]) > 0
    connection = rabbitmq_node.connect()
    declared = connection.channel().queue_declare("oms_action_queue", passive=True)
    assert declared.method.message_count == 0
    connection.close()


def test_without_its_rabbitmq_the_error_is_one_line(tmp_path: Path) -> None:
    ended = run("demo", "--seconds", "1", "--rabbitmq", env=environment(tmp_path, **broker_at(1)))
    assert ended.code == 1
    assert "no RabbitMQ at 127.0.0.1:1" in ended.err
    assert "Traceback" not in ended.text


@pytest.mark.parametrize("option", ["--seconds=0", "--seconds=x", "--seed=x"])
def test_options_out_of_range_are_rejected(tmp_path: Path, option: str) -> None:
    ended = run("demo", option, env=environment(tmp_path))
    assert ended.code == 2
    assert "Traceback" not in ended.text


async def demo_with_seed(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> tuple[list[bytes], list[object]]:
    """Run a demo; return the agent's actions, and side, price and size of every order."""
    exchanges: list[SimulatedExchange] = []
    actions: list[bytes] = []

    def build(seed: int) -> SimulatedExchange:
        exchanges.append(SimulatedExchange(seed=seed))
        return exchanges[-1]

    class RecordingAgent(DemoAgent):
        """An agent that keeps its actions."""

        def act(self, mid: Decimal, position: Decimal) -> bytes | None:
            body = DemoAgent.act(self, mid, position)
            if body is not None:
                actions.append(body)
            return body

    monkeypatch.setattr(demo_run, "SimulatedExchange", build)
    monkeypatch.setattr(demo_run, "DemoAgent", RecordingAgent)
    assert await demo_run.demo({}, seconds=1.5, seed=seed, rabbitmq=False)
    orders = exchanges[0].ground_truth.orders()
    return actions, [(order.side, order.px, order.sz) for order in orders]


async def test_the_same_seed_gives_the_same_actions_and_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = await demo_with_seed(monkeypatch, 11)
    again = await demo_with_seed(monkeypatch, 11)
    assert first == again
    assert len(first[1]) > 2
