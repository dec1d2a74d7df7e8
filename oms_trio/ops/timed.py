"""The broker and the disk, with a watch beside them: how long confirms and commits take."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs

from oms_trio.amqp.model import Broker, Delivery, Outgoing
from oms_trio.journal.journal import Journal
from oms_trio.journal.worker import RunSync


@attrs.frozen
class TimedBroker:
    """A broker that tells ``confirmed`` of what was published, and how long (ns) that took."""

    broker: Broker
    confirmed: Callable[[Sequence[Outgoing], int], object]

    @property
    def connected(self) -> bool:
        """See ``Broker.connected``."""
        return self.broker.connected

    @property
    def unroutable(self) -> int:
        """See ``Broker.unroutable``."""
        return self.broker.unroutable

    async def receive(self) -> tuple[Delivery, ...]:
        """See ``Broker.receive``."""
        return await self.broker.receive()

    def consume(self, wanted: bool) -> None:  # noqa: FBT001 - as in the protocol
        """See ``Broker.consume``."""
        self.broker.consume(wanted)

    def ack(self, tags: Sequence[int]) -> None:
        """See ``Broker.ack``."""
        self.broker.ack(tags)

    async def dead_letter(self, tag: int, reason: str) -> None:
        """See ``Broker.dead_letter``."""
        await self.broker.dead_letter(tag, reason)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See ``Broker.publish``."""
        began = time.perf_counter_ns()
        await self.broker.publish(messages)
        self.confirmed(messages, time.perf_counter_ns() - began)

    async def wait_publishable(self) -> None:
        """See ``Broker.wait_publishable``."""
        await self.broker.wait_publishable()


def timed_commits(run_sync: RunSync, committed: Callable[[int], object]) -> RunSync:
    """Return a ``run_sync`` that tells how long (ns) each commit of inputs took."""

    def run(function: Callable[[], Any]) -> Awaitable[Any]:
        method = function.func if isinstance(function, partial) else function
        if getattr(method, "__func__", None) is not Journal.append:
            return run_sync(function)
        return _timed(run_sync, function, committed)

    return run


async def _timed(
    run_sync: RunSync, function: Callable[[], Any], committed: Callable[[int], object]
) -> object:
    began = time.perf_counter_ns()
    result = await run_sync(function)
    committed(time.perf_counter_ns() - began)
    return result
