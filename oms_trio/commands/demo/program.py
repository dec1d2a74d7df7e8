"""The whole main job without anything to install: exchange, broker and agent are brought along.

The exchange is simulated but its WebSocket and REST are real sockets on loopback, and the service
is the one that runs live. The market moves and the agent acts in steps, and a step waits until
the action before it is settled, so a seed gives the same market and the same actions again.
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
from oms_trio.commands.demo.agent import Agent
from oms_trio.commands.demo.screen import plain_line, screen, summary
from oms_trio.commands.demo.tally import Tally
from oms_trio.service.runtime import broker_settings, serve
from oms_trio.settings.config import Config
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.server import serve as serve_exchange

STEP_S = 0.125
"""The market moves eight times a second."""

SETTLE_S = 5.0
"""An action that is neither order nor refusal after this long is no longer waited for."""

LAST_WORDS_S = 1.0
"""After the service has ended its last messages may still be on their way to the agent."""

PLAIN_EVERY_S = 2.0


@attrs.frozen
class Wire:
    """The agent's end of a broker, and the service's end when that is not RabbitMQ's."""

    act: Callable[[bytes], Awaitable[None]]
    listen: Callable[[Tally], Awaitable[None]]
    broker: AbstractAsyncContextManager[Broker] | None


async def demo(
    environ: Mapping[str, str],
    *,
    seconds: float,
    seed: int | None,
    rabbitmq: bool,
    http: bool = False,
) -> bool:
    """Run the demo for ``seconds`` and print what came of it; Ctrl-C ends it early.

    ``rabbitmq`` uses the broker of the environment instead of one in memory, ``http`` serves the
    status page on a free port. Returns whether our books and the exchange agree at the end.

    Raises:
        BrokerError: that broker cannot be used.
    """
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    exchange = SimulatedExchange(seed=seed)
    tally = Tally()
    console = Console()
    with TemporaryDirectory(prefix="oms-trio-demo-") as folder:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(partial(serve_exchange, exchange, tick_s=math.inf))
            address = "127.0.0.1:0" if http else "off"
            broker = environ if rabbitmq else {}
            config = _config(broker, exchange, port, Path(folder), http=address)
            async with _wire(config, rabbitmq=rabbitmq) as wire:
                stage = Stage(exchange, tally, wire, Agent(Random(seed)), seconds)  # noqa: S311 - to be repeated
                async with trio.open_nursery() as showing:
                    showing.start_soon(wire.listen, tally)
                    showing.start_soon(_show, stage, console)
                    await stage.run(config, partial(console.print, "status page:"))
                    await _last_words(tally)
                    showing.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
    console.print(summary(tally, exchange, seed))
    return stage.agrees


@attrs.define
class Stage:
    """What plays in a demo, and how much of it is over."""

    exchange: SimulatedExchange
    tally: Tally
    wire: Wire
    agent: Agent
    seconds: float
    done: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the exchange's position is the one that our fills give."""
        held = self.exchange.engine.position_view()
        return (held.position.pos if held else 0) == self.tally.position

    async def run(self, config: Config, listening: Callable[[str], object]) -> None:
        """Run the service, and beside it the market and the agent until the time is over."""
        stop, started = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._play, started, stop)
            await serve(
                config,
                broker=self.wire.broker,
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
            self.exchange.tick()
            action = self.agent.act(self.exchange.engine.market.bid, self.tally.position)
            if action is not None:
                await self.wire.act(action)
            with trio.move_on_after(SETTLE_S):
                # Counting from outside, as an onlooker would: nobody announces a settled action.
                while self.tally.settled < self.agent.state_id:  # noqa: ASYNC110
                    await trio.sleep(STEP_S / 8)
            await trio.sleep(STEP_S)
            self.done = (step + 1) / steps
        stop.set()


def _config(
    environ: Mapping[str, str], exchange: SimulatedExchange, port: int, folder: Path, *, http: str
) -> Config:
    """Return the environment's settings, but with this exchange and a state of its own."""
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
async def _wire(config: Config, *, rabbitmq: bool) -> AsyncIterator[Wire]:
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

            yield Wire(publish, receive, None)
        return
    broker = MemoryBroker(prefetch=config.prefetch)

    async def publish_here(body: bytes) -> None:
        await trio.lowlevel.checkpoint()
        broker.publish_action(body)

    async def receive_here(tally: Tally) -> None:
        with broker.subscribe() as told:
            async for message in told:
                tally.read(message.body)

    yield Wire(publish_here, receive_here, nullcontext(broker))


async def _last_words(tally: Tally) -> None:
    """Wait until the agent has heard nothing new for a moment."""
    heard = -1
    while heard != (heard := tally.heard):  # noqa: ASYNC110 - silence makes no event
        await trio.sleep(LAST_WORDS_S / 4)


async def _show(stage: Stage, console: Console) -> None:
    """Show the stage while it plays: a live table on a terminal, else a line now and then."""
    if not console.is_terminal:
        while True:
            await trio.sleep(PLAIN_EVERY_S)
            console.print(plain_line(stage.tally, stage.exchange, stage.done))
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(screen(stage.tally, stage.exchange, stage.done), refresh=True)
            await trio.sleep(STEP_S)
