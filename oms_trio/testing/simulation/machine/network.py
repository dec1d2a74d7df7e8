"""Byte streams with a network between their ends: delays, odd chunks, lost connections.

TCP keeps the order of bytes but not the limits of what was sent, and two connections have no order
between them. The seed decides both here, so that acknowledgement, push and REST answer race as they
do in reality.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import attrs
import trio

from oms_trio.testing.simulation.wire_trace import WireTrace

WHOLE = 0.9
"""The chance that a read returns all that has arrived, not a part of it."""


@attrs.define(eq=False)
class SimulatedNetwork:
    """Makes connections and keeps the open ones.

    ``delay_s`` is the range of a chunk's delay, ``slow_s`` the same for some kinds of connections
    (``ws``, ``rest``); both may be changed at any time.
    """

    random: Random
    trace: WireTrace
    delay_s: tuple[float, float] = (0.0002, 0.003)
    slow_s: dict[str, tuple[float, float]] = attrs.Factory(dict)
    _made: int = 0
    _open: dict[int, tuple[NetworkStream, NetworkStream]] = attrs.Factory(dict)

    def connect(self, kind: str) -> tuple[NetworkStream, NetworkStream]:
        """Return the client's and the server's end of a new connection."""
        self._made += 1
        number = self._made
        client = NetworkStream(self, kind, f"{kind}{number}>")
        server = NetworkStream(self, kind, f"{kind}{number}<")
        client.peer, server.peer = server, client
        self._open[number] = (client, server)
        client.forget = server.forget = lambda: self._open.pop(number, None)
        return client, server

    @property
    def sessions(self) -> frozenset[int]:
        """The numbers of the WebSocket connections whose client has not closed them."""
        return frozenset(number for number, (end, _) in self._open.items() if end.kind == "ws")

    @contextmanager
    def slowed(self, delay_s: tuple[float, float], *kinds: str) -> Iterator[None]:
        """Delay the chunks of connections of these kinds during the block."""
        self.slow_s |= dict.fromkeys(kinds, delay_s)
        try:
            yield
        finally:
            for kind in kinds:
                self.slow_s.pop(kind, None)

    def close_clients(self) -> None:
        """NetworkStream the clients' process: nothing more leaves it, what has left still arrives."""
        for client, _ in list(self._open.values()):
            client.close()

    def lose_clients(self, kind: str) -> None:
        """Break the clients' ends of a kind: what they sent still arrives, nothing comes back."""
        for client, server in list(self._open.values()):
            if client.kind == kind:
                client.break_off()
                server.arrive(b"")

    def reset(self) -> None:
        """Break every connection at both ends, with what is on its way."""
        for client, server in list(self._open.values()):
            client.break_off()
            server.break_off()


@attrs.define(eq=False)
class NetworkStream(trio.abc.Stream):
    """One end of a connection; for one reader and one writer at a time, like any Trio stream."""

    network: SimulatedNetwork
    kind: str
    name: str
    peer: NetworkStream | None = None
    forget: Callable[[], object] | None = None
    _coming: deque[tuple[float, bytes]] = attrs.Factory(deque)
    """What is on its way here, with its time of arrival. Its size is bounded by the peer's protocol,
    which sends only a few frames ahead of the answers to them."""
    _due: float = 0.0
    closed: bool = False
    _lost: bool = False
    _changed: trio.Event = attrs.Factory(trio.Event)

    @property
    def readable(self) -> bool:
        """Whether a read would return at once, with data, the end, or an error."""
        arrived = bool(self._coming) and self._coming[0][0] <= trio.current_time()
        return arrived or self._lost or self.closed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; the data may still be lost on its way."""
        await trio.lowlevel.checkpoint()
        if self.closed:
            raise trio.ClosedResourceError
        assert self.peer is not None
        if self._lost or self.peer.closed:
            raise trio.BrokenResourceError
        self.network.trace.note(self.name, bytes(data))
        if data:
            self.peer.arrive(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: no buffer can be full."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for data and return some of what has arrived, or b"" at the end."""
        await trio.lowlevel.checkpoint()
        while not self.readable:
            due = self._coming[0][0] if self._coming else float("inf")
            with trio.move_on_at(due):
                await self._changed.wait()
        if self.closed:
            raise trio.ClosedResourceError
        if self._lost:
            raise trio.BrokenResourceError
        now = trio.current_time()
        data = b""
        while self._coming and self._coming[0][0] <= now:
            chunk = self._coming[0][1]
            if not chunk and not data:
                return b""  # the end stays: every later read returns it again
            if not chunk:
                break
            self._coming.popleft()
            data += chunk
        size = len(data) if max_bytes is None else min(max_bytes, len(data))
        random = self.network.random
        if size > 1 and random.random() >= WHOLE:
            size = random.randint(1, size)
        if size < len(data):
            self._coming.appendleft((now, data[size:]))
        return data[:size]

    async def aclose(self) -> None:
        """Close this end; what was sent still arrives."""
        self.close()
        await trio.lowlevel.checkpoint()

    def arrive(self, data: bytes) -> None:
        """Let data arrive here after its delay."""
        network = self.network
        delay_s = network.slow_s.get(self.kind, network.delay_s)
        due = trio.current_time() + network.random.uniform(*delay_s)
        self._due = max(self._due, due)
        self._coming.append((self._due, data))
        self._wake()

    def close(self) -> None:
        """NetworkStream this side, like a process that ends."""
        if self.closed:
            return
        self.closed = True
        if self.forget is not None:
            self.forget()
        self._wake()
        if self.peer is not None and not self.peer.closed:
            self.peer.arrive(b"")

    def break_off(self) -> None:
        """Break this end: reads and writes here raise."""
        self._lost = True
        self._coming.clear()
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
