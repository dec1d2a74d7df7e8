"""How connections end: with one error that says why, or with the exception of the block."""

from __future__ import annotations

import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from oms_trio.okx.errors import LoginRejectedError, ProtocolError, SessionLostError
from oms_trio.okx.session import Ready
from oms_trio.okx.websocket import OkxConnection, open_okx_connection
from oms_trio.okx.wire.frames import OrdersPush
from tests.okx.fakes import URL, Connection, everything, new_session, serving, until_ready, welcome
from tests.okx.samples import (
    PARTIAL_FILL,
    error_event,
)


async def test_frames_sent_before_a_close_are_reported_before_the_loss() -> None:
    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await connection.send_message(PARTIAL_FILL)
        await connection.aclose(4004, "No data received in 30s")

    events: list[object] = []
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(SessionLostError, match=r"closed with 4004 \(No data received in 30s\)"):
            async with open_okx_connection(
                URL, new_session(), lambda: 0, open_stream=opener
            ) as connection:
                await everything(connection, into=events)
    assert [type(event) for event in events] == [Ready, OrdersPush]
    with pytest.raises(SessionLostError):
        await connection.send("too late")


async def test_a_rejected_login_is_raised_alone_and_not_in_a_group() -> None:
    """trio-websocket#188."""

    async def exchange(connection: Connection) -> None:
        await connection.get_message()
        await connection.send_message(error_event("60024"))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(LoginRejectedError, match="60024"):
            async with open_okx_connection(
                URL, new_session(), lambda: 0, open_stream=opener
            ) as connection:
                await anext(connection)
        nursery.cancel_scope.cancel()


async def test_an_exception_of_the_block_is_raised_unchanged() -> None:
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, welcome)
        error = RuntimeError("of the block")
        with pytest.raises(RuntimeError) as caught:
            async with open_okx_connection(URL, new_session(), lambda: 0, open_stream=opener):
                raise error
        assert caught.value is error
        nursery.cancel_scope.cancel()


async def test_an_exception_group_of_the_block_is_raised_unchanged() -> None:
    """Blocks run nurseries, whose errors are groups: those are not the reader's."""
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, welcome)
        error = ExceptionGroup("of the block", [RuntimeError("one"), ValueError("two")])
        with pytest.raises(ExceptionGroup) as caught:
            async with open_okx_connection(URL, new_session(), lambda: 0, open_stream=opener):
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

    async def block(connection: OkxConnection) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(cut_off)
            inner.start_soon(trio.sleep_forever)
            await until_ready(connection)
            await trio.sleep_forever()

    monkeypatch.setattr(Connection, "_handle_ping_event", crash)
    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(ExceptionGroup) as caught:
            async with open_okx_connection(
                URL, new_session(), lambda: 0, open_stream=opener
            ) as connection:
                await block(connection)
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
            async with open_okx_connection(
                URL, new_session(), lambda: 0, open_stream=opener
            ) as connection:
                await until_ready(connection)
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
            async with open_okx_connection(
                URL, new_session(), lambda: 0, open_stream=opener
            ) as connection:
                await everything(connection)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("frame", [b"binary", '{"arg":{"channel":"orders"},"data":[7]}'])
async def test_an_unreadable_frame_ends_the_connection(frame: str | bytes) -> None:
    async def exchange(connection: Connection) -> None:
        await welcome(connection)
        await connection.send_message(frame)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, exchange)
        with pytest.raises(ProtocolError):
            async with open_okx_connection(
                URL, new_session(), lambda: 0, open_stream=opener
            ) as connection:
                await everything(connection)
        nursery.cancel_scope.cancel()


async def test_after_an_interrupted_send_the_connection_has_ended(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def stuck(_self: object, _message: str) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        opener = serving(nursery, welcome)
        async with open_okx_connection(
            URL, new_session(), lambda: 0, open_stream=opener
        ) as connection:
            await until_ready(connection)
            monkeypatch.setattr(Connection, "send_message", stuck)
            with trio.move_on_after(1):
                await connection.send("half a frame")
            with pytest.raises(SessionLostError, match="was interrupted"):
                await connection.send("the next frame")
        nursery.cancel_scope.cancel()
    assert autojump_clock.current_time() >= 1


async def test_the_transport_is_closed_even_after_a_loss() -> None:
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
            async with open_okx_connection(
                URL, new_session(), lambda: 0, open_stream=remembering
            ) as connection:
                await everything(connection)
    with pytest.raises(trio.ClosedResourceError):
        await transports[0].send_all(b"x")
