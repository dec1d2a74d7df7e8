"""The bare pipe: uvloop, aiormq, websockets. No state, no journal, nothing that can be lost."""

from __future__ import annotations

import asyncio

import uvloop
import websockets

from bench.peers.amqp import consume, publisher
from bench.peers.common import executions_of, frame_of, login, order_of, place, subscribe


async def main() -> None:
    """Carry actions one way and executions the other until killed."""
    where = place()
    publish = await publisher(where)
    running: set[asyncio.Task[None]] = set()
    async with websockets.connect(where.ws, compression=None) as socket:
        await socket.send(login(where))
        await socket.recv()
        await socket.send(subscribe())

        async def take(body: bytes) -> None:
            await socket.send(frame_of(order_of(body)))

        await consume(where, take)
        async for text in socket:
            for body in executions_of(text):
                task = asyncio.ensure_future(publish(body))
                running.add(task)
                task.add_done_callback(running.discard)


if __name__ == "__main__":
    uvloop.run(main())
