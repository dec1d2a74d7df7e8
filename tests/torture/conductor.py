"""One run: processes are started, killed and started again; then come rest and the checks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex

import attrs
import pika
import trio

from oms_trio.service.journaled_inputs import DecodeContext
from oms_trio.service.runtime import JOURNAL
from oms_trio.settings.config import Config
from tests.amqp.proxy import Proxy, open_proxy
from tests.rabbitmq import RabbitNode
from tests.torture.agent import BrokerNames, Collector, Producer, prepare, waiting
from tests.torture.checks import Evidence, check
from tests.torture.plan import RANDOM, PlannedKill, TorturePlan
from tests.torture.processes import FAILED, Service, start_venue
from tests.torture.truth import ExchangeLog
from tests.torture.victim import DIED

POINT_S = 8.0
"""How long a process may take to come to its point; then it is killed at random."""

QUIET_S = 30.0
"""How long the service may take to settle everything at the end. A redelivered action is looked up
until nothing sent by an earlier process can be executed any more, 8 s after the start."""

SETTINGS = {
    "OMS_HTTP": "off",
    "OMS_LOG": "json",
    "OMS_MAX_MARGIN_FRACTION": "0.012",
    "OMS_MAX_OPEN_ORDERS": "25",
    "OMS_MAX_ORDER_AGE": "15",
}
"""A cap of about 18 contracts, which orders of up to two reach now and then."""


def silent(_line: str) -> None:
    """Show no progress."""


@attrs.frozen
class TortureReport:
    """The result of a run."""

    seed: int
    kills: Counter[str]
    faults: Counter[str]
    actions: int
    orders: int
    fills: int
    messages: int
    repeats: int
    rejections: int
    dead_letters: int
    seconds: float
    problems: list[str]
    folder: Path


@attrs.define
class TortureRun:
    """Everything that takes part in one run."""

    plan: TorturePlan
    node: RabbitNode
    names: BrokerNames
    folder: Path
    service: Service
    venue: subprocess.Popen[bytes]
    proxy: Proxy
    producer: Producer
    received: Collector
    dead: Collector
    secrets: tuple[str, ...]
    quiet_s: float = QUIET_S
    on_progress: Callable[[str], None] = silent
    kills: Counter[str] = attrs.Factory(Counter)
    faults: Counter[str] = attrs.Factory(Counter)
    problems: list[str] = attrs.Factory(list)

    async def torture(self) -> None:
        """Kill by the plan, then let everything come to rest."""
        self.service.start(RANDOM, 0)
        if (why := await self.service.ready()) is not None:
            self.problems.append(why)
            return
        self.producer.start()
        self.dead.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cut)
            for number, kill in enumerate(self.plan.kills):
                self.service.kill()
                if number == self.plan.broker_kill_at:
                    nursery.start_soon(self._restart_broker)
                await self._run_until_killed(kill)
                if self.problems:
                    break
                self.on_progress(f"seed {self.plan.seed}: kill {number + 1}, {kill.point}")
            nursery.cancel_scope.cancel()
        await self._rest()

    async def _run_until_killed(self, kill: PlannedKill) -> None:
        limit_s = kill.after_s if kill.point == RANDOM else POINT_S
        self.service.start(kill.point, kill.nth)
        code: int | None = None
        with trio.move_on_after(limit_s):
            while (code := await self.service.ended()) == FAILED and self.service.without_broker:
                code = None
                await trio.sleep(0.3)
                self.service.start(kill.point, kill.nth)
        if code is None:
            self.service.kill()
            self.kills[RANDOM] += 1
        elif code == -signal.SIGKILL and self.service.logged(DIED):
            self.kills[kill.point] += 1
        else:
            self.problems.append(f"the service ended with {code} on its way to {kill.point}")

    async def _cut(self) -> None:
        """Cut the connections between service and broker at intervals."""
        for pause_s in self.plan.cuts():
            await trio.sleep(pause_s)
            self.proxy.cut()
            self.faults["broker_cut"] += 1

    async def _restart_broker(self) -> None:
        """Kill the broker and start it again, shielded so that both happen."""
        with trio.CancelScope(shield=True):
            await trio.sleep(1.0)
            await trio.to_thread.run_sync(self.node.kill)
            self.faults["broker_kill"] += 1
            await trio.to_thread.run_sync(self.node.start)

    async def _rest(self) -> None:
        """Stop all faults, wait until the checks pass or time is up, and stop the service."""
        self.service.kill()
        await trio.to_thread.run_sync(self.producer.stop)
        assert self.venue.stdin is not None
        assert self.venue.stdout is not None
        self.venue.stdin.write(b"calm\n")
        self.venue.stdin.flush()
        self.faults.update(json.loads(await trio.to_thread.run_sync(self.venue.stdout.readline)))
        self.service.start(RANDOM, 0)
        if (why := await self.service.ready()) is not None:
            self.problems.append(why)
            return
        deadline = trio.current_time() + self.quiet_s
        while (found := await self._found()) and trio.current_time() < deadline:  # noqa: ASYNC110 - likewise
            await trio.sleep(1.0)
        assert self.service.process is not None
        self.service.process.terminate()
        code: int | None = None
        with trio.move_on_after(10.0):
            code = await self.service.ended()
        if code != 0:
            found.append(f"the service ended with {code} when it was asked to stop")
        if not found:
            # The stop must not change anything either.
            found = await self._found()
        self.problems += found
        for worker in (self.received, self.dead):
            await trio.to_thread.run_sync(worker.stop)

    async def _found(self) -> list[str]:
        left = await trio.to_thread.run_sync(waiting, self._connect, self.names)
        queued = [f"{left} actions wait in the queue"] if left else []
        return queued + await trio.to_thread.run_sync(check, self.evidence())

    def _connect(self) -> pika.BlockingConnection:
        return self.node.connect()

    def evidence(self) -> Evidence:
        """Return everything that is checked."""
        config = Config.from_environ(self.service.environment)
        return Evidence(
            sent=tuple(self.producer.sent),
            received=tuple(self.received.messages),
            dead=tuple(self.dead.messages),
            truth=ExchangeLog.read(self.folder / "truth"),
            journal=self.folder / "state" / JOURNAL,
            log=self.service.log,
            secrets=self.secrets,
            rules=config.rules(),
            scope=DecodeContext(config.instrument, config.order_tag),
        )

    def report(self, seconds: float) -> TortureReport:
        """Return the result, and write what was sent and received beside the logs."""
        evidence = self.evidence()
        for name in ("sent", "received", "dead"):
            lines = "".join(f"{line}\n" for line in getattr(evidence, name))
            (self.folder / name).write_text(lines)
        ids = {message.message_id for message in evidence.received}
        return TortureReport(
            seed=self.plan.seed,
            kills=self.kills,
            faults=self.faults,
            actions=len(evidence.sent),
            orders=len(evidence.truth.orders),
            fills=len(evidence.truth.fills),
            messages=len(ids),
            repeats=len(evidence.received) - len(ids),
            rejections=len(
                {m.message_id for m in evidence.received if m.routing_key.endswith("reject")}
            ),
            dead_letters=len(evidence.dead),
            seconds=seconds,
            problems=self.problems,
            folder=self.folder,
        )


async def torture(
    plan: TorturePlan,
    node: RabbitNode,
    folder: Path,
    *,
    wrong: str = "",
    quiet_s: float = QUIET_S,
    on_progress: Callable[[str], None] = silent,
) -> TortureReport:
    """Carry out a plan in a new folder; ``wrong`` names a sabotage of the service."""
    began = time.monotonic()
    async with _prepared(plan, node, folder, Service({}, folder / "log", wrong)) as run:
        run.quiet_s, run.on_progress = quiet_s, on_progress
        try:
            await run.torture()
        finally:
            run.service.kill()
        return run.report(time.monotonic() - began)


@asynccontextmanager
async def _prepared(
    plan: TorturePlan, node: RabbitNode, folder: Path, service: Service
) -> AsyncIterator[TortureRun]:
    names = BrokerNames(f"{os.getpid()}-{token_hex(4)}")
    secrets = {name: f"{name[4:7].lower()}{token_hex(12)}" for name in _SECRETS}
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    async with AsyncExitStack() as stack:
        # Leaving it closes the pipes and waits for the end.
        venue = stack.enter_context(start_venue(plan, folder / "truth", inherited | secrets))
        stack.callback(venue.kill)
        assert venue.stdout is not None
        port = int(await trio.to_thread.run_sync(venue.stdout.readline))
        proxy = await stack.enter_async_context(open_proxy(node.port))
        service.environment = {
            **inherited,
            **secrets,
            **names.environment(),
            **SETTINGS,
            "OKX_WS_URL": f"ws://127.0.0.1:{port}/ws/v5/private",
            "OKX_REST_URL": f"http://127.0.0.1:{port}",
            "RABBITMQ_HOST": "127.0.0.1",
            "RABBITMQ_PORT": str(proxy.port),
            "OMS_STATE_DIR": str(folder / "state"),
        }
        await trio.to_thread.run_sync(prepare, node.connect, names)
        received = Collector(node.connect, names, queue=names.received)
        run = TortureRun(
            plan=plan,
            node=node,
            names=names,
            folder=folder,
            service=service,
            venue=venue,
            proxy=proxy,
            producer=Producer(node.connect, names, actions=plan.actions()),
            received=received,
            dead=Collector(node.connect, names, queue=names.dead),
            secrets=tuple(secrets.values()),
        )
        received.start()
        for worker in (run.producer, run.received, run.dead):
            stack.push_async_callback(partial(trio.to_thread.run_sync, worker.stop))
        yield run


_SECRETS = ("OKX_API_KEY", "OKX_SECRET_KEY", "OKX_PASSPHRASE")
