"""The commands ``replay``, ``export`` and ``record`` of the command line."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import click
from rich.console import Console

from oms_trio.amqp.broker import open_broker
from oms_trio.replay.export.files import Format, export_rows
from oms_trio.replay.export.tables import What
from oms_trio.replay.program import Show, Wanted
from oms_trio.replay.program import replay as run_replay
from oms_trio.replay.recordings.recorder import record_frames
from oms_trio.replay.relay import replay_settings
from oms_trio.replay.times import unix_ns
from oms_trio.replay.watched import Doors
from oms_trio.service.runtime import broker_settings
from oms_trio.settings import logs
from oms_trio.settings.config import Config, ConfigError, HttpAddress

DIFFERENT: Final = 1

PLAIN_WIDTH: Final = 160
"""Width of output to a file or a pipe; a terminal has its own."""


@attrs.frozen
class Hands:
    """What the command line does for its commands.

    ``execute`` runs a task and turns expected errors into one line and an exit code; ``settings``
    reads the environment, ``config`` with credentials, and sets up the log.
    """

    execute: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]
    config: Callable[[], Config]
    settings: Callable[[], Config]


def _speed(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read a factor; infinity means as fast as possible, None that the option is absent."""
    if value is None or value == "max":
        return None if value is None else math.inf
    try:
        factor = float(value)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise click.BadParameter(f"must be max or a factor above 0, not {value}")
    return factor


def _address(_ctx: click.Context, _param: click.Parameter, value: str | None) -> HttpAddress | None:
    """Read an address as OMS_HTTP is read."""
    if value is None:
        return None
    try:
        address = Config.from_environ({"OMS_HTTP": value}).http
    except ConfigError:
        address = None
    if address is None:
        raise click.BadParameter(f"must be host:port or [IPv6]:port, not {value}")
    return address


def _time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Read a time as Unix nanoseconds."""
    try:
        return None if value is None else unix_ns(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_RECORDING = click.argument("file", type=click.Path(exists=True, path_type=Path))


@click.command()
@_RECORDING
@click.option("--verify", is_flag=True, help="Compare all outputs with the recorded ones.")
@click.option("--from", "from_ns", metavar="TIME", callback=_time, help="Start at this time.")
@click.option("--until", "until_ns", metavar="TIME", callback=_time, help="Stop after this time.")
@click.option(
    "--speed",
    metavar="FACTOR",
    callback=_speed,
    help="1 is real time, max as fast as possible.  [default: 1 with --http or --rabbitmq, else max]",
)
@click.option(
    "--http", metavar="HOST:PORT", callback=_address, help="Serve the status page of the replay."
)
@click.option(
    "--rabbitmq",
    is_flag=True,
    help="Publish the messages to the agent to the broker of the RABBITMQ_* settings.",
)
@click.option("--exchange", metavar="NAME", help="Exchange for --rabbitmq; must end in .replay.")
@click.option(
    "--show",
    type=click.Choice([show.value for show in Show]),
    help="Print this part of the state at --until, or at the end.",
)
@click.option("--trade", help="Print one trade, by the okx id that opened or closed it.")
@click.option("--messages", is_flag=True, help="Print the messages to the agent, one a line.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write an HTML page with charts to this file."
)
@click.option(
    "--orders",
    type=click.Choice(["auto", "ours", "all"]),
    default="auto",
    show_default=True,
    help="Whose orders count in frames that another program recorded.",
)
@click.pass_obj
def replay(
    hands: Hands,
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
    """Replay a recorded session and summarize it.

    FILE is a journal or its state folder (also of a running service), or frames of the exchange
    as JSON lines; either also as .gz. Times are ISO 8601 (UTC) or Unix time. With --verify the
    exit code is 1 when anything differs from what was recorded.

    To watch it at its own speed: --http shows it on the status page until Ctrl-C, --rabbitmq publishes
    to an exchange and a queue of its own, named like the service's with .replay added.
    """
    logs.configure("console", "critical")
    doors = _doors(hands, http, exchange, rabbitmq=rabbitmq)
    if doors is not None and (verify or show is not None):
        raise click.UsageError("--verify and --show cannot be combined with --http or --rabbitmq")
    if speed is None:
        speed = math.inf if doors is None else 1.0
    wanted = Wanted(
        path=file,
        verify=verify,
        from_ns=from_ns,
        until_ns=until_ns,
        speed=None if speed == math.inf else speed,
        trade=trade,
        show=None if show is None else Show(show),
        report=report,
        messages=messages,
        adopt={"auto": None, "ours": False, "all": True}[orders],
        doors=doors,
    )
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    if not hands.execute(partial(run_replay, wanted, console)):
        sys.exit(DIFFERENT)


def _doors(
    hands: Hands, http: HttpAddress | None, exchange: str | None, *, rabbitmq: bool
) -> Doors | None:
    """Return where others watch, if anywhere, and log warnings about it."""
    if not rabbitmq:
        if exchange is not None:
            raise click.UsageError("--exchange needs --rabbitmq")
        if http is None:
            return None
        logs.configure("console", "warning")
        return Doors(http=http)
    config = hands.settings()
    logs.configure("console", "warning", secrets=config.secrets())
    try:
        settings = replay_settings(broker_settings(config), exchange)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--exchange") from None
    where = (
        f"exchange {settings.execution_exchange} and the queue of that name on {settings.address}"
    )
    return Doors(http=http, broker=open_broker(settings), where=where)


@click.command()
@_RECORDING
@click.option(
    "--what", type=click.Choice([what.value for what in What]), default="trades", show_default=True
)
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    default="csv",
    show_default=True,
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: standard output.")
@click.pass_obj
def export(hands: Hands, file: Path, what: str, form: str, output: Path | None) -> None:
    """Write the trades, fills, executions or orders of a recording as a table."""
    logs.configure("console", "critical")
    hands.execute(partial(export_rows, file, What(what), Format(form), output))


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Default: until Ctrl-C.")
@click.pass_obj
def record(hands: Hands, out: Path, seconds: float | None) -> None:
    """Record the exchange's frames of a session without trading, as JSON lines (.gz: compressed).

    It logs in and subscribes with the credentials of the environment, and sends no order. Secrets
    are left out, but the frames describe the account: keep them private.
    """
    hands.execute(partial(record_frames, hands.config(), out, seconds))
