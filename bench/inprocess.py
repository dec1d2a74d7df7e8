"""Without any I/O: what one action, one push, one fill cost in the process.

action   the 25 bytes to the order, the journal record and the settlement (``Writer.take``)
push     the bytes of one ``orders`` push to state, record and encoded execution
core     ``TradeState.apply`` alone, on inputs that are decoded already
growth   both, with more and more open orders, and with more and more fills in one trade

Contenders get the same pushes in an interpreter of their own, one after the other in each round.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import trio

from bench.places import OURS, PEERS, ROOT, installed
from bench.recording import ANSWER, CONTEXT, ORDER, RULES, SNAPSHOT
from bench.stats import Row, Tables, compare, quantile
from oms_trio.amqp.codec import decode_action, encode_action
from oms_trio.amqp.model import Delivery
from oms_trio.core.effects import CancelOrders, PlaceOrder
from oms_trio.core.events import Action, OrderAnswer, OrderUpdate
from oms_trio.core.model import ClOrdId, OrderType, Rules
from oms_trio.core.state import TradeState
from oms_trio.okx.session import OkxSession
from oms_trio.okx.wire.frames import OpResponse, OrdersPush
from oms_trio.okx.wire.signing import Credentials
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Commit, Query
from oms_trio.service.intake_gate import Gate
from oms_trio.service.journaled_inputs import JournaledInput
from oms_trio.settings import logs
from oms_trio.tasks.trade_state import Writer

CYCLES = 3000
START_NS = 1_790_000_000_000_000_000
PUSH_PEERS = {
    "ccxt.pro handle_message": "bench.peers.ccxt_push",
    "vnpy_okx on_message": "bench.peers.vnpy_push",
}
FILL_PEERS = "bench.peers.nautilus_fills"
ENGINE, OBJECTS = "NautilusTrader ExecutionEngine.process", "NautilusTrader order + position"

Samples = list[int]


@attrs.define
class Bench:
    """A trade-state task without its task: everything that it does is in ``take``."""

    writer: Writer
    commits: trio.MemoryReceiveChannel[Commit]
    orders: trio.MemoryReceiveChannel[PlaceOrder]
    session: OkxSession
    count: int = 0

    @classmethod
    def make(cls, rules: Rules = RULES) -> Bench:
        """Make one whose state is reconciled and ready."""
        orders, orders_out = trio.open_memory_channel[PlaceOrder](float("inf"))
        cancels, _ = trio.open_memory_channel[CancelOrders](float("inf"))
        queries, _ = trio.open_memory_channel[Query](float("inf"))
        commits, commits_out = trio.open_memory_channel[Commit](float("inf"))
        gate = Gate(lambda _: None)
        writer = Writer(
            state=TradeState(rules),
            orders=orders,
            cancels=cancels,
            queries=queries,
            commits=commits,
            gate=gate,
            clock=time.time_ns,
            mono_clock=time.monotonic_ns,
        )
        session = OkxSession(Credentials("", "", ""), CONTEXT.inst_id)
        bench = cls(writer, commits_out, orders_out, session)
        for arrival in (
            journaled_inputs.started(rules),
            journaled_inputs.session_up(),
            journaled_inputs.snapshot(SNAPSHOT, CONTEXT),
        ):
            bench.take(arrival)
        return bench

    def take(self, arrival: JournaledInput) -> None:
        """Let the writer take it, and throw the commit away."""
        self.writer.take([arrival])
        while self.commits.statistics().current_buffer_used:
            self.commits.receive_nowait()

    def act(self, price: float, volume: float = 0.05) -> tuple[ClOrdId, int]:
        """Take an action; returns its order's name and what it cost."""
        self.count += 1
        body = encode_action(self.count, OrderType.LIMIT, price, volume, Decimal("67000.00"))
        delivery = Delivery(self.count, body, f"m{self.count}", redelivered=False)
        began = time.perf_counter_ns()
        self.writer.take([journaled_inputs.action(decode_action(delivery, time.time_ns()))])
        cost = time.perf_counter_ns() - began
        self.commits.receive_nowait()
        return self.orders.receive_nowait().cl_ord_id, cost

    def answered(self, fields: dict[str, object]) -> None:
        """Take the exchange's answer."""
        text = ANSWER % fields
        (frame,) = self.session.receive(text, 0.0)
        assert isinstance(frame, OpResponse)
        name = fields["name"]
        self.take(journaled_inputs.order_answer(text, frame, (ClOrdId(str(name)),)))

    def pushed(self, text: str) -> int:
        """Take an ``orders`` push; returns what it cost from its bytes on."""
        began = time.perf_counter_ns()
        (frame,) = self.session.receive(text, 0.0)
        assert isinstance(frame, OrdersPush)
        self.writer.take([journaled_inputs.push(text, frame)])
        cost = time.perf_counter_ns() - began
        commit = self.commits.receive_nowait()
        assert commit.entries[0].outbox
        return cost


