"""A process that consumes and prints actions: ``python -m tests.amqp.listener SETTINGS`` (JSON)."""

from __future__ import annotations

import json
import sys

import trio

from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.settings import BrokerSettings


async def listen(settings: BrokerSettings) -> None:
    """Consume actions without end, and print a line for each."""
    async with open_broker(settings) as broker:
        broker.consume(True)
        print("listening", flush=True)  # noqa: T201 - a command
        while True:
            for delivery in await broker.receive():
                what = "expired" if delivery.expired else "live"
                print(what, delivery.body.decode(), flush=True)  # noqa: T201 - a command
                broker.ack([delivery.tag])


if __name__ == "__main__":
    trio.run(listen, BrokerSettings(**json.loads(sys.argv[1])))
