"""Our changes to trio-websocket: how frames are delivered, and how sends take turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio_websocket
import wsproto
from trio.testing import memory_stream_pair, wait_all_tasks_blocked
from wsproto.events import TextMessage

from oms_trio.okx.eager_websocket import BURST, EagerWebSocketConnection, wrap_client_stream


@asynccontextmanager
async def connected(
    *, queue: int = 64, largest: int = 100
) -> AsyncIterator[tuple[EagerWebSocketConnection, trio.testing.MemorySendStream]]:
    """A connection, and the exchange's stream of raw bytes to it."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        accepted = trio.Event()

        async def accept() -> None:
            request = await trio_websocket.wrap_server_stream(nursery, theirs)
            await request.accept()
            accepted.set()

        nursery.start_soon(accept)
        connection = await wrap_client_stream(
            nursery,
            ours,
            "localhost",
            "/",
            message_queue_size=queue,
            max_message_size=largest,
            receive_buffer_size=65536,
        )
        await accepted.wait()
        yield connection, theirs.send_stream
        nursery.cancel_scope.cancel()


def frame(text: str, *, finished: bool = True) -> bytes:
    """A frame as a server sends it; a fragment unless ``finished``."""
    return Server().send(TextMessage(data=text, message_finished=finished))


def Server() -> wsproto.connection.Connection:  # noqa: N802 - a class in all but name
    return wsproto.connection.Connection(wsproto.ConnectionType.SERVER)


async def test_frames_of_one_read_are_returned_together() -> None:
    async with connected() as (connection, wire):
        await wire.send_all(b"".join(map(frame, "abcd")))
        assert await connection.get_messages() == ["a", "b", "c", "d"]


async def test_a_long_burst_is_returned_in_parts() -> None:
    async with connected() as (connection, wire):
        texts = [str(number) for number in range(BURST + 3)]
        await wire.send_all(b"".join(map(frame, texts)))
        await wait_all_tasks_blocked()
        assert await connection.get_messages() == texts[:BURST]
        assert await connection.get_messages() == texts[BURST:]


async def test_a_full_queue_makes_the_reader_wait_and_loses_nothing() -> None:
    async with connected(queue=2) as (connection, wire):
        await wire.send_all(b"".join(map(frame, "abcdefg")))
        await wait_all_tasks_blocked()
        received: list[str | bytes] = []
        with trio.fail_after(1):
            while len(received) < 7:
                received += await connection.get_messages()
        assert received == list("abcdefg")


async def test_fragments_are_joined() -> None:
    server = Server()
    parts = [
        server.send(TextMessage(data="one ", message_finished=False)),
        server.send(TextMessage(data="message")),
    ]
    async with connected() as (connection, wire):
        await wire.send_all(frame("before") + b"".join(parts) + frame("after"))
        await wait_all_tasks_blocked()
        assert await connection.get_messages() == ["before", "one message", "after"]


async def test_a_message_that_is_too_large_ends_the_connection() -> None:
    async with connected(largest=10) as (connection, wire):
        await wire.send_all(frame("short") + frame("longer than ten"))
        assert await connection.get_messages() == ["short"]
        with pytest.raises(trio_websocket.ConnectionClosed):
            await connection.get_messages()


async def test_sends_of_two_tasks_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = memory_stream_pair()
    inside = 0
    send_all = ours.send_all

    async def slowly(data: bytes) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await wait_all_tasks_blocked()
        await send_all(data)
        inside -= 1

    async with trio.open_nursery() as nursery:

        async def accept() -> None:
            request = await trio_websocket.wrap_server_stream(nursery, theirs)
            peer = await request.accept()
            received.extend([await peer.get_message() for _ in range(3)])
            nursery.cancel_scope.cancel()

        received: list[str | bytes] = []
        nursery.start_soon(accept)
        connection = await wrap_client_stream(
            nursery,
            ours,
            "localhost",
            "/",
            message_queue_size=8,
            max_message_size=100,
            receive_buffer_size=65536,
        )
        monkeypatch.setattr(ours, "send_all", slowly)
        for text in ("a", "b", "c"):
            nursery.start_soon(connection.send_message, text)
    assert sorted(map(str, received)) == ["a", "b", "c"]
