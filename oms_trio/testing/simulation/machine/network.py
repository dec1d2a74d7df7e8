"""Byte streams with a network between their ends: delay, odd chunks, loss of the connection.

TCP keeps bytes in order but not in pieces, and two connections have no order between them. Both is
drawn from the seed here, so that acknowledgement, push and REST answer race as they do outside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import attrs
import trio

from oms_trio.testing.simulation.wire_trace import Tape

WHOLE = 0.9
"""The chance that a read gets all that has arrived, not a part of it."""


@attrs.define(eq=False)
class Network:
    """Makes connections and knows the open ones.

    ``delay_s`` bounds what one chunk takes, ``slow_s`` what it takes on connections of a kind;
    both can be changed at any time.
    """

    random: Random
    tape: Tape
    delay_s: tuple[float, float] = (0.0002, 0.003)
    slow_s: dict[str, tuple[float, float]] = attrs.Factory(dict)
    _made: int = 0
    _open: dict[int, tuple[End, End]] = attrs.Factory(dict)

    def connect(self, kind: str) -> tuple[End, End]:
        """Return the client's and the server's end of a new connection."""
        self._made += 1
        number = self._made
        client = End(self, kind, f"{kind}{number}>")
        server = End(self, kind, f"{kind}{number}<")
        client.peer, server.peer = server, client
        self._open[number] = (client, server)
        client.forget = server.forget = lambda: self._open.pop(number, None)
        return client, server

    @property
    def sessions(self) -> frozenset[int]:
        """The numbers of the WebSocket connections whose clients have not left."""
        return frozenset(number for number, (end, _) in self._open.items() if end.kind == "ws")

    @contextmanager
    def slowed(self, delay_s: tuple[float, float], *kinds: str) -> Iterator[None]:
        """Let chunks on connections of these kinds take so long for the block."""
        self.slow_s |= dict.fromkeys(kinds, delay_s)
        try:
            yield
        finally:
            for kind in kinds:
                self.slow_s.pop(kind, None)

    def vanish(self) -> None:
        """End the clients' process: nothing more leaves it, what has left still arrives."""
        for client, _ in list(self._open.values()):
            client.close()

    def strand(self, kind: str) -> None:
        """Lose the clients' ends of a kind: what they have sent still arrives, nothing comes back."""
        for client, server in list(self._open.values()):
            if client.kind == kind:
                client.lose()
                server.arrive(b"")

    def reset(self) -> None:
        """Lose every connection at once, with what is on the way."""
        for client, server in list(self._open.values()):
            client.lose()
            server.lose()


@attrs.define(eq=False)
class End(trio.abc.Stream):
    """One end of a connection; for one reader and one writer at a time, like any stream."""

    network: Network
    kind: str
    name: str
    peer: End | None = None
    forget: Callable[[], object] | None = None
    _coming: deque[tuple[float, bytes]] = attrs.Factory(deque)
    """What is on its way here with its time of arrival; bounded by what the peer's protocol
    leaves unanswered, as the peer never sends more than some frames ahead."""
    _due: float = 0.0
    closed: bool = False
    _lost: bool = False
    _stirred: trio.Event = attrs.Factory(trio.Event)

    @property
    def readable(self) -> bool:
        """Whether a read would return at once: with data, with the end, or with an error."""
        arrived = bool(self._coming) and self._coming[0][0] <= trio.current_time()
        return arrived or self._lost or self.closed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; it has left when this returns, and may be lost all the same."""
        await trio.lowlevel.checkpoint()
        if self.closed:
            raise trio.ClosedResourceError
        assert self.peer is not None
        if self._lost or self.peer.closed:
            raise trio.BrokenResourceError
        self.network.tape.note(self.name, bytes(data))
        if data:
            self.peer.arrive(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: there is no buffer to fill."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for data and return a part of what has come, or b"" at the end."""
        await trio.lowlevel.checkpoint()
        while not self.readable:
            due = self._coming[0][0] if self._coming else float("inf")
            with trio.move_on_at(due):
                await self._stirred.wait()
        if self.closed:
            raise trio.ClosedResourceError
        if self._lost:
            raise trio.BrokenResourceError
        now = trio.current_time()
        data = b""
        while self._coming and self._coming[0][0] <= now:
            chunk = self._coming[0][1]
            if not chunk and not data:
                return b""  # the end stays where it is
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
        """Close; what was sent still arrives."""
        self.close()
        await trio.lowlevel.checkpoint()

    def arrive(self, data: bytes) -> None:
        """Have data arrive here, after its time on the way."""
        network = self.network
        delay_s = network.slow_s.get(self.kind, network.delay_s)
        due = trio.current_time() + network.random.uniform(*delay_s)
        self._due = max(self._due, due)
        self._coming.append((self._due, data))
        self._stir()

    def close(self) -> None:
        """End this side, like a process that ends."""
        if self.closed:
            return
        self.closed = True
        if self.forget is not None:
            self.forget()
        self._stir()
        if self.peer is not None and not self.peer.closed:
            self.peer.arrive(b"")

    def lose(self) -> None:
        """Break this side: whoever reads or writes here gets an error."""
        self._lost = True
        self._coming.clear()
        self._stir()

    def _stir(self) -> None:
        stirred, self._stirred = self._stirred, trio.Event()
        stirred.set()
