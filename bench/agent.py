"""The learning agent of the benches: publishes actions at a pace, and stamps what comes back.

One process: ``python -m bench.agent`` with its orders as JSON in the arguments (``Errand``). It
prints one line of JSON: when each state's action left, and when its first execution came.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from decimal import Decimal

import aiormq
import aiormq.abc
import msgspec
import uvloop

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType


class Errand(msgspec.Struct):
    """``count`` actions from ``first`` on, ``rate`` a second (0: at once)."""

    amqp_port: int
    actions: str
    executions: str
    first: int = 1
    count: int = 0
    rate: float = 0.0
    volume: float = 1.0
    expected: int = 0
    """Executions after which it is over."""
    patience_s: float = 5.0
    """How long nothing may come before it is over all the same."""


class Agent:
    """One errand on its way."""

    def __init__(self, errand: Errand) -> None:
        self.errand = errand
        self.sent: dict[int, int] = {}
        self.heard: dict[int, int] = {}
        self.messages = 0
        self.last_ns = time.perf_counter_ns()

    async def run(self) -> None:
        """Publish and listen until all has come."""
        errand = self.errand
        connection = await aiormq.connect(f"amqp://guest:guest@127.0.0.1:{errand.amqp_port}/")
        listener = await connection.channel(publisher_confirms=False)
        await listener.exchange_declare(errand.executions, exchange_type="topic", durable=True)
        queue = (await listener.queue_declare(exclusive=True)).queue
        assert queue is not None
        await listener.queue_bind(queue, errand.executions, routing_key="execution.*")
        await listener.basic_consume(queue, self._heard, no_ack=True)
        print("ready", flush=True)  # noqa: T201 - told to who started us
        await asyncio.to_thread(sys.stdin.readline)
        channel = await connection.channel(publisher_confirms=False)
        await self._publish(channel)
        self.last_ns = time.perf_counter_ns()
        while self.messages < errand.expected:
            await asyncio.sleep(0.02)
            if time.perf_counter_ns() - self.last_ns > errand.patience_s * 1e9:
                break
        print(  # noqa: T201 - the result
            json.dumps(
                {
                    "sent": self.sent,
                    "heard": self.heard,
                    "messages": self.messages,
                    "last_ns": self.last_ns,
                }
            ),
            flush=True,
        )
        with suppress(Exception):
            await connection.close()

    async def _publish(self, channel: aiormq.abc.AbstractChannel) -> None:
        errand = self.errand
        bodies = [
            encode_action(
                errand.first + number,
                OrderType.LIMIT,
                0.25 if number % 2 else -0.25,
                errand.volume,
                Decimal("67000.00"),
            )
            for number in range(errand.count)
        ]
        began = time.perf_counter()
        for number, body in enumerate(bodies):
            if errand.rate and (wait := began + number / errand.rate - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            state_id = errand.first + number
            properties = aiormq.spec.Basic.Properties(
                message_id=f"{os.getpid()}-{state_id}", delivery_mode=2
            )
            self.sent[state_id] = time.perf_counter_ns()
            await channel.basic_publish(
                body, exchange=errand.actions, routing_key="oms.action", properties=properties
            )

    async def _heard(self, message: aiormq.abc.DeliveredMessage) -> None:
        stamp = time.perf_counter_ns()
        told = msgspec.json.decode(message.body)
        if told.get("is_trade_closed") is False:  # closures and refusals are not waited for
            self.messages += 1
            self.last_ns = stamp
            self.heard.setdefault(told["state_id"], stamp)


if __name__ == "__main__":
    uvloop.run(Agent(msgspec.json.decode(sys.argv[1], type=Errand)).run())
