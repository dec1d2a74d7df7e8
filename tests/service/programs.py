"""The service's commands as real processes, in an environment that holds nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from oms_trio.testing.okx_server.auth import ExchangeAccount

PATIENCE_S = 20.0
ACCOUNT = ExchangeAccount()
SECRETS = (ACCOUNT.secret, ACCOUNT.passphrase)


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """An environment with a home of its own and these settings; no port but those is taken."""
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**inherited, "HOME": str(folder), "LANG": "C.UTF-8", "OMS_HTTP": "off", **settings}


def command(*arguments: str) -> list[str]:
    """The command line of the program, run by this interpreter."""
    return [sys.executable, "-W", "error", "-m", "oms_trio", *arguments]


@attrs.frozen
class Ended:
    """How a command ended, and all that it said."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        """Everything that it said."""
        return self.out + self.err


def run(*arguments: str, env: Mapping[str, str]) -> Ended:
    """Run a command to its end."""
    began = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own program
        command(*arguments),
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


@attrs.define
class Program:
    """A command at work; its output goes to a file."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def text(self) -> str:
        """Everything that it has said so far."""
        return self.output.read_text()

    def wait_for(self, pattern: str, times: int = 1, *, patience_s: float = PATIENCE_S) -> None:
        """Wait until the output matches so many times.

        Raises:
            AssertionError: it ended before, or did not say it in time.
        """
        deadline = time.monotonic() + patience_s
        while len(re.findall(pattern, self.text)) < times:
            assert self.process.poll() is None, f"ended before {pattern!r}:\n{self.text[-3000:]}"
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{self.text[-3000:]}"
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> Ended:
        """Send a signal and wait for the end."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.ended(began)

    def ended(self, began: float | None = None) -> Ended:
        """Wait for the end."""
        began = time.monotonic() if began is None else began
        code = self.process.wait(PATIENCE_S)
        return Ended(code, self.text, "", time.monotonic() - began)

    @property
    def rss_kb(self) -> int:
        """Its resident memory in kilobytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1])


@contextmanager
def running(*arguments: str, env: Mapping[str, str], output: Path) -> Iterator[Program]:
    """Run a command until the block ends; it is killed when it has not ended by itself then."""
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command(*arguments), env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield Program(process, output)
    finally:
        process.kill()
        process.wait()


def exchange_at(port: int, account: ExchangeAccount = ACCOUNT) -> dict[str, str]:
    """The settings that lead a service to a simulated exchange."""
    return {
        "OKX_WS_URL": f"ws://127.0.0.1:{port}/ws/v5/private",
        "OKX_REST_URL": f"http://127.0.0.1:{port}",
        "OKX_API_KEY": account.api_key,
        "OKX_SECRET_KEY": account.secret,
        "OKX_PASSPHRASE": account.passphrase,
    }


def broker_at(port: int) -> dict[str, str]:
    """The settings that lead a service to a broker on this machine."""
    return {"RABBITMQ_HOST": "127.0.0.1", "RABBITMQ_PORT": str(port)}


@contextmanager
def simulated_exchange(folder: Path, *options: str) -> Iterator[dict[str, str]]:
    """Run ``oms-trio sim`` on a free port; gives what a service needs to reach it, as it says."""
    env = environment(folder)
    output = folder / "sim.log"
    with running("sim", "--port", "0", *options, env=env, output=output) as program:
        program.wait_for(r"OKX_PASSPHRASE=\S+\n")
        yield dict(re.findall(r"(OKX_\w+)=(\S+)", program.text))
