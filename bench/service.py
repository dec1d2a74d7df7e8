"""The service as ``oms-trio run`` starts it, except that orders have no rate limit.

The exchange takes 30 orders a second; the benches send more than that. ``--pauses FILE`` also
measures what holds the loops up, and writes it as JSON at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from oms_trio.amqp import broker
from oms_trio.okx.rate_limits import OrderLimits
from oms_trio.service import runtime
from oms_trio.settings import logs
from oms_trio.settings.config import Config

ENDLESS = OrderLimits(orders=10**9, cancels=10**9, cancels_in_batches=10**9)
PROBE_S = 0.002


class Pauses:
    """How long the collector, the Trio loop and the broker's loop hold up, in nanoseconds."""

    def __init__(self) -> None:
        self.collections: dict[int, list[int]] = {0: [], 1: [], 2: []}
        self.lags: list[int] = []
        self.portal_lags: list[int] = []
        self._began = 0

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """Time one collection."""
        if phase == "start":
            self._began = time.perf_counter_ns()
        else:
            self.collections[info["generation"]].append(time.perf_counter_ns() - self._began)

    async def probe(self) -> None:
        """Sleep, and note how much longer it took; ends by cancellation."""
        while True:
            began = time.perf_counter_ns()
            await trio.sleep(PROBE_S)
            self.lags.append(time.perf_counter_ns() - began - round(PROBE_S * 1e9))

    async def probe_portal(self) -> None:
        """Do the same in the thread of the broker's loop."""
        while True:
            began = time.perf_counter_ns()
            await asyncio.sleep(PROBE_S)
            self.portal_lags.append(time.perf_counter_ns() - began - round(PROBE_S * 1e9))

    def attach_to_portal(self) -> None:
        """Probe every loop of a broker that is opened from now on."""
        main = broker._AsyncioSide.main  # noqa: SLF001 - the loop is nobody's but the broker's

        async def probed(loop: broker._AsyncioSide) -> None:
            probe = asyncio.create_task(self.probe_portal())
            try:
                await main(loop)
            finally:
                probe.cancel()

        broker._AsyncioSide.main = probed  # type: ignore[assignment,method-assign]  # noqa: SLF001


async def _serve(config: Config, pauses: Pauses | None) -> None:
    run = partial(runtime.serve, config, limits=ENDLESS)
    if pauses is None:
        await run()
        return
    gc.callbacks.append(pauses.collected)
    pauses.attach_to_portal()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pauses.probe)
        await run()
        nursery.cancel_scope.cancel()


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pauses", type=Path)
    arguments = parser.parse_args()
    config = Config.from_environ(os.environ, require_credentials=True)
    logs.configure("json", config.log_level, secrets=config.secrets())
    pauses = Pauses() if arguments.pauses is not None else None
    with suppress(KeyboardInterrupt):
        trio.run(_serve, config, pauses)
    if pauses is not None:
        told = {
            "collections": pauses.collections,
            "lags": pauses.lags,
            "portal_lags": pauses.portal_lags,
        }
        arguments.pauses.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
