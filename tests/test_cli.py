"""The commands as users and supervisors see them: exit codes, one-line errors, signals."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from click.testing import CliRunner

from oms_trio.cli import main
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Account
from tests.amqp.proxy import Proxy, open_proxy
from tests.rabbitmq import RabbitNode
from tests.service.programs import (
    SECRETS,
    Ended,
    Program,
    broker_at,
    environment,
    exchange_at,
    run,
    running,
    simulated_exchange,
)

NOBODY = 1
"""A reserved port, on which nothing listens."""


def one_line(ended: Ended) -> str:
    """The only line of the error: log lines may come before it, and nothing after it."""
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("oms-trio: ")]
    assert errors == lines[-1:], ended.err
    assert "Traceback" not in ended.text
    assert not [secret for secret in SECRETS if secret in ended.text]
    return errors[0]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A simulated exchange for all tests of this file, as settings."""
    with simulated_exchange(tmp_path_factory.mktemp("sim")) as settings:
        yield settings


# Configuration


def test_missing_credentials_are_named_all_at_once(tmp_path: Path) -> None:
    ended = run("run", env=environment(tmp_path))
    assert ended.code == 78
    lines = ended.err.splitlines()
    assert [line.split()[1] for line in lines] == [
        "OKX_API_KEY",
        "OKX_SECRET_KEY",
        "OKX_PASSPHRASE",
    ]
    assert all("_FILE" in line for line in lines), "each line says what to do"


def test_an_unknown_variable_is_named_with_the_nearest_setting(tmp_path: Path) -> None:
    ended = run("run", env=environment(tmp_path, **exchange_at(NOBODY), OMS_LEVERAG="50"))
    assert ended.code == 78
    assert "did you mean OMS_LEVERAGE?" in one_line(ended)


def test_demo_needs_no_configuration_and_ignores_a_wrong_one(tmp_path: Path) -> None:
    """It has a broker of its own, so settings of another one do not matter."""
    env = environment(tmp_path, RABBITMQ_HOSTS="nowhere", OKX_DEM0="1")
    ended = run("demo", "--seconds", "1", "--seed", "1", env=env)
    assert ended.code == 0, ended.text
    ended = run("demo", "--seconds", "1", "--rabbitmq", env=env)
    assert ended.code == 78
    assert "RABBITMQ_HOSTS is not a setting; did you mean RABBITMQ_HOST?" in ended.err


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_misspelt_name_that_would_trade_live_is_an_error(tmp_path: Path, command: str) -> None:
    ended = run(command, env=environment(tmp_path, **exchange_at(NOBODY), OKX_DEM0="1"))
    assert ended.code == 78
    assert "OKX_DEM0 is not a setting; did you mean OKX_DEMO?" in one_line(ended)


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_value_out_of_range_is_named_with_the_valid_range(tmp_path: Path, command: str) -> None:
    ended = run(command, env=environment(tmp_path, **exchange_at(NOBODY), OMS_LEVERAGE="500"))
    assert ended.code == 78
    assert "OMS_LEVERAGE is '500'" in one_line(ended)
    assert "must be a number from 1 to 125" in one_line(ended)


# The broker


def test_without_a_broker_the_error_names_host_and_port(tmp_path: Path) -> None:
    ended = run("run", env=environment(tmp_path, **exchange_at(NOBODY), **broker_at(NOBODY)))
    assert ended.code == 1
    assert f"no RabbitMQ at 127.0.0.1:{NOBODY}" in one_line(ended)
    assert "check RABBITMQ_HOST" in one_line(ended)


def test_an_unknown_host_is_named(tmp_path: Path) -> None:
    env = environment(tmp_path, **exchange_at(NOBODY), RABBITMQ_HOST="nowhere.invalid")
    ended = run("run", env=env)
    assert ended.code == 1
    assert "nowhere.invalid" in one_line(ended)


