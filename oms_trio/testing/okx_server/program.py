"""The simulated exchange as a program of its own."""

from __future__ import annotations

import signal
import ssl
import sys
from contextlib import ExitStack
from decimal import Decimal, InvalidOperation
from functools import partial
from io import FileIO
from pathlib import Path

import structlog
import trio

from oms_trio.testing.okx_server.auth import ExchangeAccount, draw_uid
from oms_trio.testing.okx_server.clock import system_clock
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.faults.plan import FaultPlan, run_plan
from oms_trio.testing.okx_server.ground_truth import GroundTruth
from oms_trio.testing.okx_server.server import serve

log = structlog.get_logger()


class SimSettingsError(Exception):
    """An option of the command cannot be used; the message says which, and why."""


async def run_sim(
    *,
    host: str,
    port: int,
    balance: Decimal,
    price: Decimal,
    seed: int,
    uid: str = "",
    manual: bool = False,
    ground_truth_file: Path | None = None,
    prices_file: Path | None = None,
    plan: FaultPlan | None = None,
    tls: tuple[Path, Path] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; first print the settings with which a service connects.

    Without ``uid`` every start has a new account, as nothing of the one before is kept.
    ``ground_truth_file`` gets every change of every order as a JSON line, written before any client
    is notified; ``prices_file`` has a price per line for the market to follow; ``tls`` names a
    certificate chain and its key. A fault plan is printed to standard error and starts at once.

    Raises:
        OSError: the port is taken.
        SimSettingsError: one of the files cannot be used.
    """
    prices = iter(read_prices(prices_file)) if prices_file else None
    context = _context(tls) if tls else None
    account = ExchangeAccount(balance=balance, uid=uid or draw_uid(seed, system_clock()))
    with ExitStack() as files:
        # Unbuffered: what the exchange has published survives a SIGKILL.
        sink = files.enter_context(_appending(ground_truth_file)) if ground_truth_file else None
        exchange = SimulatedExchange(
            account=account,
            seed=seed,
            mode=MatchingMode.MANUAL if manual else MatchingMode.AUTO,
            start_px=price,
            ground_truth=GroundTruth(sink=sink.write if sink else None),
            prices=prices,
            close_unsubscribed=True,
        )
        async with trio.open_nursery() as nursery:
            serving = partial(serve, exchange, host=host, port=port, ssl_context=context)
            bound = await nursery.start(serving)
            _print_settings(account, f"{host}:{bound}", secure=tls is not None)
            if plan is not None:
                print(plan, file=sys.stderr, flush=True)  # noqa: T201 - for the user
                nursery.start_soon(run_plan, exchange, plan)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for number in signals:
                    log.info("sim_stopped", signal=signal.Signals(number).name)
                    nursery.cancel_scope.cancel()
                    break


def _print_settings(account: ExchangeAccount, where: str, *, secure: bool) -> None:
    s = "s" if secure else ""
    print(  # noqa: T201 - what the command is for
        f"export OKX_WS_URL=ws{s}://{where}/ws/v5/private\n"
        f"export OKX_REST_URL=http{s}://{where}\n"
        f"export OKX_API_KEY={account.api_key} OKX_SECRET_KEY={account.secret} "
        f"OKX_PASSPHRASE={account.passphrase}\n"
        f"# account {account.uid}: --uid {account.uid} keeps it across restarts",
        flush=True,
    )


def _appending(path: Path) -> FileIO:
    try:
        return FileIO(path, "a")
    except OSError as error:
        raise SimSettingsError(f"cannot write {path}: {error.strerror}") from error


def _context(tls: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(*tls)
    except ssl.SSLError as error:
        raise SimSettingsError(
            f"{tls[0]} and {tls[1]} are not a PEM certificate chain and its key: {error.reason}"
        ) from error
    return context


def read_prices(path: Path) -> list[Decimal]:
    """Read one price per line; empty lines and lines that start with # are skipped.

    Raises:
        SimSettingsError: a line is not a price.
    """
    prices: list[Decimal] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        try:
            price = Decimal(word)
        except InvalidOperation:
            price = Decimal(0)
        if not (price.is_finite() and price > 0):
            raise SimSettingsError(f"{path}, line {number}: {word!r} is not a price above 0")
        prices.append(price)
    return prices
