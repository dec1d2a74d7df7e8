"""From the broker to the exchange's socket and back, with everything between: real processes.

action to order    from just before the agent's publish to the order frame at the exchange
fill to execution  from just before the exchange's push to the message in the agent's hands;
                   beside it what an fsync costs on this disk, which ours waits for by promise
throughput         actions at once, and order pushes at once: how fast they come through

The exchange fills every order at once, so both directions are busy all the time: for every
action there come an answer and three pushes. The contenders get the same.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.places import OURS, Run, Venue, agent, begin, contender, installed, outcome, venue
from bench.stats import Row, Tables, compare, quantile
from tests.rabbitmq import running_node

BARE = "asyncio + websockets"
CONTENDERS = {
    OURS: "bench.service",
    BARE: "bench.peers.asyncio_pipe",
    "asyncio + picows": "bench.peers.picows_pipe",
    "pika + websocket-client": "bench.peers.blocking_script",
    "aiormq + ccxt.pro": "bench.peers.ccxt_pipe",
}
WARM_UP = 50
"""Actions before those that count: connections, caches and the allocator settle."""

RATE = 250.0

FSYNC = "one fsync of this disk"
FLOOR = "asyncio + websockets, and one fsync"
"""The least that a pipe can take which has a fill on disk before it tells of it."""

WRITTEN = 16_384
"""Bytes of such a commit: a few pages of the journal's log."""

Measured = dict[str, dict[str, float]]


def _present() -> list[str]:
    return [name for name, module in CONTENDERS.items() if name == OURS or installed(module)]


def run(*, quick: bool = False) -> Tables:
    """Measure all contenders in turn, round by round."""
    rounds, count = (1, 300) if quick else (3, 500)
    names = _present()
    orders: list[Measured] = []
    executions: list[Measured] = []
    throughput: list[Measured] = []
    with running_node() as node, venue() as exchange, TemporaryDirectory() as folder:
        for number in range(rounds):
            orders.append({})
            executions.append({})
            throughput.append({})
            # The order turns, so that nobody always runs behind the same other one.
            for name in names[number % len(names) :] + names[: number % len(names)]:
                with contender(
                    name, CONTENDERS[name], exchange, node.port, Path(folder)
                ) as running:
                    there, back = latency(running, exchange, node.port, count)
                    orders[-1][name], executions[-1][name] = there, back
                    throughput[-1][name] = flood(running, exchange, node.port, 2 * count)
            executions[-1][FSYNC] = fsync = fsync_cost(Path(folder))
            if BARE in names:
                bare = executions[-1][BARE]
                executions[-1][FLOOR] = {key: bare[key] + fsync[key] for key in fsync}
    every = list(CONTENDERS)
    return {
        "action to order frame, us": compare(orders, every, BARE),
        "fill push to execution message, us": compare(executions, [*every, FSYNC, FLOOR], BARE),
        "throughput": compare(throughput, every, BARE),
    }


def latency(
    running: Run, exchange: Venue, amqp_port: int, count: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Send so many actions at the pace; returns both directions."""
    total = count + WARM_UP
    exchange.ask("stamps")
    with agent(running, amqp_port, count=total, rate=RATE, expected=total, patience_s=3) as process:
        begin(process)
        result = outcome(process)
    time.sleep(0.3)
    stamps = exchange.ask("stamps")
    sent, orders, pushes = result["sent"], stamps["orders"], stamps["pushes"]
    wanted = [str(state_id) for state_id in range(1 + WARM_UP, 1 + total)]
    there = [(orders[one] - sent[one]) / 1e3 for one in wanted if one in orders]
    heard = result["heard"]
    back = [(heard[one] - pushes[one]) / 1e3 for one in wanted if one in heard]
    return _summary(there, count), _summary(back, count)


def fsync_cost(folder: Path, count: int = 300) -> dict[str, float]:
    """Append and fsync at the pace of the actions, as a commit does."""
    costs: list[float] = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(count):
            time.sleep(1 / RATE)
            file.write(bytes(WRITTEN))
            began = time.perf_counter()
            os.fsync(file.fileno())
            costs.append((time.perf_counter() - began) * 1e6)
    return _summary(costs, count)


def flood(running: Run, exchange: Venue, amqp_port: int, count: int) -> dict[str, float]:
    """Send actions, then pushes, without any pause; returns what came through a second."""
    exchange.ask("stamps")
    # Small orders: while thousands are open the cap on the position must refuse none.
    errand = {"first": 10_000, "count": count, "expected": count, "volume": 0.05}
    with agent(running, amqp_port, **errand) as process:
        begin(process)
        outcome(process)
    time.sleep(0.5)
    arrived = sorted(exchange.ask("stamps")["orders"].values())
    with agent(running, amqp_port, expected=count) as process:
        begin(process)
        exchange.ask(f"blast?{count}")
        result = outcome(process)
    told = result["messages"]
    (began,) = exchange.ask("stamps")["pushes"].values()
    return {
        "actions/s": len(arrived) / (arrived[-1] - arrived[0]) * 1e9,
        "actions lost": count - len(arrived),
        "order pushes/s": told / (result["last_ns"] - began) * 1e9,
        "pushes lost": count - told,
    }


def _summary(samples: list[float], count: int) -> dict[str, float]:
    """Summarise; what never came is counted beside."""
    return {
        "p50": quantile(samples, 0.5),
        "p99": quantile(samples, 0.99),
        "p99.9": quantile(samples, 0.999),
        "lost": count - len(samples),
    }


def row_of(rows: list[Row], name: str) -> Row:
    """Find a contender's row."""
    return next(row for row in rows if row["who"] == name)
