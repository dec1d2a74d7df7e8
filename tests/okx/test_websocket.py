"""Links over memory streams and over verified TLS, and how they end."""

from __future__ import annotations

import ssl
import sys

import pytest
import trio
import trio_websocket
import trustme
from trio.testing import MockClock

from oms_trio.clock import virtual_clock
from oms_trio.okx.errors import LoginRefusedError, ProtocolError, SessionLostError
from oms_trio.okx.frames import OpResponse, OrdersPush
from oms_trio.okx.session import IDLE_S, Ready, Session
from oms_trio.okx.websocket import Heard, Link, open_link
from tests.okx.fakes import URL, serving, welcome
from tests.okx.samples import (
    CREDENTIALS,
    INST_ID,
    ORDER_OK,
    PARTIAL_FILL,
    error_event,
    live_row,
    orders_push,
)

START_NS = 1_790_000_000_000_000_000

Connection = trio_websocket.WebSocketConnection


def new_session() -> Session:
    return Session(CREDENTIALS, INST_ID)


async def until_ready(link: Link) -> Ready:
    heard = await anext(link)
    assert isinstance(heard.event, Ready)
    return heard.event


async def everything(link: Link, into: list[object] | None = None) -> None:
    """Listen until the link ends, which it does by an error."""
    async for heard in link:
        if into is not None:
            into.append(heard.event)


async def test_a_link_logs_in_subscribes_and_tells_what_it_hears() -> None:
    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        assert await connection.get_message() == "an op"
        await connection.send_message(ORDER_OK)
        await connection.send_message(PARTIAL_FILL)
        await trio.sleep_forever()

    clock = virtual_clock(START_NS)
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        async with open_link(URL, new_session(), clock, open_stream=opener) as link:
            assert await until_ready(link) == Ready("7c1d90ab")
            await link.send("an op")
            answer, push = await anext(link), await anext(link)
        nursery.cancel_scope.cancel()
    assert isinstance(answer.event, OpResponse)
    assert isinstance(push, Heard)
    assert isinstance(push.event, OrdersPush)
    assert push.text == PARTIAL_FILL
    assert push.at_ns >= START_NS


async def test_the_transport_is_read_64_kib_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    async def opening(host: str, port: int) -> trio.abc.Stream:
        stream = await opener(host, port)
        receive_some = stream.receive_some

        async def noting(max_bytes: int | None = None) -> bytes | bytearray:
            asked.append(max_bytes)
            return await receive_some(max_bytes)

        monkeypatch.setattr(stream, "receive_some", noting)
        return stream

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, welcome)
        async with open_link(URL, new_session(), lambda: 0, open_stream=opening) as link:
            await until_ready(link)
    assert set(asked) == {65536}


async def test_login_is_signed_on_the_clock_of_the_exchange() -> None:
    logins: list[str | bytes] = []

    async def exchange(connection: Connection) -> None:
        logins.append(await connection.get_message())

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(SessionLostError):
            async with open_link(
                URL, new_session(), lambda: START_NS, offset_ns=7_900_000_000, open_stream=opener
            ) as link:
                await anext(link)
    assert '"timestamp":"1790000007"' in str(logins)


async def test_a_silent_session_is_kept_alive_by_text_pings(autojump_clock: MockClock) -> None:
    """QuantDinger#236: the exchange closes with 4004 after 30 s in which nothing was sent."""
    pings: list[float] = []

    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        while len(pings) < 10:
            with trio.fail_after(29.9):
                assert await connection.get_message() == "ping"
            pings.append(trio.current_time())
            await connection.send_message("pong")
        await connection.send_message(PARTIAL_FILL)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        clock = virtual_clock(START_NS)
        async with open_link(URL, new_session(), clock, open_stream=opener) as link:
            await until_ready(link)
            heard = await anext(link)
        nursery.cancel_scope.cancel()
    assert isinstance(heard.event, OrdersPush)
    assert pings == [IDLE_S * number for number in range(1, 11)]
    assert heard.at_ns == START_NS + round(10 * IDLE_S * 1e9)
    assert autojump_clock.current_time() >= 10 * IDLE_S


