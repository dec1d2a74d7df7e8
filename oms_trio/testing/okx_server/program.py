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

from oms_trio.settings.clock import system_clock
from oms_trio.testing.okx_server.auth import SimAccount, draw_uid
from oms_trio.testing.okx_server.exchange import Exchange, Mode
from oms_trio.testing.okx_server.faults.plan import FaultPlan, play
from oms_trio.testing.okx_server.ground_truth import Truth
from oms_trio.testing.okx_server.server import serve

log = structlog.get_logger()


class SimSettingsError(Exception):
    """Something that the command was given cannot be used; the text says what."""


async def run_sim(
    *,
    host: str,
    port: int,
    balance: Decimal,
    price: Decimal,
    seed: int,
    uid: str = "",
    manual: bool = False,
    truth_file: Path | None = None,
    prices_file: Path | None = None,
    plan: FaultPlan | None = None,
    tls: tuple[Path, Path] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, and say first how a service reaches it.

    Without ``uid`` every start is another account, as nothing of the one before is kept.
    ``truth_file`` gets every change of every order as a JSON line, written before anybody is told;
    ``prices_file`` has a price a line for the market to follow; ``tls`` names a certificate chain
    and its key. A fault plan is printed to standard error and starts at once.

    Raises:
        OSError: the port is taken.
        SimSettingsError: one of the files cannot be used.
    """
    prices = iter(read_prices(prices_file)) if prices_file else None
    context = _context(tls) if tls else None
    account = SimAccount(balance=balance, uid=uid or draw_uid(seed, system_clock()))
    with ExitStack() as files:
        # Unbuffered: what the exchange has said outlives a SIGKILL.
        sink = files.enter_context(_appending(truth_file)) if truth_file else None
        exchange = Exchange(
            account=account,
            seed=seed,
            mode=Mode.MANUAL if manual else Mode.AUTO,
            start_px=price,
            truth=Truth(sink=sink.write if sink else None),
            path=prices,
            close_unsubscribed=True,
        )
        async with trio.open_nursery() as nursery:
            serving = partial(serve, exchange, host=host, port=port, ssl_context=context)
            bound = await nursery.start(serving)
            _introduce(account, f"{host}:{bound}", secure=tls is not None)
            if plan is not None:
                print(plan, file=sys.stderr, flush=True)  # noqa: T201 - asked for
                nursery.start_soon(play, exchange, plan)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for number in signals:
                    log.info("sim_stopped", signal=signal.Signals(number).name)
                    nursery.cancel_scope.cancel()
                    break


def _introduce(account: SimAccount, where: str, *, secure: bool) -> None:
    s = "s" if secure else ""
    print(  # noqa: T201 - what the command is for
        f"export OKX_WS_URL=ws{s}://{where}/ws/v5/private\n"
        f"export OKX_REST_URL=http{s}://{where}\n"
        f"export OKX_API_KEY={account.api_key} OKX_SECRET_KEY={account.secret} "
        f"OKX_PASSPHRASE={account.passphrase}\n"
        f"# account {account.uid}: --uid {account.uid} keeps it over a restart",
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
        raise SimSettingsError(f"{tls[0]} and {tls[1]} are no certificate and key") from error
    return context


def read_prices(path: Path) -> list[Decimal]:
    """Read a price a line; empty lines and lines that start with # are skipped.

    Raises:
        SimSettingsError: a line is something else.
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
            raise SimSettingsError(f"{path}, line {number}: {word!r} is no price")
        prices.append(price)
    return prices
