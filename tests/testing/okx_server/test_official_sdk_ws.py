"""The WebSocket clients of the exchange's own SDK, over TLS: they place, follow and cancel orders."""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme

from oms_trio.settings.clock import system_clock
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import serve

pytest.importorskip("okx", reason="python-okx is not installed", exc_type=ImportError)
INST = {"instId": "BTC-USDT-SWAP"}
PATIENCE_S = 10
ORDER = {
    "instIdCode": 10459,
    "tdMode": "cross",
    "side": "buy",
    "ordType": "limit",
    "px": "66900",
    "sz": "2",
}


@attrs.define
class ReceivedFrames:
    """What the SDK's callback was given, in order."""

    frames: asyncio.Queue[str] = attrs.Factory(asyncio.Queue)

    async def until(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Read until a frame is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame: dict[str, Any] = json.loads(await self.frames.get())
                if wanted(frame):
                    return frame

    async def answer(self, name: str) -> dict[str, Any]:
        return await self.until(lambda frame: frame.get("id") == name)

    async def order(self, state: str) -> dict[str, Any]:
        frame = await self.until(
            lambda frame: frame.get("arg", {}).get("channel") == "orders" and "data" in frame
        )
        (order,) = frame["data"]
        assert order["state"] == state
        return dict(order)


async def with_sdk(
    exchange: SimulatedExchange,
    trust: pytest.MonkeyPatch,
    folder: Path,
    script: Callable[[int], Awaitable[None]],
) -> None:
    """Run an asyncio script in a thread, against a real port with a certificate to be trusted."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trust.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    def run(port: int) -> None:
        async def main() -> None:
            await script(port)

        asyncio.run(main())

    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange, ssl_context=context))
        await trio.to_thread.run_sync(run, port)
        nursery.cancel_scope.cancel()


def sdk(name: str) -> Any:
    return getattr(importlib.import_module(f"okx.websocket.{name}"), name)


async def test_orders_are_placed_followed_amended_and_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = SimulatedExchange(clock=system_clock, mode=MatchingMode.MANUAL)
    exchange.set_pos_mode("net_mode")
    exchange.set_lever(Decimal(100))
    token = trio.lowlevel.current_trio_token()

    async def script(port: int) -> None:
        account, received = exchange.account, ReceivedFrames()
        client = sdk("WsPrivateAsync")(
            apiKey=account.api_key,
            passphrase=account.passphrase,
            secretKey=account.secret,
            url=f"wss://localhost:{port}/ws/v5/private",
        )
        reading = await client.start()
        client.callback = received.frames.put_nowait
        await client.login()
        assert (await received.until(lambda frame: frame.get("event") == "login"))["code"] == "0"
        await client.send("subscribe", [{"channel": "orders", "instType": "SWAP"} | INST], id="s")
        await received.answer("s")

        names = [{**ORDER, "clOrdId": name} for name in ("a", "b")]
        await client.place_order(names[:1], id="p")
        placed = (await received.answer("p"))["data"][0]
        assert (placed["sCode"], placed["clOrdId"]) == ("0", "a")
        assert (await received.order("live"))["ordId"] == placed["ordId"]
        trio.from_thread.run_sync(
            exchange.fill, "a", Decimal("0.5"), Decimal(66_900), trio_token=token
        )
        part = await received.order("partially_filled")
        assert (part["fillSz"], part["execType"]) == ("0.5", "M")

        target = {"instIdCode": 10459, "clOrdId": "a"}
        await client.amend_order([target | {"newSz": "1", "reqId": "r1"}], id="m")
        assert (await received.answer("m"))["data"][0]["reqId"] == "r1"
        assert (await received.order("partially_filled"))["amendResult"] == "0"

        await client.batch_orders(names, id="q")
        batch = await received.answer("q")
        assert (batch["code"], [row["sCode"] for row in batch["data"]]) == ("2", ["51016", "0"])
        await received.order("live")

        await client.cancel_order([target], id="c")
        assert (await received.answer("c"))["data"][0]["sCode"] == "0"
        assert (await received.order("canceled"))["accFillSz"] == "0.5"
        await client.batch_cancel_orders([{"instIdCode": 10459, "clOrdId": "b"}], id="d")
        assert (await received.answer("d"))["code"] == "0"
        await client.mass_cancel([{"instType": "OPTION", "instFamily": "BTC-USD"}], id="e")
        assert (await received.answer("e"))["code"] == "51010"
        await client.stop()
        await reading

    await with_sdk(exchange, monkeypatch, tmp_path, script)
    assert [order.state for order in exchange.ground_truth.orders()] == ["canceled", "canceled"]


async def test_a_wrong_passphrase_is_an_error_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = SimulatedExchange(clock=system_clock)

    async def script(port: int) -> None:
        account, received = exchange.account, ReceivedFrames()
        client = sdk("WsPrivateAsync")(
            apiKey=account.api_key,
            passphrase="wrong",
            secretKey=account.secret,
            url=f"wss://localhost:{port}/ws/v5/private",
        )
        reading = await client.start()
        client.callback = received.frames.put_nowait
        await client.login()
        assert (await received.until(lambda frame: "event" in frame))["code"] == "60024"
        closed = await received.until(lambda frame: frame.get("code") == "ConnClosed")
        assert "4001" in closed["msg"]
        with pytest.raises(Exception, match="4001"):
            await reading

    await with_sdk(exchange, monkeypatch, tmp_path, script)


async def test_prices_are_followed_without_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = SimulatedExchange(clock=system_clock, mode=MatchingMode.MANUAL)

    async def script(port: int) -> None:
        received = ReceivedFrames()
        client = sdk("WsPublicAsync")(url=f"wss://localhost:{port}/ws/v5/public")
        reading = await client.start()
        await client.subscribe([{"channel": "mark-price"} | INST], received.frames.put_nowait)
        pushed = await received.until(lambda frame: "data" in frame)
        assert pushed["data"][0]["markPx"] == "67000"
        await client.stop()
        await reading

    await with_sdk(exchange, monkeypatch, tmp_path, script)