async def test_a_link_that_answers_no_ping_is_lost(autojump_clock: MockClock) -> None:
    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(SessionLostError, match="no frame for 30 s"):
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
                await everything(link)
        assert 2 * IDLE_S <= autojump_clock.current_time() < 2 * IDLE_S + 3
        nursery.cancel_scope.cancel()


async def test_a_slow_consumer_does_not_take_waiting_frames_for_silence(
    autojump_clock: MockClock,
) -> None:
    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await connection.send_message(PARTIAL_FILL)
        await connection.send_message("pong")
        await connection.send_message(PARTIAL_FILL)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
            await until_ready(link)
            for _ in range(2):
                await trio.sleep(100)
                assert isinstance((await anext(link)).event, OrdersPush)
        nursery.cancel_scope.cancel()
    assert autojump_clock.current_time() >= 200


async def test_a_burst_does_not_stop_protocol_pings_from_being_answered() -> None:
    """trio-websocket#82: with its default queue of 1 the reader stalls behind the consumer."""

    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        for number in range(300):
            await connection.send_message(orders_push(live_row(ordId=str(number))))
        with trio.fail_after(5):
            await connection.ping(b"still there?")
        answered.set()
        await trio.sleep_forever()

    answered = trio.Event()
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
            await until_ready(link)
            await answered.wait()
            for number in range(300):
                event = (await anext(link)).event
                assert isinstance(event, OrdersPush)
                assert event.reports[0].ord_id == str(number)
        nursery.cancel_scope.cancel()


async def test_frames_sent_before_a_close_are_told_before_the_loss() -> None:
    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await connection.send_message(PARTIAL_FILL)
        await connection.aclose(4004, "No data received in 30s")

    told: list[object] = []
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(SessionLostError, match=r"closed with 4004 \(No data received in 30s\)"):
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
                await everything(link, into=told)
    assert [type(event) for event in told] == [Ready, OrdersPush]
    with pytest.raises(SessionLostError):
        await link.send("too late")


async def test_a_refused_login_comes_out_alone_not_in_a_group() -> None:
    """trio-websocket#188."""

    async def exchange(connection: Connection) -> None:
        await connection.get_message()
        await connection.send_message(error_event("60024"))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(LoginRefusedError, match="60024"):
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
                await anext(link)
        nursery.cancel_scope.cancel()


async def test_what_the_block_raises_comes_out_unchanged() -> None:
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, welcome)
        error = RuntimeError("of the block")
        with pytest.raises(RuntimeError) as caught:
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener):
                raise error
        assert caught.value is error
        nursery.cancel_scope.cancel()


async def test_a_group_of_the_block_comes_out_unchanged_too() -> None:
    """Blocks run nurseries, whose errors are groups: those are not the reader's."""
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, welcome)
        error = ExceptionGroup("of the block", [RuntimeError("one"), ValueError("two")])
        with pytest.raises(ExceptionGroup) as caught:
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener):
                raise error
        assert caught.value is error
        nursery.cancel_scope.cancel()


async def test_an_error_of_the_block_is_not_hidden_by_a_crash_of_the_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def crash(_self: object, _event: object) -> None:
        raise RuntimeError("LocalProtocolError")

    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await connection.ping()

    async def cut_off() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while cancelled")

    async def block(link: Link) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(cut_off)
            inner.start_soon(trio.sleep_forever)
            await until_ready(link)
            await trio.sleep_forever()

    monkeypatch.setattr(Connection, "_handle_ping_event", crash)
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(ExceptionGroup) as caught:
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
                await block(link)
        assert caught.value.subgroup(ValueError) is not None
        assert "Cancelled" not in repr(caught.value)
        nursery.cancel_scope.cancel()


