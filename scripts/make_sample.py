#!/usr/bin/env python3
"""Make samples/: a recorded session in which much goes wrong, and what replaying it must give.

The service runs against the simulated exchange while faults strike: lost links, acks and pushes,
answers of unknown outcome, an upgrade, refusals, and two kills. Time runs faster than it does, so
the sample is not the same bytes each time; its golden files are made with it.

    scripts/make_sample.py [--minutes 8] [--seed 7]
"""

from __future__ import annotations

import argparse
import gzip
import io
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, redirect_stdout
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import attrs
import httpx
import trio
from rich.console import Console
from trio.testing import MockClock

from oms_trio.amqp.codec import encode_action
from oms_trio.amqp.memory import MemoryBroker
from oms_trio.commands.demo.agent import DemoAgent
from oms_trio.core.model import OrderType
from oms_trio.journal.journal import Journal
from oms_trio.journal.worker import JournalWorker
from oms_trio.okx.rest import Rest
from oms_trio.okx.session import OkxSession
from oms_trio.okx.websocket import OkxConnection, open_okx_connection
from oms_trio.okx.wire.signing import Credentials
from oms_trio.replay.replay_command import ReplayOptions, replay
from oms_trio.service.app import run_service
from oms_trio.service.journaled_inputs import DecodeContext
from oms_trio.service.recovery import recover
from oms_trio.settings import logs
from oms_trio.settings.clock import Clock, virtual_clock
from oms_trio.settings.config import Config
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.server import serve

SAMPLES = Path(__file__).parent.parent / "samples"
JOURNAL = SAMPLES / "eventful.sqlite.gz"
START_NS = 1_793_610_000_000_000_000
"""2026-11-02T09:00:00Z."""

RATE = 20.0
"""Seconds of the session in one of ours."""

STEP_S = 1.5
WIDTH = 100


