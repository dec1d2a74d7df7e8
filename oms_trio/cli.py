"""The command line: commands to ``Config`` to ``trio.run``, and exit codes.

    0    clean stop
    1    failed at run time: login rejected, retries used up, state unusable
    78   bad configuration: a setting (also sizes that do not fit the instrument), a queue that exists
         with other properties, the state folder of another account; a supervisor must not restart
         on it (EX_CONFIG of sysexits.h)

An error that a user can cause is one line that says what to change, never a traceback.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import msgspec
import trio
from rich.console import Console

from oms_trio.amqp.codec import encode_action
from oms_trio.amqp.model import BrokerError, BrokerMisconfigured
from oms_trio.commands.check import CheckResult
from oms_trio.commands.check import check as run_check
from oms_trio.commands.demo.program import demo as run_demo
from oms_trio.core.events import Verb
from oms_trio.core.model import OrderType
from oms_trio.journal.errors import JournalOfAnotherAccount, StateError
from oms_trio.okx.errors import OkxError, StepMismatchError
from oms_trio.ops.control.client import ControlError, ask
from oms_trio.ops.control.terminal import draw
from oms_trio.replay.commands import CliContext, export, record, replay
from oms_trio.replay.recordings.recording import RecordingError
from oms_trio.service.runtime import send_action, serve
from oms_trio.settings import logs
from oms_trio.settings.config import Config, ConfigError
from oms_trio.testing.okx_server.faults.plan import FaultPlan, even_rates
from oms_trio.testing.okx_server.program import SimSettingsError, run_sim
from oms_trio.version import __version__

FAILED: Final = 1
BAD_CONFIG: Final = 78

UNUSABLE_ADDRESS: Final = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}
"""A port that is in use or reserved, a host that is not this machine."""

MID_MAX: Final = Decimal("1000000.00")

T = TypeVar("T")

READABLE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
WRITABLE: Final = click.Path(path_type=Path, dir_okay=False)

# The text of each of these is one line for the user.
Expected = (
    ConfigError,
    BrokerError,
    ControlError,
    OkxError,
    StateError,
    RecordingError,
    SimSettingsError,
)

# Of these, a restart does not help: a person has to change settings, broker or folder.
Misconfigured = (ConfigError, BrokerMisconfigured, JournalOfAnotherAccount, StepMismatchError)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="oms-trio")
@click.pass_context
def main(context: click.Context) -> None:
    """Order management for a reinforcement-learning agent on OKX.

    Binary actions arrive over RabbitMQ and become orders. Every fill is booked into a trade with
    its drawdown and reward, and executions are published over RabbitMQ. Settings come from the
    environment; `oms-trio check` prints them.

    To see it work without any configuration: oms-trio demo
    """
    context.obj = CliContext(_execute, _logged_config, _config)


for _command in (replay, export, record):
    main.add_command(_command)


@main.command()
def run() -> None:
    """Run the service until SIGTERM or Ctrl-C.

    It needs OKX_API_KEY, OKX_SECRET_KEY and OKX_PASSPHRASE (or *_FILE, or systemd credentials) and
    a RabbitMQ broker. It takes no action before its state is reconciled with the exchange.
    """
    config = _config(require_credentials=True)
    _log(config)
    _execute(partial(serve, config))


@main.command()
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(1, 86_400))
@click.option("--seed", type=int, help="Repeat the market and the agent of an earlier demo.")
@click.option(
    "--rabbitmq", is_flag=True, help="Use the broker of the RABBITMQ_* settings, not one in memory."
)
@click.option("--http", is_flag=True, help="Serve the status page on a free port.")
@click.option("--verbose", is_flag=True, help="Show the service's log.")
def demo(
    seconds: float,
    seed: int | None,
    rabbitmq: bool,  # noqa: FBT001 - an option
    http: bool,  # noqa: FBT001 - an option
    verbose: bool,  # noqa: FBT001 - an option
) -> None:
    """Run the service on a simulated exchange: no broker, no key, no configuration needed."""
    logs.configure("console", "info" if verbose else "error")
    agree = _execute(
        partial(
            run_demo, dict(os.environ), seconds=seconds, seed=seed, rabbitmq=rabbitmq, http=http
        )
    )
    if not agree:
        _fail(
            FAILED, "our position and the exchange's differ: this is a bug, please report the seed"
        )


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--balance", default="10000", show_default=True, help="Initial balance of the account in USDT."
)
@click.option("--price", default="67000", show_default=True, help="Initial price in USDT.")
@click.option(
    "--seed", default=0, show_default=True, help="Seed of the market; the same seed repeats it."
)
@click.option("--uid", default="", help="Account id; by default a new one at every start.")
@click.option("--manual", is_flag=True, help="Prices and fills change only by calls under /sim/.")
@click.option(
    "--ground-truth",
    type=WRITABLE,
    help="Append every change of every order to this file, as JSON lines.",
)
@click.option(
    "--prices", type=READABLE, help="Follow the prices in this file: one a line, four a second."
)
@click.option("--faults", default=0.0, type=click.FloatRange(0), help="Faults per minute.")
@click.option(
    "--fault-seed",
    default=0,
    show_default=True,
    help="Seed of the faults; the same seed repeats them.",
)
@click.option("--fault-seconds", default=3600.0, show_default=True, type=click.FloatRange(0))
@click.option("--tls", nargs=2, type=READABLE, help="Certificate chain and key, as PEM files.")
def sim(
    host: str,
    port: int,
    balance: str,
    price: str,
    seed: int,
    uid: str,
    manual: bool,  # noqa: FBT001 - an option
    ground_truth: Path | None,
    prices: Path | None,
    faults: float,
    fault_seed: int,
    fault_seconds: float,
    tls: tuple[Path, Path] | None,
) -> None:
    """Run only the simulated exchange: OKX v5 REST and WebSocket on one port.

    A service uses it with the variables that it prints. The price is a random walk; nothing is kept
    after it ends, unless --ground-truth names a file. Its faults and the calls under /sim/ are described
    in docs/simulator.md.
    """
    logs.configure("console", "info")
    plan = FaultPlan(fault_seed, even_rates(faults), fault_seconds) if faults else None
    _execute(
        partial(
            run_sim,
            host=host,
            port=port,
            balance=_positive("--balance", balance),
            price=_positive("--price", price),
            seed=seed,
            uid=uid,
            manual=manual,
            ground_truth_file=ground_truth,
            prices_file=prices,
            plan=plan,
            tls=tls,
        )
    )


@main.command()
@click.argument("state_id", type=click.IntRange(0, 2**32 - 1))
@click.argument("price", type=click.FloatRange(-1, 1, min_open=True, max_open=True))
@click.argument("volume", type=click.FloatRange(0, 1024, max_open=True))
@click.argument("mid")
@click.option("--market", is_flag=True, help="Send a market order; the default is a limit order.")
@click.option("--dry-run", is_flag=True, help="Print the 25 bytes as hex and publish nothing.")
def send(
    state_id: int,
    price: float,
    volume: float,
    mid: str,
    market: bool,  # noqa: FBT001 - an option
    dry_run: bool,  # noqa: FBT001 - an option
) -> None:
    """Encode one action and publish it to the broker.

    PRICE is the offset from MID in thousandths, and buys if it is below 0: -0.25 is a buy order 0.25
    per mille below MID. VOLUME is the margin in thousandths of the balance. MID is in USDT, with at
    most two decimals. It exits with 1 when no queue takes the action.

    Example: oms-trio send 1 -- -0.25 3 67000.00
    """
    order_type = OrderType.MARKET if market else OrderType.LIMIT
    mid_px = _decimal("MID", mid)
    if not 0 < mid_px <= MID_MAX or mid_px * 100 % 1:
        _fail(2, f"MID must be above 0 and at most {MID_MAX}, with at most two decimals, not {mid}")
    body = encode_action(state_id, order_type, price, volume, mid_px)
    if dry_run:
        click.echo(body.hex())
        return
    config = _config()
    _log(config)
    message_id = _execute(partial(send_action, config, body))
    click.echo(f"published {body.hex()} as {message_id}")


STATE_DIR = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="State folder of the service; by default that of the environment's settings.",
)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole status as JSON.")
@STATE_DIR
def status(as_json: bool, state_dir: Path | None) -> None:  # noqa: FBT001 - an option
    """Show what the running service is doing.

    It connects to the socket in the state folder, so run it as the service's user or as root. It
    exits with 1 when no service answers, or when the service takes no actions.
    """
    folder = state_dir or _config().state_dir
    encoded = _execute(partial(ask, folder, "status"))
    decoded = msgspec.json.decode(encoded)
    if as_json:
        click.echo(msgspec.json.format(encoded, indent=2))
    else:
        Console().print(draw(decoded))
    if not decoded["ready"]:
        sys.exit(FAILED)


@main.command()
@click.argument("verb", type=click.Choice([verb.value for verb in Verb]))
@STATE_DIR
def ctl(verb: str, state_dir: Path | None) -> None:
    """Command the running service; returns when the command has been applied and is on disk.

    \b
    pause       place no new orders; open ones are followed
    resume      place orders again, whatever paused trading
    cancel-all  cancel all our open orders; trading goes on
    kill        pause, and cancel all our open orders
    flatten     kill, and close the position with reduce-only orders
    adopt       pause, and make the exchange's position ours: the difference is booked as a fill
                by hand, and may close a trade

    A pause lasts over restarts, until `resume`.
    """  # noqa: D301 - click reads a backspace as "keep these lines"
    folder = state_dir or _config().state_dir
    _execute(partial(ask, folder, verb))
    click.echo(f"{verb}: done, and on disk")


@main.command()
def check() -> None:
    """Test configuration, credentials, account and broker without trading.

    It prints every setting and its source, then every test and its result. It exits with 1 when a
    test fails, and with 78 when that is due to configuration.
    """
    config = _config(require_credentials=True)
    _log(config, level="error")
    result = _execute(partial(run_check, config))
    if result is not CheckResult.USABLE:
        sys.exit(BAD_CONFIG if result is CheckResult.MISCONFIGURED else FAILED)


def _config(*, require_credentials: bool = False) -> Config:
    try:
        return Config.from_environ(os.environ, require_credentials=require_credentials)
    except ConfigError as error:
        _fail(BAD_CONFIG, *error.problems)


def _logged_config() -> Config:
    config = _config(require_credentials=True)
    _log(config)
    return config


def _log(config: Config, level: str | None = None) -> None:
    style: logs.Style = "json" if config.log == "json" else "console"
    logs.configure(style, level or config.log_level, secrets=config.secrets())


def _decimal(name: str, text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        _fail(2, f"{name} must be a number, not {text}")
    return value


def _positive(name: str, text: str) -> Decimal:
    value = _decimal(name, text)
    if value <= 0:
        _fail(2, f"{name} must be above 0, not {text}")
    return value


def _execute(main_task: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a task; expected errors become one line and an exit code, others keep their traceback."""
    try:
        return trio.run(main_task)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt):
            sys.exit(128 + signal.SIGINT)
        expected = _expected(error)
        if expected is None:
            raise
        # Of several errors report one that a person has to fix.
        first = next((one for one in expected if isinstance(one, Misconfigured)), expected[0])
        _fail(BAD_CONFIG if isinstance(first, Misconfigured) else FAILED, *_lines(first))


def _expected(error: BaseException) -> list[Exception] | None:
    """Return the errors that the user can fix; None when there is any other."""
    if isinstance(error, BaseExceptionGroup):
        found = [_expected(part) for part in error.exceptions]
        return None if None in found else [one for part in found if part for one in part]
    if isinstance(error, (*Expected, socket.gaierror)):
        return [error]
    if isinstance(error, OSError) and error.errno in UNUSABLE_ADDRESS:
        return [error]
    return None


def _lines(expected: Exception) -> tuple[str, ...]:
    return expected.problems if isinstance(expected, ConfigError) else (_line(expected),)


def _line(expected: Exception) -> str:
    if isinstance(expected, OSError) and "OMS_HTTP" not in str(expected.strerror):
        return f"cannot listen on this address ({expected.strerror}): choose another host or port"
    if isinstance(expected, OSError):
        return str(expected.strerror)
    return str(expected)


def _fail(code: int, *lines: str) -> NoReturn:
    for line in lines:
        click.echo(f"oms-trio: {line}", err=True)
    sys.exit(code)
