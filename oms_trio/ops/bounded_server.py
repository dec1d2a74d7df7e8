"""Accepting connections without letting them take what trading needs: descriptors, or a stop.

``trio.serve_listeners`` accepts whatever comes. A thousand connections that say nothing would then
hold the descriptors with which a lost session of the exchange is to be opened again.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

SEND_S: Final = 10.0
"""How long the other side may take to read what it asked for."""


@attrs.frozen
class Connection(trio.abc.HalfCloseableStream):
    """A socket's stream on which nobody waits for ever to send."""

    stream: trio.SocketStream

    @property
    def socket(self) -> trio.socket.SocketType:
        """See ``trio.SocketStream``."""
        return self.stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See ``trio.SocketStream``.

        Raises:
            trio.BrokenResourceError: also when the other side does not read.
        """
        with trio.move_on_after(SEND_S) as patience:
            await self.stream.send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the other side does not read")

    async def wait_send_all_might_not_block(self) -> None:
        """See ``trio.SocketStream``."""
        await self.stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """See ``trio.SocketStream``."""
        await self.stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See ``trio.SocketStream``."""
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """See ``trio.SocketStream``."""
        await self.stream.aclose()


@attrs.frozen
class _Listener(trio.abc.Listener[Connection]):
    """Accepts when there is a slot; until then connections wait in the kernel, which costs us none."""

    accepting: trio.SocketListener
    slots: trio.Semaphore

    async def accept(self) -> Connection:
        await self.slots.acquire()
        try:
            stream = await self.accepting.accept()
        except BaseException:
            self.slots.release()
            raise
        return Connection(stream)

    async def aclose(self) -> None:
        await self.accepting.aclose()


async def serve_bounded(
    listener: socket.socket, handle: Callable[[Connection], Awaitable[None]], at_once: int
) -> None:
    """Handle connections for ever, ``at_once`` of them at most; ends only by cancellation.

    Then connections are closed even under a handler that shields itself from being cancelled.
    """
    slots = trio.Semaphore(at_once)

    async def handled(stream: Connection) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close_at_the_end, stream)
                await handle(stream)
                nursery.cancel_scope.cancel()
        finally:
            slots.release()

    # The caller's stays open: a server that crashed is started again on it.
    with trio.socket.from_stdlib_socket(listener.dup()) as accepting:
        await trio.serve_listeners(handled, [_Listener(trio.SocketListener(accepting), slots)])


async def _close_at_the_end(stream: Connection) -> None:
    try:
        await trio.sleep_forever()
    finally:
        stream.socket.close()
