"""The processes of a run: the service under its supervisor, and the exchange."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
import trio

from tests.torture.plan import RANDOM, TorturePlan

ROOT = Path(__file__).parents[2]

READY_S = 30.0

FAILED = 1
"""The exit code of a service that finds no broker when it starts; its supervisor tries again."""


@attrs.define
class Service:
    """The service under its supervisor."""

    environment: dict[str, str]
    log: Path
    wrong: str
    process: subprocess.Popen[bytes] | None = None
    _start: int = 0

    def start(self, point: str, nth: int) -> None:
        """Start a process that is killed at a point, or one that is not."""
        self._start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "tests.torture.victim", point, str(nth), self.wrong],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def logged(self, what: str) -> bool:
        """Whether this process has logged a text."""
        with self.log.open("rb") as file:
            file.seek(self._start)
            return what.encode() in file.read()

    @property
    def without_broker(self) -> bool:
        """Whether this process ended because it found no broker."""
        return self.logged("no RabbitMQ at")

    async def ended(self) -> int:
        """Wait for the end and return the exit code."""
        assert self.process is not None
        while (code := self.process.poll()) is None:  # noqa: ASYNC110 - a process has no event
            await trio.sleep(0.02)
        return code

    async def ready(self) -> str | None:
        """Wait until actions are taken, starting again as a supervisor does; returns why not."""
        assert self.process is not None
        with trio.move_on_after(READY_S):
            while not self.logged('"event": "ready"'):
                code = self.process.poll()
                if code == FAILED and self.without_broker:
                    self.start(RANDOM, 0)
                elif code is not None:
                    return f"the service ended with {code} before it was ready"
                await trio.sleep(0.05)
            return None
        return f"the service was not ready within {READY_S:.0f} s"

    def kill(self) -> None:
        """Kill the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def start_venue(
    plan: TorturePlan, truth: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start the exchange; its first line of output is its port."""
    command = [sys.executable, "-m", "tests.torture.venue"]
    command += ["--seed", str(plan.seed), "--truth", str(truth)]
    if not plan.exchange_faults:
        command.append("--no-faults")
    return subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
