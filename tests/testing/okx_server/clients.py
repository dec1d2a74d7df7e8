"""A raw WebSocket client and signed REST calls that share no code with the service."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import attrs
import trio
from trio.abc import Stream
from trio.testing import MockClock, memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.rest import router
from oms_trio.testing.okx_server.server import handle_stream

START_MS = 1_790_000_000_000
INST = {"instType": "SWAP", "instId": "BTC-USDT-SWAP"}


@attrs.define
class ManualClock:
    """A clock that a test sets."""

    now_ms: int = START_MS

    def __call__(self) -> int:
        return self.now_ms * 1_000_000


def net_exchange(mode: MatchingMode = MatchingMode.MANUAL, **settings: Any) -> SimulatedExchange:
    """An exchange at 100x in net mode, as a service would have set it up."""
    settings.setdefault("clock", ManualClock())
    exchange = SimulatedExchange(mode=mode, **settings)
    exchange.set_pos_mode("net_mode")
    exchange.set_lever(Decimal(100))
    return exchange


def live_exchange(
    trio_clock: MockClock, mode: MatchingMode = MatchingMode.MANUAL, **settings: Any
) -> SimulatedExchange:
    """``net_exchange`` whose time is Trio's, so that timers and timestamps jump together."""

    def clock() -> int:
        return START_MS * 1_000_000 + round(trio_clock.current_time() * 1e9)

    return net_exchange(mode, clock=clock, **settings)


def signed(secret: str, prehash: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), prehash.encode(), hashlib.sha256)).decode()


def login_frame(account: ExchangeAccount, now_ms: int, **changes: str) -> dict[str, Any]:
    stamp = changes.get("timestamp", str(now_ms // 1000))
    arg = {
        "apiKey": account.api_key,
        "passphrase": account.passphrase,
        "timestamp": stamp,
        "sign": signed(account.secret, f"{stamp}GET/users/self/verify"),
    }
    return {"op": "login", "args": [arg | changes]}


def order_args(**changes: Any) -> dict[str, Any]:
    """Arguments of a resting buy on the WebSocket."""
    order: dict[str, Any] = {
        "instIdCode": 10459,
        "tdMode": "cross",
        "side": "buy",
        "ordType": "limit",
        "px": "66900",
        "sz": "1",
    }
    return {key: value for key, value in (order | changes).items() if value is not None}


@attrs.define
class WsClient:
    """One connection; every wait has a limit, so a missing frame fails the test."""

    exchange: SimulatedExchange
    socket: WebSocketConnection

    async def send(self, frame: dict[str, Any] | str) -> None:
        await self.socket.send_message(frame if isinstance(frame, str) else json.dumps(frame))

    async def text(self) -> str:
        with trio.fail_after(100):
            message = await self.socket.get_message()
        assert isinstance(message, str)
        return message

    async def next(self) -> dict[str, Any]:
        frame = json.loads(await self.text())
        assert isinstance(frame, dict)
        return frame

    async def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        await self.send(frame)
        return await self.next()

    async def login(self) -> None:
        answer = await self.ask(login_frame(self.exchange.account, self.exchange.now_ms))
        assert answer["event"] == "login"
        assert answer["code"] == "0"

    async def subscribe(self, *args: dict[str, Any]) -> list[dict[str, Any]]:
        """Subscribe and return the frames until the last count (or snapshot) has come."""
        await self.send({"id": "sub1", "op": "subscribe", "args": list(args)})
        frames = []
        for arg in args:
            frames += [await self.next(), await self.next()]
            if arg["channel"] != "orders":
                frames.append(await self.next())
        return frames

    async def op(self, op: str, *args: dict[str, Any], **top: Any) -> dict[str, Any]:
        """Send an operation and return its answer, which comes before the pushes it causes."""
        return await self.ask({"id": "q1", "op": op, "args": list(args)} | top)

    async def close_code(self) -> int:
        """Read until the connection is closed, and return the code; 1006 means without a close frame."""
        with suppress(ConnectionClosed):
            while True:
                await self.text()
        assert self.socket.closed is not None
        return int(self.socket.closed.code)

    async def nothing(self, seconds: float = 1.0) -> None:
        """Assert that no frame comes within ``seconds``."""
        with trio.move_on_after(seconds):
            raise AssertionError(await self.text())


@asynccontextmanager
async def connected(
    exchange: SimulatedExchange,
    path: str = "/ws/v5/private",
    streams: Callable[[], tuple[Stream, Stream]] = memory_stream_pair,
) -> AsyncIterator[WsClient]:
    """A WebSocket over in-memory streams."""
    client_side, server_side = streams()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle_stream, exchange, server_side)
        socket = await wrap_client_stream(
            nursery,
            client_side,  # type: ignore[arg-type]  # any stream works; its annotation names two
            "sim",
            path,
        )
        yield WsClient(exchange, socket)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def logged_in(exchange: SimulatedExchange, *channels: str) -> AsyncIterator[WsClient]:
    """A WebSocket that has logged in and subscribed; its acks and snapshots are consumed."""
    async with connected(exchange) as client:
        await client.login()
        for channel in channels:
            extra = {"extraParams": '{"updateInterval":"0"}'}
            arg = {"orders": INST, "positions": INST | extra, "account": {"ccy": "USDT"} | extra}
            arg["balance_and_position"] = {}
            await client.subscribe({"channel": channel} | arg[channel])
        yield client


def headers_for(
    account: ExchangeAccount, method: str, target: str, body: str, now_ms: int
) -> dict[str, str]:
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
    stamp += f"{now_ms % 1000:03d}Z"
    return {
        "ok-access-key": account.api_key,
        "ok-access-sign": signed(account.secret, f"{stamp}{method}{target}{body}"),
        "ok-access-timestamp": stamp,
        "ok-access-passphrase": account.passphrase,
        "content-type": "application/json",
    }


@attrs.define
class RestClient:
    """Signed calls of the router."""

    exchange: SimulatedExchange
    status: int = 0

    def get(self, path: str, **query: str) -> dict[str, Any]:
        target = f"/api/v5{path}" + (f"?{urlencode(query)}" if query else "")
        return self._call("GET", target, "")

    def post(self, path: str, body: Any, **headers: str) -> dict[str, Any]:
        return self._call("POST", f"/api/v5{path}", json.dumps(body), **headers)

    def _call(self, method: str, target: str, body: str, **more: str) -> dict[str, Any]:
        headers = headers_for(self.exchange.account, method, target, body, self.exchange.now_ms)
        response = router.handle(self.exchange, method, target, headers | more, body.encode())
        self.status = response.status
        answer = json.loads(response.body)
        assert isinstance(answer, dict)
        return answer