async def test_cancellation_passes_through_and_leaves_nothing_running(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:

        async def exchange(connection: Connection) -> None:
            await welcome(connection)
            with pytest.raises(trio_websocket.ConnectionClosed):
                await connection.get_message()
            gone.set()

        gone = trio.Event()
        opener = serving(nursery, exchange)
        with trio.move_on_after(5) as scope:
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
                await until_ready(link)
                await trio.sleep_forever()
        assert scope.cancelled_caught
        await gone.wait()
    assert autojump_clock.current_time() < 10


async def test_a_crash_of_the_websocket_reader_is_a_lost_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """trio-websocket#184: errors of the protocol come out of its reader task."""

    async def crash(_self: object, _event: object) -> None:
        raise RuntimeError("LocalProtocolError")

    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await connection.ping()

    monkeypatch.setattr(Connection, "_handle_ping_event", crash)
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(SessionLostError, match="LocalProtocolError"):
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
                await everything(link)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("frame", [b"binary", '{"arg":{"channel":"orders"},"data":[7]}'])
async def test_a_frame_that_cannot_be_read_ends_the_link(frame: str | bytes) -> None:
    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await connection.send_message(frame)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(ProtocolError):
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
                await everything(link)
        nursery.cancel_scope.cancel()


async def test_after_a_send_that_was_cut_off_the_link_is_over(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def stuck(_self: object, _message: str) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, welcome)
        async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as link:
            await until_ready(link)
            monkeypatch.setattr(Connection, "send_message", stuck)
            with trio.move_on_after(1):
                await link.send("half a frame")
            with pytest.raises(SessionLostError, match="cut off"):
                await link.send("the next frame")
        nursery.cancel_scope.cancel()
    assert autojump_clock.current_time() >= 1


async def test_two_links_can_be_open_at_once() -> None:
    """A second session is ready before the first one goes (notice 64008)."""

    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await connection.send_message(PARTIAL_FILL)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as second:
            async with open_link(URL, new_session(), lambda: 0, open_stream=opener) as first:
                await until_ready(first)
                await until_ready(second)
                assert isinstance((await anext(first)).event, OrdersPush)
            assert isinstance((await anext(second)).event, OrdersPush)
        nursery.cancel_scope.cancel()


async def test_an_exchange_that_does_not_answer_the_handshake_is_given_up(
    autojump_clock: MockClock,
) -> None:
    async def open_stream(_host: str, _port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        kept.append(theirs)
        return ours

    kept: list[trio.abc.Stream] = []
    with pytest.raises(SessionLostError, match="timed out"):
        async with open_link(URL, new_session(), lambda: 0, open_stream=open_stream):
            pytest.fail("no link")
    assert autojump_clock.current_time() == 10


async def test_no_connection_is_a_lost_session() -> None:
    async def open_stream(_host: str, _port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise OSError("connection refused")

    with pytest.raises(SessionLostError, match="connection refused"):
        async with open_link(URL, new_session(), lambda: 0, open_stream=open_stream):
            pytest.fail("no link")


@pytest.mark.parametrize(
    "url", ["ws://ws.okx.com/ws/v5/private", "http://localhost/", "localhost", "ws://8.8.8.8/"]
)
async def test_an_unprotected_url_is_for_this_machine_only(url: str) -> None:
    with pytest.raises(ValueError, match=r"ws:|WebSocket"):
        async with open_link(url, new_session(), lambda: 0):
            pytest.fail("no link")


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
        async with open_link(url, new_session(), lambda: 0, ssl_context=context) as link:
            await until_ready(link)
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(sys.platform == "win32", reason="certificates there are checked elsewhere")
async def test_an_untrusted_certificate_is_refused() -> None:
    """The server's end of the failed handshake is not our matter: it is left to its own errors."""
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
            async with open_link(f"wss://localhost:{port}/", new_session(), lambda: 0):
                pytest.fail("no link")


async def test_the_transport_is_closed_after_a_loss_too() -> None:
    """trio-websocket leaves it open when the peer has gone without a goodbye."""

    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await trio.aclose_forcefully(connection._stream)

    transports: list[trio.abc.Stream] = []

    async def remembering(host: str, port: int) -> trio.abc.Stream:
        transports.append(await opener(host, port))
        return transports[-1]

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(SessionLostError):
            async with open_link(URL, new_session(), lambda: 0, open_stream=remembering) as link:
                await everything(link)
    with pytest.raises(trio.ClosedResourceError):
        await transports[0].send_all(b"x")
