"""The unit: systemd accepts it, it is confined, and the service speaks the protocol that it names."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

from oms_trio.ops.systemd import Notifier
from oms_trio.service import app
from oms_trio.service.journaled_inputs import JournaledInput
from oms_trio.settings.config import Config
from oms_trio.tasks.trade_state import Writer, keep_state
from tests.rabbitmq import RabbitNode
from tests.service.programs import broker_at, environment, running, simulated_exchange
from tests.service.station import serving

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = ["oms-trio.service", "oms-trio@.service"]

WORST_EXPOSURE = 2.0


@attrs.define
class Supervisor:
    """The other end of NOTIFY_SOCKET."""

    address: str
    listening: socket.socket
    received: list[str] = attrs.Factory(list)

    @classmethod
    def at(cls, address: str) -> Supervisor:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        listening.bind(address.replace("@", "\0"))
        return cls(address, listening)

    def read(self) -> list[str]:
        """Receive what was sent, and return everything received so far."""
        while True:
            try:
                self.received += self.listening.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.received

    def wait_for(self, line: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while line not in self.read():
            assert time.monotonic() < deadline, f"no {line} in {self.received}"
            time.sleep(0.02)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor.at(str(tmp_path / "notify"))
    yield supervisor
    supervisor.listening.close()


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(  # noqa: S603 - systemd's own program
        ["systemd-analyze", *arguments],  # noqa: S607 - from the system's path
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_unit(tmp_path: Path, unit: str) -> None:
    program = tmp_path / "oms-trio"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = re.sub(r"ExecStart=\S+", f"ExecStart={program}", (DEPLOY / unit).read_text())
    named = tmp_path / unit.replace("@.", "@one.")
    named.write_text(text)
    done = analyze("verify", "--man=no", str(named))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_is_confined(unit: str) -> None:
    done = analyze("security", "--offline=true", str(DEPLOY / unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= WORST_EXPOSURE


def settings_of(unit: str) -> list[str]:
    return [
        line
        for line in (DEPLOY / unit).read_text().splitlines()
        if "=" in line and not line.startswith("#")
    ]


def test_the_two_units_differ_in_names_and_paths_only() -> None:
    one, template = (settings_of(unit) for unit in UNITS)
    plain = [
        line.replace(" (%i)", "")
        .replace("/%i.env", "/oms-trio.env")
        .replace("credentials/%i/", "credentials/")
        .replace("oms-trio/%i", "oms-trio")
        for line in template
    ]
    assert plain == one


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_does_what_its_service_needs(unit: str) -> None:
    settings = settings_of(unit)
    assert {
        "Type=notify",
        "RestartPreventExitStatus=78",
        "StateDirectoryMode=0700",
        "Restart=always",
    } <= set(settings)
    credentials = {
        line.split("=")[1].split(":")[0] for line in settings if line.startswith("LoadCredential=")
    }
    assert credentials == {"okx_api_key", "okx_secret_key", "okx_passphrase", "rabbitmq_pass"}


def test_the_example_settings_are_valid_and_contain_no_secret() -> None:
    parser = configparser.RawConfigParser(delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names are in capitals
    parser.read_string("[settings]\n" + (DEPLOY / "oms-trio.env.example").read_text())
    settings = dict(parser["settings"])
    config = Config.from_environ({"HOME": "/nowhere", **settings})
    assert config.okx_demo, "real money must not be the default"
    assert not {name for name in settings if re.search("KEY|PASS|TOKEN", name)}


@pytest.mark.rabbitmq
def test_ready_after_reconciliation_watchdog_while_healthy_stopping_on_sigterm(
    tmp_path: Path, rabbitmq_node: RabbitNode, supervisor: Supervisor
) -> None:
    (tmp_path / "sim").mkdir()
    with simulated_exchange(tmp_path / "sim") as exchange:
        env = environment(
            tmp_path,
            **exchange,
            **broker_at(rabbitmq_node.port),
            OMS_ACTION_QUEUE="unit_action_queue",
            OMS_LOG="json",
            NOTIFY_SOCKET=supervisor.address,
            WATCHDOG_USEC="600000",
        )
        with running("run", env=env, output=tmp_path / "log") as program:
            supervisor.wait_for("READY=1")
            log = program.text
            assert log.index('"okx_session_ready"') < log.index('"actions_taken"')
            before = supervisor.read().count("WATCHDOG=1")
            time.sleep(1.5)
            assert supervisor.read().count("WATCHDOG=1") >= before + 3
            assert any(
                re.fullmatch(r"STATUS=taking actions; position 0, 0 open orders", line)
                for line in supervisor.received
            )
            ended = program.stop(signal.SIGTERM)
        assert ended.code == 0
        supervisor.wait_for("STOPPING=1")


async def test_not_ready_while_the_exchange_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.address)
    with trio.move_on_after(1.0):
        async with serving(tmp_path, OKX_REST_URL="http://127.0.0.1:1"):
            pytest.fail("it cannot be ready")
    assert "READY=1" not in supervisor.read()


async def test_no_keep_alive_when_the_trade_state_task_is_stuck_though_all_else_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor
) -> None:
    stuck = trio.Event()

    async def keep_until_stuck(
        inbox: trio.MemoryReceiveChannel[JournaledInput], writer: Writer
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_state, inbox.clone(), writer)
            await stuck.wait()
            nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    monkeypatch.setattr(app, "keep_state", keep_until_stuck)
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.address)
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with trio.CancelScope() as over:
        async with serving(tmp_path) as station:
            await trio.sleep(1.0)
            assert supervisor.read().count("WATCHDOG=1") >= 2
            stuck.set()
            await trio.sleep(0.5)
            before = supervisor.read().count("WATCHDOG=1")
            await trio.sleep(1.0)
            assert (await station.ask("status"))["instrument"], "everything else is alive"
            assert supervisor.read().count("WATCHDOG=1") == before
            over.cancel()
            await trio.sleep_forever()


def test_notifications_to_an_abstract_socket_arrive() -> None:
    supervisor = Supervisor.at(f"@oms-trio-test-{os.getpid()}")
    notifier = Notifier(supervisor.address)
    notifier.notify("READY=1", "STATUS=well")
    assert supervisor.read() == ["READY=1", "STATUS=well"]
    notifier.close()
    supervisor.listening.close()


def test_a_supervisor_that_does_not_listen_is_ignored(tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.notify("READY=1")
    notifier.close()
    Notifier().notify("READY=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "15000000"}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_period(environ: dict[str, str], seconds: float | None) -> None:
    notifier = Notifier.from_environ(environ)
    assert notifier.watchdog_s == seconds


def test_rollback_makes_the_release_before_current_again(tmp_path: Path) -> None:
    opt = tmp_path / "opt/oms-trio"
    for release in ("releases/1", "releases/2"):
        (opt / release).mkdir(parents=True)
    (opt / "current").symlink_to("releases/2")
    (opt / "previous").write_text("releases/1\n")
    command = ["sh", str(DEPLOY / "install.sh"), "rollback"]
    for wanted in ("releases/1", "releases/2"):  # two rollbacks are where it began
        subprocess.run(command, env={**os.environ, "ROOT": str(tmp_path)}, check=True)  # noqa: S603
        assert (opt / "current").readlink() == Path(wanted)
    (opt / "previous").unlink()
    done = subprocess.run(command, env={**os.environ, "ROOT": str(tmp_path)}, check=False)  # noqa: S603
    assert done.returncode == 1