@pytest.mark.rabbitmq
def test_a_wrong_password_is_rejected_and_not_shown(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    broker = {**broker_at(rabbitmq_node.port), "RABBITMQ_PASS": "wrong-pass-of-test"}
    ended = run("run", env=environment(tmp_path, **exchange_at(NOBODY), **broker))
    assert ended.code == 1
    assert "check RABBITMQ_USER and RABBITMQ_PASS" in one_line(ended)
    assert "wrong-pass-of-test" not in ended.text


@pytest.mark.rabbitmq
def test_a_queue_with_other_arguments_is_named_with_the_difference(
    tmp_path: Path, rabbitmq_node: RabbitNode, exchange: dict[str, str]
) -> None:
    """A person has to delete it or change a setting, so a supervisor must not restart the service."""
    queue = f"other-{tmp_path.name}"
    connection = rabbitmq_node.connect()
    connection.channel().queue_declare(queue, durable=True, arguments={"x-message-ttl": 60_000})
    connection.close()
    broker = {**broker_at(rabbitmq_node.port), "OMS_ACTION_QUEUE": queue}
    ended = run("run", env=environment(tmp_path, **exchange_at(NOBODY), **broker))
    assert ended.code == 78
    line = one_line(ended)
    assert queue in line
    assert "its x-message-ttl is 60000, but must be 5000" in line
    assert "OMS_MAX_ACTION_AGE" in line
    checked = run("check", env=environment(tmp_path, **exchange, **broker))
    assert checked.code == 78


# The exchange


@pytest.mark.rabbitmq
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("run", "OKX_API_KEY"),
        ("run", "OKX_SECRET_KEY"),
        ("run", "OKX_PASSPHRASE"),
        ("check", "OKX_SECRET_KEY"),
    ],
)
def test_a_rejected_key_is_final_and_the_error_says_what_to_check(
    tmp_path: Path,
    rabbitmq_node: RabbitNode,
    exchange: dict[str, str],
    command: str,
    name: str,
) -> None:
    settings = {**exchange, **broker_at(rabbitmq_node.port), name: "other-value-of-test"}
    ended = run(command, env=environment(tmp_path, **settings, COLUMNS="200"))
    assert ended.code == 1
    assert f"check {name}" in (one_line(ended) if command == "run" else ended.out)
    assert "Traceback" not in ended.text
    assert "other-value-of-test" not in ended.err
    assert not [secret for secret in SECRETS if secret in ended.text]


@pytest.mark.rabbitmq
@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(("least", "fitting"), [("0.015", "0.02"), ("0.005", "0.01")])
def test_a_smallest_size_that_does_not_fit_the_instrument_is_bad_configuration(
    tmp_path: Path,
    rabbitmq_node: RabbitNode,
    exchange: dict[str, str],
    command: str,
    least: str,
    fitting: str,
) -> None:
    """Otherwise every order would be rejected, although trading seemed to be on."""
    settings = {**exchange, **broker_at(rabbitmq_node.port), "OMS_MIN_CONTRACTS": least}
    ended = run(command, env=environment(tmp_path, **settings, COLUMNS="300"))
    assert ended.code == 78
    text = one_line(ended) if command == "run" else ended.out
    assert f"OMS_MIN_CONTRACTS={least} does not fit BTC-USDT-SWAP" in text
    assert "lot 0.01, smallest order 0.01" in text
    assert f"set {fitting}" in text


