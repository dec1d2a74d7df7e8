"""The whole service in one process: simulated exchange on a loopback port, broker in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import httpx
import pytest
import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Outgoing
from oms_trio.core.model import OrderType, Rules
from oms_trio.journal.journal import Journal
from oms_trio.journal.worker import JournalWorker
from oms_trio.okx.rest import Rest
from oms_trio.okx.session import OkxSession
from oms_trio.okx.websocket import OkxConnection, open_okx_connection
from oms_trio.okx.wire.signing import Credentials
from oms_trio.service.app import run_service
from oms_trio.service.journaled_inputs import DecodeContext
from oms_trio.service.recovery import recover
from oms_trio.settings.clock import system_clock
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import serve
from oms_trio.testing.okx_server.values import ExchangeOrder
from tests.core.desk import RULES

CONTEXT = DecodeContext("BTC-USDT-SWAP", RULES.tag)

SIZED_ACTIONS = pytest.mark.parametrize(
    ("balance", "price", "volume", "mid", "order_type", "side", "px", "sz"),
    [
        ("10000", -0.25, 3.0, "67000.00", OrderType.LIMIT, "buy", "66983.2", "4.5"),
        ("2500", 0.5, 0.75, "67000.01", OrderType.MARKET, "sell", None, "0.3"),
        ("10000", 0.0, 1.5, "64123.45", OrderType.LIMIT, "sell", "64123.5", "2.4"),
        ("50", 0.125, 12.0625, "98765.40", OrderType.LIMIT, "sell", "98777.8", "0.1"),
    ],
)
"""The examples of the contract: balance and action, and the order that they become."""


@attrs.define
class Rig:
    """A running service and what is around it."""

    exchange: SimulatedExchange
    broker: MemoryBroker
    told: trio.MemoryReceiveChannel[Outgoing]
    port: int

    def act(
        self,
        state_id: int,
        price: float,
        volume: float,
        mid: str = "67000",
        order_type: OrderType = OrderType.LIMIT,
    ) -> None:
        """Publish an action as an agent does."""
        body = encode_action(state_id, order_type, price, volume, Decimal(mid))
        self.broker.publish_action(body)

    async def next(self) -> dict[str, Any]:
        """Wait for the next message to the agent."""
        with trio.fail_after(10):
            message = await self.told.receive()
        decoded: dict[str, Any] = json.loads(message.body)
        return decoded

    async def order(self, index: int) -> ExchangeOrder:
        """Wait until the exchange's log has this many orders and return the last of them."""
        with trio.fail_after(10):
            while len(self.exchange.ground_truth.orders()) <= index:  # noqa: ASYNC110 - a log has no event
                await trio.sleep(0.005)
        return self.exchange.ground_truth.orders()[index]


@asynccontextmanager
async def running(
    folder: Path, *, exchange: SimulatedExchange | None = None, rules: Rules = RULES
) -> AsyncIterator[Rig]:
    """Run the service until the block ends, then stop it cleanly."""
    exchange = exchange or SimulatedExchange(mode=MatchingMode.MANUAL)
    account = exchange.account
    credentials = Credentials(account.api_key, account.secret, account.passphrase)
    broker = MemoryBroker()
    ready = trio.Event()
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            rest = Rest(client, credentials, system_clock, inst_id=CONTEXT.inst_id)

            def connect() -> AbstractAsyncContextManager[OkxConnection]:
                session = OkxSession(credentials, CONTEXT.inst_id)
                url = f"ws://127.0.0.1:{port}/ws/v5/private"
                return open_okx_connection(url, session, system_clock, offset_ns=rest.offset_ns)

            with Journal.open(folder / "journal.sqlite") as journal:
                run = partial(
                    run_service,
                    recover(journal, rules, CONTEXT),
                    broker=broker,
                    rest=rest,
                    connect=connect,
                    disk=JournalWorker(journal),
                    rules=rules,
                    context=CONTEXT,
                    max_retries=50,
                    random=Random(1),
                    stop=stop,
                    on_started=ready.set,
                )
                told = broker.subscribe()
                async with trio.open_nursery() as service:
                    service.start_soon(run)
                    with trio.fail_after(10):
                        await ready.wait()
                    yield Rig(exchange, broker, told, port)
                    stop.set()
        nursery.cancel_scope.cancel()
