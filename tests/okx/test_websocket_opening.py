"""How connections are opened: transport, TLS and WebSocket handshake, and their failures."""

from __future__ import annotations

import ssl
import sys

import pytest
import trio
import trio_websocket
import trustme
from trio.testing import MockClock

from oms_trio.okx.errors import SessionLostError
from oms_trio.okx.websocket import open_okx_connection
from tests.okx.fakes import URL, new_session, until_ready, welcome


async def test_a_handshake_without_an_answer_times_out(
    autojump_clock: MockClock,
) -> None:
    async def open_stream(_host: str, _port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        kept.append(theirs)
        return ours

    kept: list[trio.abc.Stream] = []
    with pytest.raises(SessionLostError, match="timed out"):
        async with open_okx_connection(URL, new_session(), lambda: 0, open_stream=open_stream):
            pytest.fail("it was opened")
    assert autojump_clock.current_time() == 10


@pytest.mark.parametrize("url", [URL, URL.replace("ws:", "wss:")])
async def test_a_connection_cancelled_while_opening_is_closed(
    url: str, autojump_clock: MockClock
) -> None:
    async def open_stream(_host: str, _port: int) -> trio.abc.Stream:
        kept.extend(trio.testing.memory_stream_pair())
        return kept[0]

    kept: list[trio.abc.Stream] = []
    with trio.move_on_after(1) as scope:
        async with open_okx_connection(url, new_session(), lambda: 0, open_stream=open_stream):
            pytest.fail("it was opened")
    assert scope.cancelled_caught
    assert autojump_clock.current_time() == 1
    with pytest.raises(trio.ClosedResourceError):
        await kept[0].send_all(b"x")


async def test_a_server_without_a_websocket_is_reported_with_its_http_status() -> None:
    async def reject(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    async def open_stream(_host: str, _port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(reject, theirs)
        return ours

    async with trio.open_nursery() as nursery:
        with pytest.raises(SessionLostError, match="HTTP 503"):
            async with open_okx_connection(URL, new_session(), lambda: 0, open_stream=open_stream):
                pytest.fail("it was opened")


async def test_no_connection_is_a_lost_session() -> None:
    async def open_stream(_host: str, _port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise OSError("connection refused")

    with pytest.raises(SessionLostError, match="connection refused"):
        async with open_okx_connection(URL, new_session(), lambda: 0, open_stream=open_stream):
            pytest.fail("it was opened")


@pytest.mark.parametrize(
    "url", ["ws://ws.okx.com/ws/v5/private", "http://localhost/", "localhost", "ws://8.8.8.8/"]
)
async def test_an_unencrypted_url_is_for_this_machine_only(url: str) -> None:
    with pytest.raises(ValueError, match=r"ws:|WebSocket"):
        async with open_okx_connection(url, new_session(), lambda: 0):
            pytest.fail("it was opened")


async def tls_exchange(authority: trustme.CA, nursery: trio.Nursery) -> str:
    """Serve over TLS on a free port of this machine; return the URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        await welcome(await request.accept())
        await trio.sleep_forever()

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    server = trio_websocket.WebSocketServer(handler, listeners)
    nursery.start_soon(server.run)
    return f"wss://localhost:{server.port}/ws/v5/private"


async def test_a_trusted_certificate_is_accepted() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with trio.open_nursery() as nursery:
        url = await tls_exchange(authority, nursery)
        async with open_okx_connection(
            url, new_session(), lambda: 0, ssl_context=context
        ) as connection:
            await until_ready(connection)
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(sys.platform == "win32", reason="certificates there are checked elsewhere")
async def test_an_untrusted_certificate_is_rejected() -> None:
    """Errors at the server's end of the failed handshake are ignored."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    (listener,) = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    port = listener.transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined] # a SocketListener

    async def serve() -> None:
        stream = await listener.accept()
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
        await trio.aclose_forcefully(stream)

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(SessionLostError, match="CERTIFICATE_VERIFY_FAILED"):
            async with open_okx_connection(f"wss://localhost:{port}/", new_session(), lambda: 0):
                pytest.fail("it was opened")
