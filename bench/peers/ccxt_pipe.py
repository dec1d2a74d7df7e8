"""ccxt.pro behind aiormq: ``create_order_ws`` for every action, ``watch_orders`` for the fills."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import uvloop

from bench.peers.amqp import consume, publisher
from bench.peers.ccxt_markets import SYMBOL, client
from bench.peers.common import execution, order_of, place


async def main() -> None:
    """Carry actions one way and executions the other until killed."""
    where = place()
    publish = await publisher(where)
    exchange = client(where.ws, where.key, where.secret, where.passphrase)
    exchange.newUpdates = True
    running: set[asyncio.Task[object]] = set()

    def start(work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(work)
        running.add(task)
        task.add_done_callback(running.discard)

    async def take(body: bytes) -> None:
        order = order_of(body)
        names = {"clOrdId": order.name, "tag": "omstrio", "tdMode": "cross", "op": "order"}
        # An answer takes a round trip: waiting for it would let one order out at a time.
        start(exchange.create_order_ws(SYMBOL, order.kind, order.side, order.sz, order.px, names))

    async def watch() -> None:
        while True:
            for order in await exchange.watch_orders(SYMBOL):
                if order["filled"]:
                    start(publish(execution(int(order["clientOrderId"][3:11], 16), order["id"])))

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0.5)
    await consume(where, take)
    await watching


if __name__ == "__main__":
    uvloop.run(main())
