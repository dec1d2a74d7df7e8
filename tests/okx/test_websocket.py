"""The events of a connection, and how it is kept alive."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from oms_trio.okx.errors import SessionLostError
from oms_trio.okx.session import IDLE_S, Ready
from oms_trio.okx.websocket import ReceivedEvent, open_okx_connection
from oms_trio.okx.wire.frames import OpResponse, OrdersPush
from oms_trio.settings.clock import virtual_clock
from tests.okx.fakes import URL, Connection, everything, new_session, serving, until_ready, welcome
from tests.okx.samples import (
    ORDER_OK,
    PARTIAL_FILL,
    live_row,
    orders_push,
)

START_NS = 1_790_000_000_000_000_000


async def test_a_connection_logs_in_subscribes_and_reports_events() -> None:
    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        assert await connection.get_message() == "an op"
        await connection.send_message(ORDER_OK)
        await connection.send_message(PARTIAL_FILL)
        await trio.sleep_forever()

    clock = virtual_clock(START_NS)
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        async with open_okx_connection(URL, new_session(), clock, open_stream=opener) as connection:
            assert await until_ready(connection) == Ready("7c1d90ab")
            await connection.send("an op")
            answer, push = await anext(connection), await anext(connection)
        nursery.cancel_scope.cancel()
    assert isinstance(answer.event, OpResponse)
    assert isinstance(push, ReceivedEvent)
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
        async with open_okx_connection(
            URL, new_session(), lambda: 0, open_stream=opening
        ) as connection:
            await until_ready(connection)
    assert set(asked) == {65536}


async def test_login_is_signed_on_the_clock_of_the_exchange() -> None:
    logins: list[str | bytes] = []

    async def exchange(connection: Connection) -> None:
        logins.append(await connection.get_message())

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(SessionLostError):
            async with open_okx_connection(
                URL, new_session(), lambda: START_NS, offset_ns=7_900_000_000, open_stream=opener
            ) as connection:
                await anext(connection)
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
        async with open_okx_connection(URL, new_session(), clock, open_stream=opener) as connection:
            await until_ready(connection)
            received = await anext(connection)
        nursery.cancel_scope.cancel()
    assert isinstance(received.event, OrdersPush)
    assert pings == [IDLE_S * number for number in range(1, 11)]
    assert received.at_ns == START_NS + round(10 * IDLE_S * 1e9)
    assert autojump_clock.current_time() >= 10 * IDLE_S


async def test_a_connection_that_answers_no_ping_is_lost(autojump_clock: MockClock) -> None:
    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(SessionLostError, match="no frame for 30 s"):
            async with open_okx_connection(
                URL, new_session(), lambda: 0, open_stream=opener
            ) as connection:
                await everything(connection)
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
        async with open_okx_connection(
            URL, new_session(), lambda: 0, open_stream=opener
        ) as connection:
            await until_ready(connection)
            for _ in range(2):
                await trio.sleep(100)
                assert isinstance((await anext(connection)).event, OrdersPush)
        nursery.cancel_scope.cancel()
    assert autojump_clock.current_time() >= 200


async def test_a_burst_does_not_stop_protocol_pings_from_being_answered() -> None:
    """trio-websocket#82: with its default queue of 1 the reader waits for the consumer."""

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
        async with open_okx_connection(
            URL, new_session(), lambda: 0, open_stream=opener
        ) as connection:
            await until_ready(connection)
            await answered.wait()
            for number in range(300):
                event = (await anext(connection)).event
                assert isinstance(event, OrdersPush)
                assert event.reports[0].ord_id == str(number)
        nursery.cancel_scope.cancel()


async def test_two_connections_can_be_open_at_once() -> None:
    """A second session is ready before the first one ends (notice 64008)."""

    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await connection.send_message(PARTIAL_FILL)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        async with open_okx_connection(URL, new_session(), lambda: 0, open_stream=opener) as second:
            async with open_okx_connection(
                URL, new_session(), lambda: 0, open_stream=opener
            ) as first:
                await until_ready(first)
                await until_ready(second)
                assert isinstance((await anext(first)).event, OrdersPush)
            assert isinstance((await anext(second)).event, OrdersPush)
        nursery.cancel_scope.cancel()