@pytest.mark.rabbitmq
def test_retries_end_when_the_exchange_stays_down(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    settings = {**exchange_at(NOBODY), **broker_at(rabbitmq_node.port), "OMS_MAX_RETRIES": "2"}
    ended = run("run", env=environment(tmp_path, **settings))
    assert ended.code == 1
    assert "no session in 2 attempts" in one_line(ended)


# The state folder


def test_a_file_that_is_not_a_journal_is_rejected_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    file.write_text("a shopping list")
    env = environment(tmp_path, **exchange_at(NOBODY), OMS_STATE_DIR=str(tmp_path))
    ended = run("run", env=env)
    assert ended.code == 1
    assert str(file) in one_line(ended)
    assert "it is not a journal" in one_line(ended)
    assert file.read_text() == "a shopping list"


@pytest.mark.rabbitmq
def test_a_damaged_journal_is_rejected(
    tmp_path: Path, rabbitmq_node: RabbitNode, exchange: dict[str, str]
) -> None:
    settings = {**exchange, **broker_at(rabbitmq_node.port), "OMS_STATE_DIR": str(tmp_path)}
    env = environment(tmp_path, **settings)
    with running("run", env=env, output=tmp_path / "log") as service:
        service.wait_for(r"\bready\b")
        assert service.stop().code == 0
    file = tmp_path / "journal.sqlite"
    content = bytearray(file.read_bytes())
    at = content.index(b'"leverage"')
    content[at : at + 10] = b'"Leverage"'
    file.write_bytes(content)
    ended = run("run", env=env)
    assert ended.code == 1
    assert "is damaged (wrong checksum" in one_line(ended)
    assert "restore a backup" in one_line(ended)


@pytest.mark.rabbitmq
def test_the_error_of_a_second_service_names_the_process_that_holds_the_state_folder(
    tmp_path: Path, rabbitmq_node: RabbitNode, exchange: dict[str, str]
) -> None:
    env = environment(tmp_path, **exchange, **broker_at(rabbitmq_node.port))
    with running("run", env=env, output=tmp_path / "log") as service:
        service.wait_for(r"\bready\b")
        ended = run("run", env=env)
        assert ended.code == 1
        assert f"in use by process {service.process.pid}" in one_line(ended)
        assert service.stop().code == 0


@pytest.mark.rabbitmq
def test_a_state_folder_of_another_account_is_left_alone(
    tmp_path: Path, rabbitmq_node: RabbitNode, exchange: dict[str, str]
) -> None:
    broker = broker_at(rabbitmq_node.port)
    env = environment(tmp_path, **exchange, **broker, OMS_STATE_DIR=str(tmp_path), COLUMNS="300")
    checked = run("check", env=env)
    assert checked.code == 0
    assert re.search(r"^ *state +ok .*will belong to", checked.out, re.MULTILINE)
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        journal.stamp(Account("77", "127.0.0.1", demo=False))
    for command in ("run", "check"):
        ended = run(command, env=env)
        assert ended.code == 78
        text = one_line(ended) if command == "run" else ended.out
        assert f"{tmp_path} belongs to account 77 (live trading at 127.0.0.1), the API key" in text
        assert "or another OMS_STATE_DIR" in text
    with Journal.open(tmp_path / "journal.sqlite", read_only=True) as journal:
        assert not [record for _, record in journal.tail(0) if record.kind == "snapshot"]


@pytest.mark.rabbitmq
def test_a_state_folder_belongs_to_the_first_account_that_uses_it(
    tmp_path: Path, rabbitmq_node: RabbitNode, exchange: dict[str, str]
) -> None:
    env = environment(tmp_path, **exchange, **broker_at(rabbitmq_node.port), COLUMNS="300")
    with running("run", env=env, output=tmp_path / "log") as service:
        service.wait_for(r"\bready\b")
        beside = run("check", env=env)
        assert beside.code == 0, beside.out
        assert service.stop().code == 0
    ended = run("run", env={**env, "OKX_DEMO": "1"})
    assert ended.code == 78
    assert "(demo trading at 127.0.0.1)" in one_line(ended)


# Signals


@attrs.frozen
class Between:
    """A service whose connections to broker and exchange can be cut, and its settings."""

    service: Program
    broker: Proxy
    exchange: Proxy
    env: dict[str, str]

    async def end(self, number: int = signal.SIGTERM) -> Ended:
        """Send a signal and wait for the end."""
        return await trio.to_thread.run_sync(self.service.stop, number)

    async def wait_for(self, pattern: str) -> None:
        """Wait until the log matches."""
        await trio.to_thread.run_sync(self.service.wait_for, pattern)


@asynccontextmanager
async def between(
    folder: Path, node: RabbitNode, settings: dict[str, str]
) -> AsyncIterator[Between]:
    """Run a service with proxies in front of broker and exchange."""
    port = int(settings["OKX_REST_URL"].rpartition(":")[2])
    async with open_proxy(node.port) as broker, open_proxy(port) as exchange:
        env = environment(
            folder, **{**settings, **exchange_at(exchange.port), **broker_at(broker.port)}
        )
        with running("run", env=env, output=folder / "log") as service:
            world = Between(service, broker, exchange, env)
            await world.wait_for(r"\bready\b")
            yield world


def assert_clean(ended: Ended) -> None:
    """A requested stop succeeds within 5 s."""
    assert ended.code == 0, ended.text
    assert ended.seconds < 5
    assert "Traceback" not in ended.text
    assert ended.text.rstrip().splitlines()[-1].endswith("stopped")
    assert not [secret for secret in SECRETS if secret in ended.text]


@pytest.mark.rabbitmq
@pytest.mark.parametrize(
    ("away", "number"),
    [
        ("nothing", signal.SIGTERM),
        ("nothing", signal.SIGINT),
        ("broker", signal.SIGTERM),
        ("exchange", signal.SIGINT),
    ],
)
async def test_a_signal_ends_the_service_cleanly_with_everything_or_something_down(
    tmp_path: Path,
    rabbitmq_node: RabbitNode,
    exchange: dict[str, str],
    away: str,
    number: signal.Signals,
) -> None:
    async with between(tmp_path, rabbitmq_node, exchange) as world:
        if away == "broker":
            world.broker.refusing = True
            world.broker.cut()
            await world.wait_for("broker_connection_lost")
        elif away == "exchange":
            world.exchange.refusing = True
            world.exchange.cut()
            await world.wait_for("okx_session_lost")
        assert_clean(await world.end(number))


@pytest.mark.rabbitmq
@pytest.mark.parametrize("silent", ["broker", "exchange"])
async def test_a_signal_ends_the_service_in_time_when_the_other_side_is_silent(
    tmp_path: Path, rabbitmq_node: RabbitNode, exchange: dict[str, str], silent: str
) -> None:
    """Connections stay open and nothing arrives: the stop does not wait for requests in flight."""
    async with between(tmp_path, rabbitmq_node, exchange) as world:
        if silent == "exchange":
            world.exchange.freeze(frozen=True)
        env = {**world.env, **broker_at(rabbitmq_node.port)}
        sent = await trio.to_thread.run_sync(
            partial(run, "send", "7", "--", "-0.25", "1", "67000", env=env)
        )
        assert sent.code == 0
        await trio.sleep(0.2)
        if silent == "broker":
            world.broker.freeze(frozen=True)
        assert_clean(await world.end())
        world.broker.freeze(frozen=False)
        world.exchange.freeze(frozen=False)


@pytest.mark.rabbitmq
async def test_a_second_signal_ends_the_service_at_once(
    tmp_path: Path, rabbitmq_node: RabbitNode, exchange: dict[str, str]
) -> None:
    async with between(tmp_path, rabbitmq_node, exchange) as world:
        world.exchange.freeze(frozen=True)
        send = partial(run, "send", "7", "--", "-0.25", "1", "67000", env=world.env)
        assert (await trio.to_thread.run_sync(send)).code == 0
        await trio.sleep(0.2)
        world.service.process.send_signal(signal.SIGINT)
        await world.wait_for("stopping")
        ended = await world.end(signal.SIGINT)
        assert ended.code == 130
        assert ended.seconds < 2
        assert "Traceback" not in ended.text
        world.exchange.freeze(frozen=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_that_waits_for_a_silent_broker(
    tmp_path: Path, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {**exchange_at(NOBODY), **broker_at(silent.getsockname()[1])}
        with running(
            "run", env=environment(tmp_path, **settings), output=tmp_path / "log"
        ) as service:
            service.wait_for("state_recovered")
            assert_clean(service.stop(number))


# The other commands


def test_the_simulator_prints_settings_for_a_service_and_ends_on_a_signal(tmp_path: Path) -> None:
    env = environment(tmp_path)
    with running("sim", "--port", "0", env=env, output=tmp_path / "log") as sim:
        sim.wait_for(r"OKX_PASSPHRASE=\S+\n")
        assert re.search(r"export OKX_WS_URL=ws://127.0.0.1:\d+/ws/v5/private\n", sim.text)
        ended = sim.stop(signal.SIGINT)
    assert ended.code == 0
    assert ended.seconds < 5
    assert "Traceback" not in ended.text


def test_a_port_in_use_is_an_error_of_one_line(tmp_path: Path, exchange: dict[str, str]) -> None:
    port = exchange["OKX_REST_URL"].rpartition(":")[2]
    ended = run("sim", "--port", port, env=environment(tmp_path))
    assert ended.code == 1
    assert "already in use" in one_line(ended)
    assert "choose another" in one_line(ended)


@pytest.mark.parametrize("host", ["203.0.113.7", "nowhere.invalid"])
def test_a_host_of_another_machine_is_an_error_of_one_line(tmp_path: Path, host: str) -> None:
    ended = run("sim", "--host", host, "--port", "0", env=environment(tmp_path))
    assert ended.code == 1
    assert "choose another host" in one_line(ended)


@pytest.mark.parametrize("option", ["--price=-5", "--price=0", "--balance=nan", "--balance=x"])
def test_an_impossible_market_is_rejected(option: str) -> None:
    result = CliRunner().invoke(main, ["sim", option])
    assert result.exit_code == 2
    assert result.output.startswith(f"oms-trio: {option.partition('=')[0]} must be")


def test_an_action_can_be_printed_without_any_configuration(tmp_path: Path) -> None:
    """The first vector of the contract."""
    ended = run("send", "--dry-run", "1", "--", "-0.25", "3", "67000.00", env=environment(tmp_path))
    assert ended.code == 0
    assert ended.out == "010000000000000000000000a00000000000006000e03b6600\n"


@pytest.mark.parametrize("mid", ["0", "-1", "1000000.01", "67000.001", "nan", "mid"])
def test_an_impossible_mid_is_an_error_of_one_line(mid: str) -> None:
    result = CliRunner().invoke(main, ["send", "--dry-run", "--", "1", "-0.25", "3", mid])
    assert result.exit_code == 2
    assert result.output.startswith("oms-trio: MID must be")
    assert result.output.count("\n") == 1


def test_sending_without_a_broker_is_an_error_of_one_line(tmp_path: Path) -> None:
    env = environment(tmp_path, **broker_at(NOBODY))
    ended = run("send", "1", "--", "-0.25", "3", "67000", env=env)
    assert ended.code == 1
    assert "no RabbitMQ" in one_line(ended)


@pytest.mark.rabbitmq
def test_sending_an_unroutable_action_is_an_error_of_one_line(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    """The broker confirms messages that it drops, so nothing else would report it."""
    env = environment(
        tmp_path, **broker_at(rabbitmq_node.port), OMS_ACTION_EXCHANGE=f"oms-{tmp_path.name}"
    )
    action = ("send", "1", "--", "-0.25", "3", "67000")
    ended = run(*action, env=env)
    assert ended.code == 1
    assert not ended.out
    line = one_line(ended)
    assert f"no queue is bound to oms-{tmp_path.name} with oms.action" in line
    assert "start the service" in line
    connection = rabbitmq_node.connect()
    channel = connection.channel()
    queue = f"queue-{tmp_path.name}"
    channel.queue_declare(queue, exclusive=True)
    channel.queue_bind(queue, f"oms-{tmp_path.name}", "oms.action")
    assert run(*action, env=env).code == 0
    assert channel.basic_get(queue, auto_ack=True)[2]
    connection.close()


@pytest.mark.rabbitmq
def test_check_tries_everything_and_trades_nothing(
    tmp_path: Path, rabbitmq_node: RabbitNode, exchange: dict[str, str]
) -> None:
    settings = {**exchange, **broker_at(rabbitmq_node.port), "COLUMNS": "200"}
    ended = run("check", env=environment(tmp_path, **settings))
    assert ended.code == 0
    tried = "clock rest instrument account state leverage balance session broker"
    for what in tried.split():
        assert re.search(rf"^ *{what} +ok ", ended.out, re.MULTILINE), ended.out
    # The disk of a test machine may be slow.
    assert re.search(
        r"^ *disk +(ok|warn) .*fsync [0-9.]+ ms, p99 [0-9.]+ ms", ended.out, re.MULTILINE
    )
    assert re.search(r"ping [0-9.]+ ms, p99", ended.out)
    assert "OMS_LEVERAGE" in ended.out
    assert not [secret for secret in SECRETS if secret in ended.text]


def test_check_reports_every_failure_and_not_only_the_first(tmp_path: Path) -> None:
    settings = {**exchange_at(NOBODY), **broker_at(NOBODY), "COLUMNS": "200"}
    ended = run("check", env=environment(tmp_path, **settings))
    assert ended.code == 1
    for what in ("clock", "session", "broker"):
        assert re.search(rf"^ *{what} +fail ", ended.out, re.MULTILINE), ended.out
    assert "Traceback" not in ended.text
