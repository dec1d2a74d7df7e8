"""The simulated exchange as a separate process, with faults by a seeded plan.

``python -m tests.torture.venue --seed 7 --truth FILE`` prints its port, serves the exchange, and
appends to FILE what really happens, as it happens. Its standard input takes two lines: ``calm`` (stop
faults and market, and print how often each fault came) and ``end``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import IO

import attrs
import trio

from oms_trio.settings import logs
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.ground_truth import GroundTruth
from oms_trio.testing.okx_server.server import serve
from oms_trio.testing.okx_server.values import ExchangeFill, ExchangeOrder, text
from tests.torture.mangler import Mangler

BALANCE = Decimal(10_000)
MIDDLE = Decimal(67_000)
STEP_S = 0.1
REACH = 25.0
"""The market stays within about this many USDT of the middle: orders there rest or take."""

DEPTH_LOTS = (5, 60)
"""0.05 to 0.6 contracts at a price: orders of about one contract fill in several parts."""

UNKNOWN = ("50001", "50004", "50026", "51054", "51149")
"""Codes that leave it open whether the order was booked."""


@attrs.define
class LoggedTruth(GroundTruth):
    """The exchange's own log, written to a file line by line as it happens."""

    file: IO[str] | None = None
    exchange: SimulatedExchange | None = None

    def record(self, order: ExchangeOrder, fill: ExchangeFill | None) -> None:
        """Write one change of an order, and the position after it."""
        assert self.exchange is not None
        line: dict[str, object] = {
            "at": self.exchange.now_ms,
            "cash": text(self.exchange.engine.ledger.cash_bal),
            "ordId": order.ord_id,
            "clOrdId": order.cl_ord_id,
            "tag": order.tag,
            "side": order.side.value,
            "px": "" if order.px is None else text(order.px),
            "sz": text(order.sz),
            "state": order.state.value,
            "accFillSz": text(order.acc_fill_sz),
        }
        if fill is not None:
            line["fill"] = {"tradeId": fill.trade_id, "px": text(fill.px), "sz": text(fill.sz)}
        self.write(line)
        self.record_position()

    def record_position(self) -> None:
        """Write the present ``uplRatio`` of the position: any report of it has one of these."""
        assert self.exchange is not None
        view = self.exchange.engine.position_view()
        if view is not None and view.upl_ratio is not None:
            report = {"tradeId": view.position.trade_id, "uplRatio": text(view.upl_ratio)}
            self.write({"position": report})

    def write(self, line: dict[str, object]) -> None:
        """Append one line and flush it."""
        assert self.file is not None
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


