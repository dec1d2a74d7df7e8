"""How long things take: the broker's confirms, the journal's commits, the steps of an order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs
from prometheus_client import Histogram

from oms_trio.amqp.model import Broker, Delivery, Outgoing
from oms_trio.journal.journal import Journal
from oms_trio.journal.worker import RunSync

KEPT = 512
"""Durations kept for percentiles and charts; sorting them takes some tens of microseconds."""

CHARTED = 60


@attrs.frozen
class LatencySummary:
    """Milliseconds: percentiles over the latest durations, and the newest of them, oldest first."""

    count: int
    p50_ms: float | None
    p99_ms: float | None
    latest_ms: tuple[float, ...]


@attrs.define
class Latency:
    """Durations of one kind: a histogram for Prometheus, and the latest ones for people."""

    histogram: Histogram
    count: int = 0
    kept: deque[float] = attrs.Factory(lambda: deque(maxlen=KEPT))

    def record(self, duration_ns: int) -> None:
        """Count one duration; a negative one, after the wall clock was set back, counts as 0."""
        seconds = max(duration_ns, 0) / 1e9
        self.histogram.observe(seconds)
        self.count += 1
        self.kept.append(seconds * 1000)

    def summary(self) -> LatencySummary:
        """Summarize the latest durations."""
        if not self.kept:
            return LatencySummary(0, None, None, ())
        ordered = sorted(self.kept)
        last = len(ordered) - 1
        latest = tuple(round(value, 3) for value in list(self.kept)[-CHARTED:])
        p50, p99 = ordered[last // 2], ordered[round(last * 0.99)]
        return LatencySummary(self.count, round(p50, 3), round(p99, 3), latest)


@attrs.frozen
class TimedBroker:
    """A broker that calls ``confirmed`` with what was published and how long (ns) the confirms took."""

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
    """Return a ``run_sync`` that calls ``committed`` with the duration (ns) of each commit of inputs."""

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
