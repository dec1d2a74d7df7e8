"""The service as ``oms-trio run`` builds it, in this process: settings, sockets, pages and all.

Unlike the rig it has a state folder of its own that outlives it, so that it can be started again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Outgoing
from oms_trio.core.model import OrderType
from oms_trio.ops.control.client import ask
from oms_trio.service.runtime import serve
from oms_trio.settings.config import Config
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import serve as serve_exchange
from oms_trio.testing.okx_server.values import ExchangeOrder

PATIENCE_S = 10.0


@attrs.define
class Station:
    """A running service and what is around it."""

    exchange: SimulatedExchange
    broker: MemoryBroker
    told: trio.MemoryReceiveChannel[Outgoing]
    state_dir: Path
    url: str
    stop: trio.Event

    def act(
        self,
        state_id: int,
        price: float = -1e-9,
        volume: float = 0.66,
        order_type: OrderType = OrderType.LIMIT,
        mid: str = "67000",
        message_id: str | None = None,
    ) -> None:
        """Publish an action as an agent does; by default it buys 1 contract."""
        body = encode_action(state_id, order_type, price, volume, Decimal(mid))
        self.broker.publish_action(body, message_id)

    async def heard(self) -> dict[str, Any]:
        """Wait for the next message to the agent."""
        with trio.fail_after(PATIENCE_S):
            message = await self.told.receive()
        decoded: dict[str, Any] = msgspec.json.decode(message.body)
        return decoded

    async def ask(self, what: str) -> dict[str, Any]:
        """Ask the control socket; gives the status, if that was asked for."""
        said = await ask(self.state_dir, what)
        decoded: dict[str, Any] = msgspec.json.decode(said) if said else {}
        return decoded

    async def until(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until the status is as wanted."""
        with trio.fail_after(PATIENCE_S):
            while not wanted(status := await self.ask("status")):  # noqa: ASYNC110 - it is polled
                await trio.sleep(0.02)
        return status

    async def orders(self, count: int) -> list[ExchangeOrder]:
        """Wait until the exchange has seen this many orders."""
        with trio.fail_after(PATIENCE_S):
            while len(self.exchange.ground_truth.orders()) < count:  # noqa: ASYNC110 - a log has no event
                await trio.sleep(0.005)
        return self.exchange.ground_truth.orders()

    @property
    def resting(self) -> list[ExchangeOrder]:
        """What is open on the exchange."""
        return list(self.exchange.engine.book.pending)

    @property
    def held(self) -> Decimal:
        """The exchange's position."""
        return self.exchange.engine.ledger.pos


def settings(exchange: SimulatedExchange, port: int, folder: Path, **more: str) -> dict[str, str]:
    """The environment of a service that trades on this exchange."""
    account = exchange.account
    return {
        "OKX_API_KEY": account.api_key,
        "OKX_SECRET_KEY": account.secret,
        "OKX_PASSPHRASE": account.passphrase,
        "OKX_WS_URL": f"ws://127.0.0.1:{port}/ws/v5/private",
        "OKX_REST_URL": f"http://127.0.0.1:{port}",
        "OMS_STATE_DIR": str(folder / "state"),
        "OMS_HTTP": "127.0.0.1:0",
        **more,
    }


@asynccontextmanager
async def serving(
    folder: Path, exchange: SimulatedExchange | None = None, **more: str
) -> AsyncIterator[Station]:
    """Run the service until the block ends, then stop it cleanly; the state stays in ``folder``."""
    exchange = SimulatedExchange(mode=MatchingMode.MANUAL) if exchange is None else exchange
    broker = MemoryBroker()
    told = broker.subscribe()
    stop, started = trio.Event(), trio.Event()
    urls: list[str] = []
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve_exchange, exchange))
        config = Config.from_environ(settings(exchange, port, folder, **more))
        async with trio.open_nursery() as service:
            service.start_soon(
                partial(
                    serve,
                    config,
                    broker=nullcontext(broker),
                    stop=stop,
                    started=started.set,
                    listening=urls.append,
                )
            )
            with trio.fail_after(PATIENCE_S):
                await started.wait()
            url = urls[0] if urls else ""
            yield Station(exchange, broker, told, config.state_dir, url, stop)
            stop.set()
        nursery.cancel_scope.cancel()