@attrs.define
class World:
    """The exchange, the broker and the agent; the service in it is started, killed, started."""

    exchange: SimulatedExchange
    broker: MemoryBroker
    clock: Clock
    config: Config
    client: httpx.AsyncClient
    port: int
    folder: Path
    random: Random
    agent: DemoAgent
    position: Decimal = Decimal(0)

    async def live(self, part: Callable[[], Awaitable[None]], *, stopped: bool) -> None:
        """Run the service while ``part`` plays; then stop it cleanly, or kill it."""
        config, stop, ready = self.config, trio.Event(), trio.Event()
        account = self.exchange.account
        key = Credentials(account.api_key, account.secret, account.passphrase)
        rest = Rest(self.client, key, self.clock, inst_id=config.instrument)

        def connect() -> AbstractAsyncContextManager[OkxConnection]:
            url = f"ws://127.0.0.1:{self.port}/ws/v5/private"
            session = OkxSession(key, config.instrument, config.order_tag, rest.ignored_rows)
            return open_okx_connection(url, session, self.clock, offset_ns=rest.offset_ns)

        context = DecodeContext(config.instrument, config.order_tag)
        with Journal.open(self.folder / "journal.sqlite") as journal:
            recovered = recover(journal, config.rules(), context)
            run = partial(
                run_service,
                recovered,
                broker=self.broker,
                rest=rest,
                connect=connect,
                disk=JournalWorker(journal),
                rules=config.rules(),
                context=context,
                max_retries=50,
                random=self.random,
                clock=self.clock,
                observers=(
                    lambda _journaled, _effects, state: setattr(
                        self, "position", state.book.position
                    ),
                ),
                stop=stop,
                on_started=ready.set,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await ready.wait()
                await part()
                if stopped:
                    stop.set()
                else:
                    nursery.cancel_scope.cancel()

    async def trade(self, steps: int, strikes: dict[int, Callable[[], object]]) -> None:
        """Let the market move and the agent act; strike at some steps."""
        for step in range(steps):
            if step in strikes:
                strikes[step]()
            self.exchange.tick()
            body = self.agent.act(self.exchange.engine.market.bid, self.position)
            if body is not None:
                self.broker.publish_action(body)
            await trio.sleep(STEP_S * self.random.uniform(0.5, 1.5))

    def refuse_too_small(self) -> None:
        """Publish an action without a volume, which becomes no order."""
        mid = self.exchange.engine.market.bid
        self.broker.publish_action(encode_action(90_001, OrderType.LIMIT, -0.1, 0.0, mid))

    def refuse_too_much(self) -> None:
        """Publish actions that would pass the cap together."""
        mid = self.exchange.engine.market.bid
        for number in range(3):
            body = encode_action(90_100 + number, OrderType.LIMIT, -0.9, 150.0, mid)
            self.broker.publish_action(body)

    def publish_twice(self) -> None:
        """Publish one action twice under one name, as a broker may deliver it."""
        body = encode_action(90_200, OrderType.MARKET, -0.1, 0.5, self.exchange.engine.market.bid)
        self.broker.publish_action(body, message_id="twice")
        self.broker.publish_action(body, message_id="twice")


async def play(minutes: float, seed: int, folder: Path) -> None:
    """Play a session in three lives."""
    clock = virtual_clock(START_NS)
    exchange = SimulatedExchange(clock=clock, seed=seed)
    faults = exchange.faults
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange, tick_s=0.5))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            random = Random(seed)  # noqa: S311 - to be repeated
            config = Config.from_environ({"OMS_MAX_OPEN_ORDERS": "25", "OMS_MAX_ORDER_AGE": "90"})
            broker = MemoryBroker(message_ttl_s=5.0)
            agent = DemoAgent(Random(seed))  # noqa: S311 - likewise
            world = World(exchange, broker, clock, config, client, port, folder, random, agent)
            steps = round(minutes * 60 / STEP_S / 3)

            def at(part: float, strike: Callable[[], object]) -> tuple[int, Callable[[], object]]:
                return round(part * steps), strike

            lose = partial(setattr, faults)
            first = dict(
                [
                    at(0.10, world.refuse_too_small),
                    at(0.25, lambda: lose("drop_order_pushes", 1)),
                    at(0.40, lambda: faults.answer_submits("51008")),
                    at(0.55, faults.cut),
                    at(0.70, lambda: faults.answer_submits("50004", executed=True)),
                    at(0.85, lambda: lose("repeat_order_pushes", 3)),
                    at(0.97, world.publish_twice),
                ]
            )
            second = dict(
                [
                    at(0.10, lambda: lose("drop_acks", 1)),
                    at(0.25, partial(faults.announce_upgrade, 20.0)),
                    at(0.45, world.refuse_too_much),
                    at(0.60, lambda: faults.answer_submits("50011", 2)),
                    at(0.80, lambda: lose("cut_after_op", 1)),
                ]
            )
            third = dict(
                [
                    at(0.20, lambda: lose("rest_failures", 3)),
                    at(0.22, faults.cut),
                    at(0.50, lambda: lose("drop_order_pushes", 2)),
                    at(0.70, lambda: lose("push_before_ack", True)),
                    at(0.75, lambda: faults.answer_submits("51149")),
                ]
            )
            await world.live(partial(world.trade, steps, first), stopped=False)
            await trio.sleep(4.0)
            await world.live(partial(world.trade, steps, second), stopped=False)
            await trio.sleep(2.0)
            await world.live(partial(world.trade, steps, third), stopped=True)
        nursery.cancel_scope.cancel()


def pack(folder: Path) -> None:
    """Write the journal without free pages and without a log beside it, packed."""
    whole = folder / "whole.sqlite"
    connection = sqlite3.connect(folder / "journal.sqlite")
    connection.execute("VACUUM INTO ?", (str(whole),))
    connection.close()
    JOURNAL.parent.mkdir(exist_ok=True)
    with JOURNAL.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(whole.read_bytes())


async def golden() -> None:
    """Write down what replaying the sample gives."""
    text = io.StringIO()
    console = Console(file=text, width=WIDTH)
    if not await replay(ReplayOptions(path=JOURNAL, verify=True), console):
        print(text.getvalue())
        sys.exit("the sample does not replay to its own messages")
    await replay(ReplayOptions(path=JOURNAL), console)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    (SAMPLES / "eventful.summary.txt").write_text("\n".join(lines) + "\n")
    told = io.StringIO()
    with redirect_stdout(told):
        await replay(ReplayOptions(path=JOURNAL, messages=True), console)
    (SAMPLES / "eventful.messages.jsonl").write_text(told.getvalue())


def main() -> None:
    """Make the sample and its golden files."""
    parser = argparse.ArgumentParser(description="Make the sample recording.")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--golden", action="store_true", help="the golden files only")
    arguments = parser.parse_args()
    logs.configure("console", "critical")
    if not arguments.golden:
        with TemporaryDirectory(prefix="oms-trio-sample-") as folder:
            trio.run(
                play, arguments.minutes, arguments.seed, Path(folder), clock=MockClock(rate=RATE)
            )
            pack(Path(folder))
    trio.run(golden)
    print((SAMPLES / "eventful.summary.txt").read_text())
    print(f"{JOURNAL.name}: {JOURNAL.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
