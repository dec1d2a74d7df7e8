"""A private RabbitMQ node: its own ports, data, logs, cookie and name server.

``rabbitmq_node`` is the fixture, one node for the whole test session. ``python -m tests.rabbitmq``
runs a node until it is interrupted. A broker that runs already is never touched.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import attrs
import pika
import pika.exceptions
import pytest

HOME = Path("/usr/lib/rabbitmq/bin")
READY_WITHIN_S = 60.0


OURS = range(20_000, 32_768)
"""Ports below those that Linux gives to outgoing connections. A client that asks for a killed node
again and again is in the end given the port that it asks for, is connected to itself, and keeps
the node from coming back."""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at this moment, all different."""
    ports: list[int] = []
    for port in random.sample(OURS, len(OURS)):
        if len(ports) == count:
            break
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
    return ports


@attrs.define
class RabbitNode:
    """One node that keeps its port and its data over kill and restart."""

    folder: Path
    port: int
    _dist_port: int
    _epmd_port: int
    _process: subprocess.Popen[bytes] | None = None
    _epmd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node and wait until it answers an AMQP handshake.

        Raises:
            RuntimeError: it ended or did not answer; the text holds the end of its output.
        """
        output = self.folder / "output"
        with output.open("ab") as file:
            if self._epmd is None:
                # Erlang's name server. Left to itself the node would start one as a daemon, which
                # outlives it.
                self._epmd = subprocess.Popen(
                    ["epmd"],  # noqa: S607  # found as the node itself finds it
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                )
            self._process = subprocess.Popen(  # noqa: S603  # a fixed program
                [HOME / "rabbitmq-server"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"RabbitMQ did not start:\n{output.read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the node as a power cut does."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Kill the node and its name server."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` against this node and return what it prints."""
        done = subprocess.run(  # noqa: S603  # a fixed program
            [HOME / "rabbitmqctl", "--quiet", *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=READY_WITHIN_S,
            check=True,
        )
        return done.stdout

    def connect(self) -> pika.BlockingConnection:
        """Connect with a client that is not ours.

        Raises:
            pika.exceptions.AMQPError: no handshake.
        """
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.port))

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except (pika.exceptions.AMQPError, OSError):
            return False
        return True

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"oms-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/config",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            # A node on a shared machine needs no scheduler per core, and no busy waiting.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }


@contextmanager
def running_node(port: int | None = None) -> Iterator[RabbitNode]:
    """Run a node in a temporary folder; nothing of it is left behind."""
    own, dist, epmd = free_ports(3)
    with (
        tempfile.TemporaryDirectory(prefix="oms-rabbitmq-", ignore_cleanup_errors=True) as folder,
        closing(RabbitNode(Path(folder), port or own, dist, epmd)) as node,
    ):
        node.start()
        yield node


@pytest.fixture(scope="session")
def rabbitmq_node() -> Iterator[RabbitNode]:
    """One private node for all tests; its start takes some seconds, its failure fails them."""
    with running_node() as node:
        yield node


def main() -> None:
    """Run a node until interrupted."""
    parser = argparse.ArgumentParser(description="Run a private RabbitMQ node.")
    parser.add_argument("--port", type=int, help="AMQP port (default: a free one)")
    arguments = parser.parse_args()
    # A plain kill must end the node as well, at any moment of its start.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    with running_node(arguments.port) as node, suppress(KeyboardInterrupt):
        print(f"RABBITMQ_HOST=127.0.0.1 RABBITMQ_PORT={node.port}  (Ctrl-C ends it)", flush=True)  # noqa: T201  # a command
        signal.pause()


if __name__ == "__main__":
    main()