@attrs.define
class TortureExchange:
    """The exchange, its market and its faults."""

    exchange: SimulatedExchange
    truth: LoggedTruth
    mangler: Mangler
    random: Random
    fault_counts: Counter[str]
    faulty: bool
    calm: trio.Event = attrs.Factory(trio.Event)

    async def run_market(self) -> None:
        """Move the price and inject faults until ``calm``; at its end no fault is left."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._move)
            if self.faulty:
                nursery.start_soon(self._inject_faults)
            await self.calm.wait()
            nursery.cancel_scope.cancel()
        faults = self.exchange.faults
        faults.refuse_connections = faults.silence = faults.push_before_ack = False
        faults.ack_delay_s = 0.0
        faults.drop_acks = faults.cut_after_op = faults.rest_failures = 0
        faults.submit_answers.clear()
        self.mangler.rate = self.mangler.delay_s = 0.0

    async def _move(self) -> None:
        """Move the price around the middle; resting orders fill on the way."""
        away = 0.0
        while True:
            await trio.sleep(STEP_S)
            away = 0.9 * away + self.random.gauss(0, REACH * 0.4)
            self.exchange.set_price(MIDDLE + Decimal(round(away, 1)))
            self.truth.record_position()

    async def _inject_faults(self) -> None:
        kinds = {
            self.cut: 2,
            self.cut_after_op: 2,
            self.drop_acks: 2,
            self.delay_acks: 2,
            self.push_before_ack: 2,
            self.forced_answers: 2,
            self.rest_failures: 2,
            self.mangle_pushes: 5,
            self.delay_all: 3,
            self.upgrade: 1,
            self.stall_and_cut: 2,
            self.refuse: 1,
        }
        while True:
            await trio.sleep(self.random.uniform(0.2, 1.2))
            fault = self.random.choices(list(kinds), list(kinds.values()))[0]
            self.fault_counts[fault.__name__] += 1
            await fault()

    async def cut(self) -> None:
        """Lose every connection."""
        self.exchange.faults.cut()

    async def cut_after_op(self) -> None:
        """Lose the connection instead of answering, once the operation is carried out."""
        self.exchange.faults.cut_after_op = 1

    async def drop_acks(self) -> None:
        """Lose answers."""
        self.exchange.faults.drop_acks = self.random.randint(1, 3)

    async def delay_acks(self) -> None:
        """Answer late from now on, or at once again."""
        self.exchange.faults.ack_delay_s = self.random.choice([0.0, 0.05, 0.3])

    async def push_before_ack(self) -> None:
        """Push before the answer from now on, or after it."""
        self.exchange.faults.push_before_ack = self.random.random() < 0.5

    async def forced_answers(self) -> None:
        """Answer submits by a code of unknown outcome, booked or not."""
        code, executed = self.random.choice(UNKNOWN), self.random.random() < 0.5
        self.exchange.faults.answer_submits(code, self.random.randint(1, 2), executed=executed)

    async def rest_failures(self) -> None:
        """Fail some REST calls; not for long, since each one doubles the service's back-off."""
        self.exchange.faults.rest_failures = self.random.randint(1, 4)
        await trio.sleep(0.5)
        self.exchange.faults.rest_failures = 0

    async def mangle_pushes(self) -> None:
        """Change how often pushes are repeated, dropped and reordered."""
        self.mangler.rate = self.random.choice([0.0, 0.3, 0.7])

    async def delay_all(self) -> None:
        """Change the delay of everything that is sent."""
        self.mangler.delay_s = self.random.choice([0.0, 0.01, 0.06])

    async def upgrade(self) -> None:
        """Announce the end of the connection."""
        self.exchange.faults.announce_upgrade(after_s=2.0)

    async def stall_and_cut(self) -> None:
        """Lose everything of a connection for a while, then the connection."""
        self.exchange.faults.silence = True
        await trio.sleep(self.random.uniform(0.1, 0.8))
        self.exchange.faults.cut()
        self.exchange.faults.silence = False

    async def refuse(self) -> None:
        """Refuse connections for a while."""
        self.exchange.faults.refuse_connections = True
        self.exchange.faults.cut()
        await trio.sleep(self.random.uniform(0.3, 1.5))
        self.exchange.faults.refuse_connections = False


async def run(seed: int, account: ExchangeAccount, file: IO[str], *, faulty: bool) -> None:
    """Serve until ``end`` comes."""
    truth = LoggedTruth(keep=False, file=file)
    exchange = SimulatedExchange(account=account, seed=seed, start_px=MIDDLE, ground_truth=truth)
    truth.exchange = exchange
    market = exchange.engine.market
    market.step_ticks, market.depth_lots = 0, DEPTH_LOTS
    fault_counts: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        mangler = Mangler(Random(seed + 1), fault_counts, nursery)
        mangler.install()
        venue = TortureExchange(exchange, truth, mangler, Random(seed + 2), fault_counts, faulty)
        port = await nursery.start(partial(serve, exchange))
        nursery.start_soon(venue.run_market)
        print(port, flush=True)  # noqa: T201 - who started us reads it
        async for line in _lines():
            if line == "end":
                break
            venue.calm.set()
            print(json.dumps(fault_counts), flush=True)  # noqa: T201 - likewise
        nursery.cancel_scope.cancel()


async def _lines() -> AsyncIterator[str]:
    """Give the lines of our standard input; its end is an ``end``."""
    received = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stream:
        async for data in stream:
            received += data
            *lines, received = received.split(b"\n")
            for line in lines:
                yield line.decode()


def main() -> None:
    """Read the arguments, and the account's secrets from the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--no-faults", action="store_true")
    arguments = parser.parse_args()
    account = ExchangeAccount(
        api_key=os.environ["OKX_API_KEY"],
        secret=os.environ["OKX_SECRET_KEY"],
        passphrase=os.environ["OKX_PASSPHRASE"],
        balance=BALANCE,
    )
    logs.configure("json", "error")
    with arguments.truth.open("a") as file:
        faulty = not arguments.no_faults
        trio.run(partial(run, arguments.seed, account, file, faulty=faulty))


if __name__ == "__main__":
    main()
