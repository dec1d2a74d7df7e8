"""What may happen to frames between the simulated exchange's session and its socket.

Only what an exchange may do: delay everything of a connection equally; send pushes of *one* order
twice, out of order, or without one in between. Pushes of different orders keep their order: from the
pushes alone nobody could notice that they had lost it.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from random import Random

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

GATHER_S = 0.002
"""Long enough for all pushes of one fill to be there."""

send_message = WebSocketConnection.send_message


@attrs.define
class Mangler:
    """What happens to the frames of every connection that this process accepted."""

    random: Random
    fault_counts: Counter[str]
    nursery: trio.Nursery
    delay_s: float = 0.0
    rate: float = 0.0
    _frames: dict[WebSocketConnection, trio.MemorySendChannel[str | bytes]] = attrs.Factory(dict)

    def install(self) -> None:
        """Take the place of ``send_message``."""
        mangler = self

        async def send(websocket: WebSocketConnection, message: str | bytes) -> None:
            await mangler.send(websocket, message)

        WebSocketConnection.send_message = send  # type: ignore[assignment,method-assign]

    def mangle(self, frames: list[str | bytes]) -> list[str | bytes]:
        """Repeat, drop and reorder within runs of pushes of one order."""
        sent: list[str | bytes] = []
        run: list[str] = []
        ord_id = ""
        for frame in frames:
            name = _ord_id(frame)
            if name != ord_id:
                sent += self._mangle_run(run)
                run, ord_id = [], name
            if name and isinstance(frame, str):
                run.append(frame)
            else:
                sent.append(frame)
        return sent + self._mangle_run(run)

    def _mangle_run(self, run: list[str]) -> list[str]:
        if not run or self.random.random() >= self.rate:
            return run
        kind = self.random.choice(["repeat", "drop", "reorder"] if len(run) > 1 else ["repeat"])
        self.fault_counts[f"push_{kind}"] += 1
        at = self.random.randrange(len(run))
        match kind:
            case "repeat":
                return [*run, run[at]]
            case "drop":
                # Never the last: the next push of the order is what shows that one is missing.
                at = min(at, len(run) - 2)
                return run[:at] + run[at + 1 :]
            case _:
                return self.random.sample(run, len(run))

    async def send(self, websocket: WebSocketConnection, frame: str | bytes) -> None:
        """Stand in for ``send_message``: hand the frame to the connection's own task."""
        if websocket.closed:
            raise ConnectionClosed(websocket.closed)
        if websocket not in self._frames:
            # What waits here is what the exchange sends within ``delay_s``.
            frames, waiting = trio.open_memory_channel[str | bytes](float("inf"))
            self._frames[websocket] = frames
            self.nursery.start_soon(self._carry, websocket, waiting)
        self._frames[websocket].send_nowait(frame)

    async def _carry(
        self, websocket: WebSocketConnection, waiting: trio.MemoryReceiveChannel[str | bytes]
    ) -> None:
        """Send frames late and mangled until the connection ends; what is left then is lost."""
        with suppress(ConnectionClosed), waiting:
            async for first in waiting:
                frames = [first]
                await trio.sleep(max(self.delay_s, GATHER_S))
                with suppress(trio.WouldBlock):
                    while True:
                        frames.append(waiting.receive_nowait())
                for frame in self.mangle(frames):
                    await send_message(websocket, frame)
        self._frames.pop(websocket, None)


def _ord_id(frame: str | bytes) -> str:
    """Return which order a push is about, "" for every other frame."""
    if isinstance(frame, bytes) or '"channel":"orders"' not in frame or '"data"' not in frame:
        return ""
    return str(json.loads(frame)["data"][0]["ordId"])
