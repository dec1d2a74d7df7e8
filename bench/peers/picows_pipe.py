"""The bare pipe with picows, the fastest WebSocket client for asyncio, in place of websockets."""

from __future__ import annotations

import asyncio

import picows
import uvloop

from bench.peers.amqp import consume, publisher
from bench.peers.common import executions_of, frame_of, login, order_of, place, subscribe


class Listener(picows.WSListener):  # type: ignore[misc] # not installed where types are checked
    """Hands text frames over."""

    def __init__(self, frames: asyncio.Queue[bytes]) -> None:
        self.frames = frames

    def on_ws_frame(self, _transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Keep a frame: its memory is only lent."""
        if frame.msg_type == picows.WSMsgType.TEXT:
            self.frames.put_nowait(frame.get_payload_as_bytes())


async def main() -> None:
    """Carry actions one way and executions the other until killed."""
    where = place()
    publish = await publisher(where)
    running: set[asyncio.Task[None]] = set()
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    transport, _ = await picows.ws_connect(lambda: Listener(frames), where.ws)
    transport.send(picows.WSMsgType.TEXT, login(where).encode())
    await frames.get()
    transport.send(picows.WSMsgType.TEXT, subscribe().encode())

    async def take(body: bytes) -> None:
        transport.send(picows.WSMsgType.TEXT, frame_of(order_of(body)).encode())

    await consume(where, take)
    while True:
        for body in executions_of(await frames.get()):
            task = asyncio.ensure_future(publish(body))
            running.add(task)
            task.add_done_callback(running.discard)


if __name__ == "__main__":
    uvloop.run(main())
