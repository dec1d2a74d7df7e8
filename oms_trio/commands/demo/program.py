"""The service with a simulated exchange, a broker and an agent, so that nothing has to be installed.

The exchange's WebSocket and REST are real sockets on loopback, and the service is the one that runs
live. The market moves and the agent acts in steps; each step waits until its action has become an
order or a rejection, so a seed repeats the same market and the same actions.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import attrs
import trio
from rich.console import Console
from rich.live import Live

from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Broker, Outgoing
from oms_trio.amqp.settings import ACTION_KEY
from oms_trio.commands.demo.agent import DemoAgent
from oms_trio.commands.demo.screen import plain_line, screen, summary
from oms_trio.commands.demo.tally import Tally
from oms_trio.service.runtime import broker_settings, serve
from oms_trio.settings.config import Config
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.server import serve as serve_exchange

STEP_S = 0.125
"""The market moves eight times a second."""

SETTLE_S = 5.0
"""How long a step waits for an action that has become neither order nor rejection."""

LAST_MESSAGES_S = 1.0
"""The last messages may reach the agent after the service has ended."""

PLAIN_EVERY_S = 2.0


@attrs.frozen
class DemoBroker:
    """How the agent publishes and receives; ``service_broker`` is None when RabbitMQ is used."""

    act: Callable[[bytes], Awaitable[None]]
    listen: Callable[[Tally], Awaitable[None]]
    service_broker: AbstractAsyncContextManager[Broker] | None


async def demo(
    environ: Mapping[str, str],
    *,
    seconds: float,
    seed: int | None,
    rabbitmq: bool,
    http: bool = False,
) -> bool:
    """Run the demo for ``seconds`` and print its result; Ctrl-C ends it early.

    ``rabbitmq`` uses the broker of the environment instead of one in memory, ``http`` serves the
    status page on a free port. Returns whether our position and the exchange's agree; after Ctrl-C they
    may differ by what filled in that moment, which a next start would find.

    Raises:
        BrokerError: RabbitMQ cannot be used.
    """
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    exchange = SimulatedExchange(seed=seed)
    tally = Tally()
    console = Console()
    with TemporaryDirectory(prefix="oms-trio-demo-") as folder:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(partial(serve_exchange, exchange, tick_s=math.inf))
            address = "127.0.0.1:0" if http else "off"
            config = _config(
                environ if rabbitmq else {}, exchange, port, Path(folder), http=address
            )
            async with _demo_broker(config, rabbitmq=rabbitmq) as demo_broker:
                run = DemoRun(exchange, tally, demo_broker, DemoAgent(Random(seed)), seconds)  # noqa: S311 - it must be repeatable
                async with trio.open_nursery() as showing:
                    showing.start_soon(demo_broker.listen, tally)
                    showing.start_soon(_show, run, console)
                    await run.run(config, partial(console.print, "status page:"))
                    await _last_messages(tally)
                    showing.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
    interrupted = run.done < 1
    console.print(summary(tally, exchange, seed, interrupted=interrupted))
    return run.agrees or interrupted


@attrs.define
class DemoRun:
    """The parts of a demo, and its progress (``done``, 0 to 1)."""

    exchange: SimulatedExchange
    tally: Tally
    broker: DemoBroker
    agent: DemoAgent
    seconds: float
    done: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the exchange's position is the sum of our fills."""
        return self.exchange.engine.ledger.pos == self.tally.position

    async def run(self, config: Config, listening: Callable[[str], object]) -> None:
        """Run the service, the market and the agent until the time is over."""
        stop, started = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._play, started, stop)
            await serve(
                config,
                broker=self.broker.service_broker,
                stop=stop,
                started=started.set,
                observers=(self.tally.observe,),
                listening=listening,
            )
            nursery.cancel_scope.cancel()

    async def _play(self, started: trio.Event, stop: trio.Event) -> None:
        await started.wait()
        steps = max(1, round(self.seconds / STEP_S))
        for step in range(steps):
            if stop.is_set():
                return
            self.exchange.tick()
            action = self.agent.act(self.exchange.engine.market.bid, self.tally.position)
            if action is not None:
                await self.broker.act(action)
            with trio.move_on_after(SETTLE_S):
                # The tally has no event to wait for.
                while self.tally.settled < self.agent.state_id:  # noqa: ASYNC110
                    await trio.sleep(STEP_S / 8)
            await trio.sleep(STEP_S)
            self.done = (step + 1) / steps
        stop.set()


def _config(
    environ: Mapping[str, str], exchange: SimulatedExchange, port: int, folder: Path, *, http: str
) -> Config:
    """Return the environment's settings of the broker, with this exchange and an empty state folder."""
    account = exchange.account
    broker = {name: value for name, value in environ.items() if name.startswith("RABBITMQ_")}
    here = {
        "OKX_API_KEY": account.api_key,
        "OKX_SECRET_KEY": account.secret,
        "OKX_PASSPHRASE": account.passphrase,
        "OKX_WS_URL": f"ws://127.0.0.1:{port}/ws/v5/private",
        "OKX_REST_URL": f"http://127.0.0.1:{port}",
        "OMS_STATE_DIR": str(folder / "state"),
        "OMS_HTTP": http,
    }
    return Config.from_environ({**broker, **here})


@asynccontextmanager
async def _demo_broker(config: Config, *, rabbitmq: bool) -> AsyncIterator[DemoBroker]:
    if rabbitmq:
        agent = broker_settings(config).for_agent(secrets.token_hex(4))
        async with open_broker(agent) as side:

            async def publish(body: bytes) -> None:
                await side.publish([Outgoing(secrets.token_hex(16), ACTION_KEY, body)])

            async def receive(tally: Tally) -> None:
                side.consume(True)
                while True:
                    deliveries = await side.receive()
                    for delivery in deliveries:
                        tally.read(delivery.body)
                    side.ack([delivery.tag for delivery in deliveries])

            yield DemoBroker(publish, receive, None)
        return
    broker = MemoryBroker(prefetch=config.prefetch)

    async def publish_here(body: bytes) -> None:
        await trio.lowlevel.checkpoint()
        broker.publish_action(body)

    async def receive_here(tally: Tally) -> None:
        with broker.subscribe() as messages:
            async for message in messages:
                tally.read(message.body)

    yield DemoBroker(publish_here, receive_here, nullcontext(broker))


async def _last_messages(tally: Tally) -> None:
    """Wait until the agent has received nothing for a moment."""
    count = -1
    while count != (count := tally.messages):  # noqa: ASYNC110 - silence has no event
        await trio.sleep(LAST_MESSAGES_S / 4)


async def _show(run: DemoRun, console: Console) -> None:
    """Show the progress: a live table on a terminal, else a line now and then."""
    if not console.is_terminal:
        while True:
            await trio.sleep(PLAIN_EVERY_S)
            console.print(plain_line(run.tally, run.exchange, run.done))
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(screen(run.tally, run.exchange, run.done), refresh=True)
            await trio.sleep(STEP_S)
