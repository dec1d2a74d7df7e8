"""A server that limits its connections, so that they cannot exhaust file descriptors or delay a stop.

``trio.serve_listeners`` accepts every connection. A thousand idle ones would take the descriptors
that are needed to reconnect to the exchange.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

SEND_S: Final = 10.0
"""How long a client may take to read its answer."""


@attrs.frozen
class BoundedStream(trio.abc.HalfCloseableStream):
    """A socket stream whose sends time out."""

    stream: trio.SocketStream

    @property
    def socket(self) -> trio.socket.SocketType:
        """See ``trio.SocketStream``."""
        return self.stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See ``trio.SocketStream``.

        Raises:
            trio.BrokenResourceError: the connection is lost, or the client has not read for ``SEND_S``.
        """
        with trio.move_on_after(SEND_S) as timeout:
            await self.stream.send_all(data)
        if timeout.cancelled_caught:
            raise trio.BrokenResourceError(f"the client has not read for {SEND_S:.0f} s")

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
class _Listener(trio.abc.Listener[BoundedStream]):
    """Accepts while a slot is free; other connections wait in the kernel's backlog."""

    accepting: trio.SocketListener
    slots: trio.Semaphore

    async def accept(self) -> BoundedStream:
        await self.slots.acquire()
        try:
            stream = await self.accepting.accept()
        except BaseException:
            self.slots.release()
            raise
        return BoundedStream(stream)

    async def aclose(self) -> None:
        await self.accepting.aclose()


async def serve_bounded(
    listener: socket.socket, handle: Callable[[BoundedStream], Awaitable[None]], at_once: int
) -> None:
    """Handle at most ``at_once`` connections at a time; ends only by cancellation.

    Cancellation closes a connection even when its handler is shielded from it.
    """
    slots = trio.Semaphore(at_once)

    async def handled(stream: BoundedStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close_at_the_end, stream)
                await handle(stream)
                nursery.cancel_scope.cancel()
        finally:
            slots.release()

    # A duplicate: the caller's listener stays open, so that a crashed server can be restarted on it.
    with trio.socket.from_stdlib_socket(listener.dup()) as accepting:
        await trio.serve_listeners(handled, [_Listener(trio.SocketListener(accepting), slots)])


async def _close_at_the_end(stream: BoundedStream) -> None:
    try:
        await trio.sleep_forever()
    finally:
        stream.socket.close()