def order_fields(number: int, name: str, *, buys: bool) -> dict[str, object]:
    """Give the fields of an order that has filled with 0.1 contracts."""
    return {
        "ord": 3967288020668928111 + number,
        "name": name,
        "side": "buy" if buys else "sell",
        "sz": "0.1",
        "acc": "0.1",
        "fill": "0.1",
        "state": "filled",
        "px": "67000" if buys else "67010.5",
        "pnl": "0" if buys else "0.0105",
        "trade": 1000 + number,
        "ms": START_NS // 1_000_000 + number,
    }


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the collector out: the service freezes what it finds, and its pauses are a table."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def ours(cycles: int, open_orders: int = 0) -> tuple[Samples, Samples]:
    """Run actions that fill; returns what actions and pushes cost."""
    bench = Bench.make()
    for _ in range(open_orders):
        name, _ = bench.act(-0.9)
        bench.answered(order_fields(10**7 + bench.count, name, buys=True))
    actions, pushes = [], []
    with without_collector():
        for number in range(cycles):
            buys = number % 2 == 0
            name, cost = bench.act(-0.25 if buys else 0.25)
            actions.append(cost)
            fields = order_fields(number, name, buys=buys)
            bench.answered(fields)
            pushes.append(bench.pushed(ORDER % fields))
    return actions, pushes


def push_costs(rounds: int, cycles: int) -> list[Row]:
    """Compare the way of one push."""
    texts = [
        ORDER % order_fields(number, f"oms{number:08x}{'0' * 20}", buys=number % 2 == 0)
        for number in range(cycles)
    ]
    present = {name: module for name, module in PUSH_PEERS.items() if installed(module)}
    measured: list[dict[str, dict[str, float]]] = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "pushes"
        file.write_text("\n".join(texts))
        for _ in range(rounds):
            measured.append({OURS: _summary(ours(cycles)[1])})
            for name, module in present.items():
                measured[-1][name] = _summary(_peer(module, str(file))["push"])
    return compare(measured, [OURS, *PUSH_PEERS], OURS)


def core_costs(rounds: int, cycles: int) -> list[Row]:
    """Compare the core alone with orders and positions of NautilusTrader for the same fills."""
    nautilus = installed(FILL_PEERS)
    measured: list[dict[str, dict[str, float]]] = []
    for _ in range(rounds):
        costs = core(cycles)
        measured.append({f"oms-trio core: {name}": _summary(costs[name]) for name in costs})
        if nautilus:
            for name, samples in _peer(FILL_PEERS, str(cycles)).items():
                measured[-1][{"engine": ENGINE, "objects": OBJECTS}[name]] = _summary(samples)
    names = [*(f"oms-trio core: {name}" for name in ("action", "fill", "closure"))]
    return compare(measured, [*names, ENGINE, OBJECTS], names[1])


def core(cycles: int) -> dict[str, Samples]:
    """Apply decoded inputs; returns what actions, opening fills and closing fills cost."""
    bench = Bench.make()
    state = bench.writer.state
    costs: dict[str, Samples] = {"action": [], "fill": [], "closure": []}
    with without_collector():
        for number in range(cycles):
            buys = number % 2 == 0
            action, answer, update = _inputs(bench, number, buys=buys)
            began = time.perf_counter_ns()
            state.apply(action, START_NS + number)
            costs["action"].append(time.perf_counter_ns() - began)
            state.apply(answer, START_NS + number)
            began = time.perf_counter_ns()
            state.apply(update, START_NS + number)
            costs["fill" if buys else "closure"].append(time.perf_counter_ns() - began)
    return costs


