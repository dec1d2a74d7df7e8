"""The processes around a measurement: the broker's names, the exchange, who is measured."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pika
import pika.exceptions

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
CREDENTIALS = ("key", "secret", "passphrase")
OURS = "oms-trio"
READY_S = 30.0

# Every process of a measurement inherits it; see ``oms_trio/amqp/broker.py``.
os.environ["UV_USE_IO_URING"] = "0"

_runs = itertools.count(1)


@attrs.frozen
class Venue:
    """The exchange's process."""

    port: int

    @property
    def ws(self) -> str:
        """Its private WebSocket."""
        return f"ws://127.0.0.1:{self.port}/ws/v5/private"

    @property
    def rest(self) -> str:
        """Its REST side."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, what: str) -> Any:  # noqa: ANN401 - JSON
        """Ask the bench's side of it."""
        with urllib.request.urlopen(f"{self.rest}/bench/{what}", timeout=10) as answer:  # noqa: S310
            return json.load(answer)


@contextmanager
def venue() -> Iterator[Venue]:
    """Run the exchange."""
    command = [sys.executable, "-m", "bench.exchange"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        try:
            yield Venue(int(process.stdout.readline()))
        finally:
            process.kill()


@attrs.frozen
class Run:
    """One contender's process and its names at the broker."""

    process: subprocess.Popen[bytes]
    actions: str
    queue: str
    executions: str


@contextmanager
def contender(
    name: str, module: str, venue: Venue, amqp_port: int, folder: Path, *extra: str
) -> Iterator[Run]:
    """Run one contender until the block ends; it is ready when the block begins."""
    number = next(_runs)
    venue.ask("reset")
    actions, queue, executions = (f"bench{number}.{what}" for what in ("in", "queue", "out"))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OMS_")}
    if name == OURS:
        state = folder / f"state{number}"
        environ |= {
            "OKX_WS_URL": venue.ws,
            "OKX_REST_URL": venue.rest,
            "OKX_API_KEY": "key",
            "OKX_SECRET_KEY": "secret",
            "OKX_PASSPHRASE": "passphrase",
            "RABBITMQ_HOST": "127.0.0.1",
            "RABBITMQ_PORT": str(amqp_port),
            "OMS_ACTION_EXCHANGE": actions,
            "OMS_ACTION_QUEUE": queue,
            "OMS_EXECUTION_EXCHANGE": executions,
            "OMS_STATE_DIR": str(state),
            "OMS_MAX_ACTION_AGE": "60",
            "OMS_MAX_OPEN_ORDERS": "500",
            "OMS_HTTP": "off",
            "OMS_LOG": "json",
        }
        command = [sys.executable, "-m", module, *extra]
    else:
        where = {
            "ws": venue.ws,
            "rest": venue.rest,
            "amqp": f"amqp://guest:guest@127.0.0.1:{amqp_port}/",
            "actions": actions,
            "queue": queue,
            "executions": executions,
        } | {key: key for key in CREDENTIALS}
        command = [str(PEERS), "-m", module, json.dumps(where)]
    with (folder / f"{name}.log".replace("/", "-")).open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)  # noqa: S603
        try:
            _wait_ready(name, process, venue, amqp_port, queue, Path(log.name))
            yield Run(process, actions, queue, executions)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _forget(amqp_port, queue)


def _wait_ready(
    name: str,
    process: subprocess.Popen[bytes],
    venue: Venue,
    amqp_port: int,
    queue: str,
    log: Path,
) -> None:
    """Wait until it has subscribed at the exchange and consumes its queue."""
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        if venue.ask("state")["subscribed"] and _consumers(amqp_port, queue):
            return
    raise RuntimeError(f"{name} did not get ready:\n{log.read_text()[-3000:]}")


def _consumers(amqp_port: int, queue: str) -> int:
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", amqp_port)) as connection:
        try:
            declared = connection.channel().queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return 0
        return int(declared.method.consumer_count)


def _forget(amqp_port: int, queue: str) -> None:
    with (
        suppress(pika.exceptions.AMQPError),
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", amqp_port)) as connection,
    ):
        connection.channel().queue_delete(queue)


@contextmanager
def agent(run: Run, amqp_port: int, **errand: float) -> Iterator[subprocess.Popen[str]]:
    """Run an agent that has not begun yet: ``begin`` starts it."""
    told = {
        "amqp_port": amqp_port,
        "actions": run.actions,
        "executions": run.executions,
        **errand,
    }
    command = [sys.executable, "-m", "bench.agent", json.dumps(told)]
    with subprocess.Popen(  # noqa: S603
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def begin(process: subprocess.Popen[str]) -> None:
    """Let an agent publish."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for an agent's result."""
    assert process.stdout is not None
    result: dict[str, Any] = json.loads(process.stdout.readline())
    return result


def installed(module: str) -> bool:
    """Whether a contender's module can be imported where the contenders live."""
    if not PEERS.exists():
        return False
    check = f"import sys; sys.argv[1:] = ['{{}}']; import {module}"
    done = subprocess.run([PEERS, "-c", check], cwd=ROOT, capture_output=True, check=False)  # noqa: S603
    return done.returncode == 0
