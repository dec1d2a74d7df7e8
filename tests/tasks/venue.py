"""The simulated exchange without a network: WebSocket and REST under the jumping clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from functools import partial

import attrs
import httpx
import pytest
import trio
from trio.testing import memory_stream_pair

from oms_trio.okx.rest import Rest
from oms_trio.okx.session import OkxSession
from oms_trio.okx.websocket import OkxConnection, open_okx_connection
from oms_trio.okx.wire.signing import Credentials
from oms_trio.service.journaled_inputs import DecodeContext, JournaledInput, Kind
from oms_trio.settings.clock import Clock, virtual_clock
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.rest import router as sim_rest
from oms_trio.testing.okx_server.server import drive, handle_stream

START_NS = 1_790_000_000_000_000_000
CONTEXT = DecodeContext("BTC-USDT-SWAP", "omstrio")
SET_UP = ExchangeAccount(lever=Decimal(100), pos_mode="net_mode")
"""An account as a service leaves it."""

URL = "ws://localhost/ws/v5/private"


@attrs.define
class Venue:
    """An exchange, and every way to it that the service has."""

    exchange: SimulatedExchange
    clock: Clock
    nursery: trio.Nursery
    tried: list[float] = attrs.Factory(list)
    """When each WebSocket was tried, on Trio's clock."""
    rest_calls: list[str] = attrs.Factory(list)
    """Every REST call, as method and path."""

    async def open_stream(self, _host: str, _port: int) -> trio.abc.Stream:
        """Connect as ``trio.open_tcp_stream`` does."""
        await trio.lowlevel.checkpoint()
        self.tried.append(trio.current_time())
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(handle_stream, self.exchange, theirs)
        return ours

    def connector(
        self, rest: Rest, credentials: Credentials | None = None
    ) -> Callable[[], AbstractAsyncContextManager[OkxConnection]]:
        """Return what opens one session after the other, as the live service has it."""

        def connect() -> AbstractAsyncContextManager[OkxConnection]:
            return open_okx_connection(
                URL,
                OkxSession(credentials or key_of(self.exchange.account), CONTEXT.inst_id),
                self.clock,
                offset_ns=rest.offset_ns,
                open_stream=self.open_stream,
            )

        return connect

    @asynccontextmanager
    async def open_rest(self, credentials: Credentials | None = None) -> AsyncIterator[Rest]:
        """Open the REST side, signed by the account's own key unless told otherwise."""
        transport = _Router(self)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            key = credentials or key_of(self.exchange.account)
            yield Rest(client, key, self.clock, inst_id=CONTEXT.inst_id)


def key_of(account: ExchangeAccount) -> Credentials:
    """The key that the simulated account accepts."""
    return Credentials(account.api_key, account.secret, account.passphrase)


@attrs.frozen
class _Router(httpx.AsyncBaseTransport):
    """REST calls straight into the exchange's router, with the faults of its network."""

    venue: Venue

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        exchange = self.venue.exchange
        self.venue.rest_calls.append(f"{request.method} {request.url.path}")
        if exchange.faults.refuse_connections:
            raise httpx.ConnectError("connection refused")
        answer = sim_rest.handle(
            exchange,
            request.method,
            request.url.raw_path.decode("ascii"),
            {name.lower(): value for name, value in request.headers.items()},
            await request.aread(),
        )
        if exchange.faults.silence:
            await trio.sleep_forever()
        await trio.sleep(answer.delay_s)
        return httpx.Response(answer.status, content=answer.body)


@asynccontextmanager
async def open_venue(
    *,
    mode: MatchingMode = MatchingMode.MANUAL,
    account: ExchangeAccount = SET_UP,
    skew_ns: int = 0,
) -> AsyncIterator[Venue]:
    """An exchange whose clock is Trio's; ``skew_ns`` is how far ours is behind it."""
    clock = virtual_clock(START_NS)
    exchange = SimulatedExchange(account=account, mode=mode, clock=lambda: clock() + skew_ns)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(drive, exchange))
        yield Venue(exchange, clock, nursery)
        nursery.cancel_scope.cancel()


async def failure_of(run: Awaitable[object]) -> BaseException:
    """Wait for what must fail, and take its one error out of the groups around it."""
    with pytest.raises(BaseExceptionGroup) as caught:
        await run
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return error


async def next_of(
    arrivals: trio.MemoryReceiveChannel[JournaledInput], *kinds: Kind
) -> JournaledInput:
    """Wait for the next arrival of one of these kinds; what comes before it is dropped."""
    with trio.fail_after(600):
        async for arrival in arrivals:
            if arrival.kind in kinds:
                return arrival
    raise AssertionError("the channel was closed")


def waiting_in(arrivals: trio.MemoryReceiveChannel[JournaledInput]) -> list[JournaledInput]:
    """Take all that has arrived and was not looked at."""
    taken: list[JournaledInput] = []
    while arrivals.statistics().current_buffer_used:
        taken.append(arrivals.receive_nowait())
    return taken