def _inputs(bench: Bench, number: int, *, buys: bool) -> tuple[Action, OrderAnswer, OrderUpdate]:
    body = encode_action(
        number, OrderType.LIMIT, -0.25 if buys else 0.25, 0.05, Decimal("67000.00")
    )
    delivery = Delivery(number, body, f"m{number}", redelivered=False)
    now_ns = START_NS + number
    action = decode_action(delivery, now_ns)
    name, _ = attrs.evolve(bench.writer.state.deduplicator).identify(
        action, now_ns, RULES.max_action_age_ns, lambda _: False
    )
    del bench.writer.state.deduplicator.names[name]
    fields = order_fields(number, name, buys=buys)
    (frame,) = bench.session.receive(ANSWER % fields, 0.0)
    assert isinstance(frame, OpResponse)
    (answer,) = journaled_inputs.order_answer("", frame, (name,)).events
    assert isinstance(answer, OrderAnswer)
    (push,) = bench.session.receive(ORDER % fields, 0.0)
    assert isinstance(push, OrdersPush)
    return action, answer, OrderUpdate(push.reports[0])


def growth_by_orders(cycles: int) -> list[Row]:
    """Measure actions and pushes beside so many open orders."""
    rows: list[Row] = []
    for count in (1, 30, 100, 299):
        actions, pushes = ours(cycles, count)
        row: Row = {"open orders": count}
        row |= _named("action", actions) | _named("push", pushes)
        rows.append(row)
    return rows


def growth_by_fills(most: int) -> list[Row]:
    """Measure pushes of one trade that so many fills of as many orders make."""
    bench = Bench.make(attrs.evolve(RULES, max_margin_fraction=Decimal(1)))
    rows: list[Row] = []
    pushes: Samples = []
    with without_collector():
        for number in range(most):
            name, _ = bench.act(-0.25)
            fields = order_fields(number, name, buys=True)
            bench.answered(fields)
            pushes.append(bench.pushed(ORDER % fields))
            if number + 1 in {10, 100, 1000, most}:
                row: Row = {"fills in the trade": number + 1}
                rows.append(row | _named("push", pushes[-500:]))
        fields = order_fields(most, name, buys=False)
        closing = f"oms{0:08x}{'0' * 20}"
        size = f"{most / 10:.1f}"
        fields |= {"name": closing, "sz": size, "acc": size, "fill": size}
        cost = bench.pushed(ORDER % fields)
    rows.append({"fills in the trade": "its closure", "push p50": cost / 1e3})
    return rows


def _peer(module: str, argument: str) -> dict[str, Samples]:
    done = subprocess.run(  # noqa: S603
        [PEERS, "-m", module, argument], cwd=ROOT, capture_output=True, check=True, text=True
    )
    told: dict[str, Samples] = json.loads(done.stdout.splitlines()[-1])
    return told


def _named(what: str, samples: Samples) -> Row:
    summary = _summary(samples)
    return {f"{what} {name}": summary[name] for name in ("mean", "p50", "p99")}


def _summary(samples: Iterable[int]) -> dict[str, float]:
    settled = [sample / 1e3 for sample in samples]
    settled = settled[len(settled) // 10 :]  # the first tenth warms up
    return {
        "mean": statistics.fmean(settled),
        "p50": quantile(settled, 0.5),
        "p99": quantile(settled, 0.99),
        "p99.9": quantile(settled, 0.999),
    }


def run(*, quick: bool = False) -> Tables:
    """Measure everything."""
    rounds, cycles = (1, 1000) if quick else (3, CYCLES)
    with Path(os.devnull).open("w") as nowhere:
        logs.configure("json", stream=nowhere)  # as the service logs: that is part of a closure
        return _tables(rounds, cycles, quick=quick)


def _tables(rounds: int, cycles: int, *, quick: bool) -> Tables:
    return {
        "one orders push, bytes to execution, us": push_costs(rounds, cycles),
        "core alone, us": core_costs(rounds, cycles),
        "growth with open orders, us": growth_by_orders(cycles),
        "growth with fills in one trade, us": growth_by_fills(1000 if quick else 10_000),
    }
