"""The simulated exchange as a program of its own."""

from __future__ import annotations

import signal
from decimal import Decimal
from functools import partial

import structlog
import trio

from oms_trio.sim.auth import SimAccount
from oms_trio.sim.exchange import Exchange
from oms_trio.sim.server import serve
from oms_trio.sim.truth import Truth

log = structlog.get_logger()


async def run_sim(*, host: str, port: int, balance: Decimal, price: Decimal, seed: int) -> None:
    """Serve until SIGTERM or Ctrl-C, and say first how a service reaches it.

    Raises:
        OSError: the port is taken.
    """
    account = SimAccount(balance=balance)
    exchange = Exchange(account=account, seed=seed, start_px=price, truth=Truth(keep=False))
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, exchange, host=host, port=port))
        print(  # noqa: T201 - what the command is for
            f"export OKX_WS_URL=ws://{host}:{bound}/ws/v5/private\n"
            f"export OKX_REST_URL=http://{host}:{bound}\n"
            f"export OKX_API_KEY={account.api_key} OKX_SECRET_KEY={account.secret} "
            f"OKX_PASSPHRASE={account.passphrase}",
            flush=True,
        )
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("sim_stopped", signal=signal.Signals(number).name)
                nursery.cancel_scope.cancel()
                break
