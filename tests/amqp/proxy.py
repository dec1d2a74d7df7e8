"""A TCP proxy between us and the broker that fails on demand."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio


@attrs.define(eq=False)
class Proxy:
    """Forwards bytes in both directions on its own port, until a test makes it fail."""

    _target: int
    port: int = 0
    refusing: bool = False
    """Whether new connections are reset at once."""
    _frozen: bool = False
    _changed: trio.Event = attrs.Factory(trio.Event)
    _links: list[tuple[trio.SocketStream, trio.SocketStream]] = attrs.Factory(list)

    def cut(self) -> None:
        """Reset every connection, as a dying host or a firewall does."""
        links, self._links = self._links, []
        for near, far in links:
            _reset(near)
            _reset(far)

    def freeze(self, *, frozen: bool) -> None:
        """Stop forwarding while every connection stays open: nobody answers any more."""
        self._frozen = frozen
        self._changed.set()
        self._changed = trio.Event()

    async def serve(self, near: trio.SocketStream) -> None:
        """Handle one connection; ends when either side does."""
        if self.refusing:
            _reset(near)
            return
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self._target)
        except OSError:  # the target is down
            _reset(near)
            return
        link = near, far
        self._links.append(link)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._forward, near, far, nursery.cancel_scope)
            nursery.start_soon(self._forward, far, near, nursery.cancel_scope)
        if link in self._links:
            self._links.remove(link)

    async def serve_tls(self, near: trio.SSLStream[trio.SocketStream]) -> None:
        """Handle one connection that speaks TLS to us; it cannot be cut."""
        try:
            await near.do_handshake()
        except trio.BrokenResourceError:
            return  # the client does not trust us
        far = await trio.open_tcp_stream("127.0.0.1", self._target)
        async with far, trio.open_nursery() as nursery:
            nursery.start_soon(self._forward, near, far, nursery.cancel_scope)
            nursery.start_soon(self._forward, far, near, nursery.cancel_scope)

    async def _forward(
        self, source: trio.abc.Stream, sink: trio.abc.Stream, ends: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some():
                while self._frozen:
                    await self._changed.wait()
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        ends.cancel()


def _reset(stream: trio.SocketStream) -> None:
    # Without lingering a close is a reset.
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@asynccontextmanager
async def open_proxy(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy to a local port."""
    proxy = Proxy(target)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, proxy.serve, 0)
        proxy.port = listeners[0].socket.getsockname()[1]
        yield proxy
        nursery.cancel_scope.cancel()
