"""The commands ``replay``, ``export`` and ``record`` of the command line."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import click
from rich.console import Console

from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.model import Broker
from oms_trio.replay.export.table_files import FileFormat, export_rows
from oms_trio.replay.export.tables import TableName
from oms_trio.replay.recordings.recorder import record_frames
from oms_trio.replay.replay_command import ReplayOptions, Show
from oms_trio.replay.replay_command import replay as run_replay
from oms_trio.replay.republish import replay_settings
from oms_trio.replay.times import parse_time
from oms_trio.service.runtime import broker_settings
from oms_trio.settings import logs
from oms_trio.settings.config import Config, ConfigError, HttpAddress

DIFFERENT: Final = 1
"""The exit code when ``--verify`` found a difference."""

PLAIN_WIDTH: Final = 160
"""Columns of output into a file or a pipe; a terminal has its own width."""


@attrs.frozen
class CliContext:
    """What ``cli`` gives the commands of this module, as click's context object.

    ``execute`` runs an async function and turns expected errors into one line and an exit code.
    ``config`` reads the settings from the environment; ``config_with_credentials`` requires the
    credentials as well, and sets up the log.
    """

    execute: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]
    config_with_credentials: Callable[[], Config]
    config: Callable[[], Config]


def _speed(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Parse a factor: infinity for ``max``, None when the option is not given."""
    if value is None or value == "max":
        return None if value is None else math.inf
    try:
        factor = float(value)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise click.BadParameter(
            f"{value} is not a speed: write max, or a factor above 0 such as 10"
        )
    return factor


def _address(_ctx: click.Context, _param: click.Parameter, value: str | None) -> HttpAddress | None:
    """Parse an address in the way of ``OMS_HTTP``."""
    if value is None:
        return None
    try:
        address = Config.from_environ({"OMS_HTTP": value}).http
    except ConfigError:
        address = None
    if address is None:
        raise click.BadParameter(f"{value} is not host:port or [IPv6]:port")
    return address


def _time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Parse a time to Unix nanoseconds."""
    try:
        return None if value is None else parse_time(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_RECORDING = click.argument("file", type=click.Path(exists=True, path_type=Path))


@click.command()
@_RECORDING
@click.option(
    "--verify",
    is_flag=True,
    help="Compare all outputs with the recorded ones; exit 1 at the first difference.",
)
@click.option(
    "--from", "from_ns", metavar="TIME", callback=_time, help="Leave out what is before this time."
)
@click.option("--until", "until_ns", metavar="TIME", callback=_time, help="Stop after this time.")
@click.option(
    "--speed",
    metavar="FACTOR",
    callback=_speed,
    help="1 is real time, max does not wait.  [default: 1 with --http or --rabbitmq, else max]",
)
@click.option(
    "--http", metavar="HOST:PORT", callback=_address, help="Serve the status page of the replay."
)
@click.option(
    "--rabbitmq",
    is_flag=True,
    help="Publish the messages to the agent on the broker of RABBITMQ_*.",
)
@click.option("--exchange", metavar="NAME", help="Where --rabbitmq publishes; must end in .replay.")
@click.option(
    "--show",
    type=click.Choice([show.value for show in Show]),
    help="Print this part of the state at --until, or at the end.",
)
@click.option(
    "--trade", metavar="ID", help="Print one trade, by the okx id that opened or closed it."
)
@click.option("--messages", is_flag=True, help="Print the messages to the agent, one per line.")
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML page with charts.")
@click.option(
    "--orders",
    type=click.Choice(["auto", "ours", "all"]),
    default="auto",
    show_default=True,
    help="Which orders count in recorded frames: with our tag, or all.",
)
@click.pass_obj
def replay(
    cli: CliContext,
    file: Path,
    verify: bool,  # noqa: FBT001 - an option
    from_ns: int | None,
    until_ns: int | None,
    speed: float | None,
    http: HttpAddress | None,
    rabbitmq: bool,  # noqa: FBT001 - an option
    exchange: str | None,
    show: str | None,
    trade: str | None,
    messages: bool,  # noqa: FBT001 - an option
    report: Path | None,
    orders: str,
) -> None:
    """Play a recorded session again and print what happened in it.

    FILE is a journal or its state folder (also of a running service), or frames of the exchange as
    JSON lines; all also as .gz. Times are ISO 8601 (UTC) or Unix time.

    To watch a replay live: --http shows it on the service's status page until Ctrl-C, --rabbitmq
    publishes its messages to an exchange and a queue of their own, named like the service's exchange
    with .replay appended.
    """
    logs.configure("console", "critical")
    is_live = rabbitmq or http is not None
    if exchange is not None and not rabbitmq:
        raise click.UsageError("--exchange needs --rabbitmq")
    if is_live and (verify or show is not None):
        raise click.UsageError("--verify and --show cannot be combined with --http or --rabbitmq")
    if is_live:
        logs.configure("console", "warning")
    broker, destination = _broker(cli, exchange) if rabbitmq else (None, "")
    if speed is None:
        speed = 1.0 if is_live else math.inf
    options = ReplayOptions(
        path=file,
        verify=verify,
        from_ns=from_ns,
        until_ns=until_ns,
        speed=None if speed == math.inf else speed,
        trade=trade,
        show=None if show is None else Show(show),
        report=report,
        messages=messages,
        all_orders={"auto": None, "ours": False, "all": True}[orders],
        http=http,
        broker=broker,
        destination=destination,
    )
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    if not cli.execute(partial(run_replay, options, console)):
        sys.exit(DIFFERENT)


def _broker(
    cli: CliContext, exchange: str | None
) -> tuple[AbstractAsyncContextManager[Broker], str]:
    """Return the broker for the messages of a replay, and where on it they go."""
    config = cli.config()
    logs.configure("console", "warning", secrets=config.secrets())
    try:
        settings = replay_settings(broker_settings(config), exchange)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--exchange") from None
    name = settings.execution_exchange
    return open_broker(settings), f"exchange {name} and queue {name} on {settings.address}"


@click.command()
@_RECORDING
@click.option(
    "--what",
    type=click.Choice([table.value for table in TableName]),
    default="trades",
    show_default=True,
    help="The table to write.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice([file_format.value for file_format in FileFormat]),
    default="csv",
    show_default=True,
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: standard output.")
@click.pass_obj
def export(cli: CliContext, file: Path, what: str, file_format: str, output: Path | None) -> None:
    """Write what happened in a recording as a table, for a notebook.

    FILE is a recording as in `oms-trio replay`.
    """
    logs.configure("console", "critical")
    cli.execute(partial(export_rows, file, TableName(what), FileFormat(file_format), output))


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Default: until Ctrl-C.")
@click.pass_obj
def record(cli: CliContext, out: Path, seconds: float | None) -> None:
    """Record the exchange's frames without trading, as JSON lines (compressed if OUT ends in .gz).

    Logs in and subscribes with the credentials of the environment; sends no order. Secrets are left
    out, but the frames show balance, positions and orders of the account: share the file with care.
    """
    cli.execute(partial(record_frames, cli.config_with_credentials(), out, seconds))
