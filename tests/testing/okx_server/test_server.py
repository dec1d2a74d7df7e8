"""The simulated exchange on a real port: HTTP, TLS and WebSockets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import httpx
import pytest
import trio
import trustme
from trio.testing import MockClock, memory_stream_pair
from trio_websocket import ConnectionRejected, open_websocket_url

from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import drive, handle_stream, serve
from tests.testing.okx_server.clients import (
    WsClient,
    connected,
    headers_for,
    live_exchange,
    net_exchange,
    order_args,
)


@asynccontextmanager
async def served(
    exchange: SimulatedExchange, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:

        async def start(task_status: trio.TaskStatus[int]) -> None:
            await serve(exchange, ssl_context=ssl_context, task_status=task_status)

        yield await nursery.start(start)
        nursery.cancel_scope.cancel()


async def test_one_connection_serves_many_rest_calls() -> None:
    exchange = net_exchange()
    async with served(exchange) as port, httpx.AsyncClient() as client:
        base = f"http://127.0.0.1:{port}"
        streams = set()
        for _ in range(3):
            response = await client.get(f"{base}/api/v5/public/time")
            assert response.json()["code"] == "0"
            streams.add(id(response.extensions["network_stream"]))
        assert len(streams) == 1
        target = "/api/v5/trade/order"
        body = '{"instId":"BTC-USDT-SWAP","tdMode":"cross","side":"buy","ordType":"limit","px":"66900","sz":"1"}'
        headers = headers_for(exchange.account, "POST", target, body, exchange.now_ms)
        response = await client.post(base + target, content=body, headers=headers)
        assert response.json()["data"][0]["sCode"] == "0"
        assert (await client.get(f"{base}/nowhere")).status_code == 404


async def test_the_websocket_shares_the_port() -> None:
    exchange = net_exchange()
    async with (
        served(exchange) as port,
        open_websocket_url(f"ws://127.0.0.1:{port}/ws/v5/private") as socket,
    ):
        client = WsClient(exchange, socket)
        await client.login()
        assert (await client.op("order", order_args()))["code"] == "0"


async def test_other_websocket_paths_are_not_found() -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(ConnectionRejected, check=lambda lost: lost.status_code == 404),
        flatten_subgroups=True,
    ):
        async with connected(net_exchange(), "/ws/v5/nothing"):
            raise AssertionError("accepted")


async def test_tls_is_spoken_to_clients_that_trust_the_certificate() -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    exchange = net_exchange()
    async with served(exchange, server) as port:
        async with httpx.AsyncClient(verify=trusting) as client:
            response = await client.get(f"https://localhost:{port}/api/v5/public/time")
            assert response.json()["code"] == "0"
        async with open_websocket_url(
            f"wss://localhost:{port}/ws/v5/private", ssl_context=trusting
        ) as socket:
            await WsClient(exchange, socket).login()
        stranger = await trio.open_ssl_over_tcp_stream("localhost", port)
        with pytest.raises(trio.BrokenResourceError):
            await stranger.do_handshake()
        await trio.aclose_forcefully(stranger)
        async with httpx.AsyncClient(verify=trusting) as client:
            response = await client.get(f"https://localhost:{port}/api/v5/public/time")
            assert response.status_code == 200


@pytest.mark.parametrize(
    "sent", [b"", b"GET", b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"x" * 200_000]
)
async def test_garbage_ends_its_own_connection_only(sent: bytes) -> None:
    """``handle_stream`` closes its stream, and no exception escapes."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle_stream, net_exchange(), theirs)
        await ours.send_all(sent)
        await ours.send_eof()
        with trio.fail_after(5):
            while await ours.receive_some(1000):
                pass


async def test_client_that_leaves_during_the_handshake_ends_its_own_connection_only() -> None:
    ours, theirs = memory_stream_pair()

    async def broken() -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    theirs.send_stream.send_all_hook = broken
    await ours.send_all(
        b"GET /ws/v5/private HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with trio.fail_after(5):
        await handle_stream(net_exchange(), theirs)


async def test_every_byte_of_a_request_may_come_alone() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle_stream, net_exchange(), theirs)
        for byte in b"GET /api/v5/public/time HTTP/1.1\r\nHost: sim\r\n\r\n":
            await ours.send_all(bytes([byte]))
        with trio.fail_after(5):
            assert b'"ts":"1790000000000"' in await ours.receive_some(4096)
        nursery.cancel_scope.cancel()


async def test_a_driven_market_fills_what_it_reaches(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock, MatchingMode.AUTO, seed=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive, exchange)
        async with connected(exchange) as client:
            await client.login()
            await client.op("order", order_args(px="66999", clOrdId="a"))
            await trio.sleep(25)
            await client.send("ping")
            await trio.sleep(25)
        nursery.cancel_scope.cancel()
    (order,) = exchange.ground_truth.orders()
    assert order.state == "filled"
    assert {fill.px for fill in exchange.ground_truth.fills()} == {Decimal(66_999)}
