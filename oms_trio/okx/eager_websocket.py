"""trio-websocket's connection, with fewer scheduler rounds per frame.

A round of the scheduler costs 20 to 50 us in a service whose caches are cold between two frames, and
gives other threads the chance to take the interpreter. Two habits of trio-websocket cost one round
each: a checkpoint for every frame that it delivers, so that the four frames that follow an order pass
one by one through every later task; and a checkpoint for its lock before every send. Without them
an action costs 21 task steps instead of 31, and 1.3 ms of Trio's thread instead of 1.5.

The overridden methods are private to trio-websocket. Its version is pinned, and ``tests/okx`` fails
when they change.
"""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Any, Final

import trio
import trio_websocket
import wsproto
from wsproto.events import BytesMessage, TextMessage

BURST: Final = 16
"""Messages returned at once at most, so that other tasks get their turn."""


class EagerWebSocketConnection(trio_websocket.WebSocketConnection):
    """A WebSocket connection that takes free locks and delivers whole frames without a checkpoint."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*args, **options)
        self._stream_lock = _EagerLock()  # type: ignore[assignment]  # all that is used of it

    async def get_messages(self) -> list[str | bytes]:
        """Wait for a message; return it together with those that have already arrived after it.

        Raises:
            ConnectionClosed: no message is left, and none will come.
        """
        messages = [await self.get_message()]
        with suppress(trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            while len(messages) < BURST:
                messages.append(self._recv_channel.receive_nowait())
        return messages

    async def _handle_message_event(self, event: TextMessage | BytesMessage) -> None:
        whole = event.message_finished and not self._message_parts
        text = event.data
        if whole and isinstance(text, str) and len(text) <= self._max_message_size:
            with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                self._send_channel.send_nowait(text)
                return
        # trio-websocket handles fragments, bytes, oversized messages, a full queue and the end.
        await super()._handle_message_event(event)


class _EagerLock:
    """A lock that is acquired without a checkpoint when it is free; the send that follows has one."""

    def __init__(self) -> None:
        self._lock = trio.StrictFIFOLock()

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._lock.release()


async def wrap_client_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    host: str,
    target: str,
    *,
    message_queue_size: int,
    max_message_size: int,
    receive_buffer_size: int,
) -> EagerWebSocketConnection:
    """Open a client's connection on a stream, as ``trio_websocket.wrap_client_stream`` does.

    Its reader runs in the nursery until the connection ends.
    """
    connection = EagerWebSocketConnection(
        stream,
        wsproto.WSConnection(wsproto.ConnectionType.CLIENT),
        host=host,
        path=target,
        message_queue_size=message_queue_size,
        max_message_size=max_message_size,
        receive_buffer_size=receive_buffer_size,
    )
    nursery.start_soon(connection._reader_task)  # noqa: SLF001 - our own class
    await connection._open_handshake.wait()  # noqa: SLF001 - our own class
    return connection
