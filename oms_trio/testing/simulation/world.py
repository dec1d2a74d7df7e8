"""The world of a run: exchange, broker, network, disk, agent's ear, and the service's lives."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import attrs
import trio

from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Outgoing
from oms_trio.core.effects import Effect
from oms_trio.core.events import Verb
from oms_trio.core.model import Instrument, Rules
from oms_trio.core.risk import mark_age_ns
from oms_trio.core.state import TradeState
from oms_trio.okx.wire.signing import Credentials
from oms_trio.ops.operator_commands import CommandError
from oms_trio.service.journaled_inputs import JournaledInput, Kind
from oms_trio.settings.clock import Clock, virtual_clock
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.orders.request_checks import check_inst_id_code
from oms_trio.testing.okx_server.server import handle_stream
from oms_trio.testing.okx_server.values import CancelSource, ExchangeOrder
from oms_trio.testing.simulation.determinism import WALL_CLOCK_START_NS
from oms_trio.testing.simulation.invariants.monitor import Monitor, WatchedLimits, WatchedTruth
from oms_trio.testing.simulation.machine.clocks import WallClock
from oms_trio.testing.simulation.machine.disk import Room
from oms_trio.testing.simulation.machine.network import End, Network
from oms_trio.testing.simulation.machine.process import Life, Surroundings
from oms_trio.testing.simulation.noting import NotingFaults
from oms_trio.testing.simulation.setting import CONTEXT, RULES, Setting
from oms_trio.testing.simulation.troubles import Trouble, Troubles
from oms_trio.testing.simulation.wire_trace import Tape
from oms_trio.testing.simulation.workload import BUSY, Pace

What = TypeVar("What")

SECRETS = ("Key-4f1c9a77", "Secret-8d02e6b1c3", "Passphrase-e77a90")
ACCOUNT = ExchangeAccount(
    api_key=SECRETS[0], secret=SECRETS[1], passphrase=SECRETS[2], balance=Decimal(100_000)
)

BAND = Decimal("0.008")
"""The market keeps within this part of where it began, or of where it has jumped to since."""

RESTART_S = (0.05, 8.0)

TOLD_S = 15.0
"""A snapshot tells of what was so long before, where REST is hampered by nothing."""

HAND_TRIES = 20
"""Then whoever trades by hand gives up, and what is left is for the operator to adopt."""


def account_key() -> Credentials:
    """Return the key that the service signs with."""
    return Credentials(ACCOUNT.api_key, ACCOUNT.secret, ACCOUNT.passphrase)


@attrs.define
class Funded:
    """A settlement of funding: how many fills came before it, when (virtual), and how much."""

    fills: int
    at: float
    amount: Decimal
    known_at: float = float("inf")
    """When whoever asks now and then must know of it (virtual)."""


@attrs.define(eq=False)
class World:
    """Everything of one run. Built inside ``trio.run``, by ``open_world``."""

    random: Random
    clock: Clock
    exchange: SimulatedExchange
    faults: NotingFaults
    broker: MemoryBroker
    network: Network
    tape: Tape
    room: Room
    wall: WallClock
    """The machine's wall clock."""
    exchange_wall: WallClock
    troubles: Troubles
    monitor: Monitor
    rules: Rules
    setting: Setting
    pace: Pace
    nursery: trio.Nursery
    center: Decimal
    """What price the market keeps near."""
    burst: Callable[[int], object] = lambda _count: None
    """Has the agent take so many actions at once."""
    hands: int = 0
    """How many people trade by hand now, and will take it back."""
    funded: list[Funded] = attrs.Factory(list)
    multipliers: list[tuple[int, Decimal]] = attrs.Factory(list)
    """What a contract was worth: since which fill of the exchange, and BTC."""
    gone: list[tuple[bytes, str | None]] = attrs.Factory(list)
    """Messages that were in a queue when somebody deleted it."""
    life: Life | None = None
    lives: list[Life] = attrs.Factory(list)
    down: bool = False
    """No new life is begun while this is set."""
    heard: list[Outgoing] = attrs.Factory(list)
    """Every message that reached the agent, repeats included."""
    arrivals: collections.Counter[str] = attrs.Factory(collections.Counter)
    _awaited: list[tuple[Callable[[TradeState], bool], trio.Event]] = attrs.Factory(list)
    _decided: list[tuple[type[Effect], trio.Event]] = attrs.Factory(list)
    _begun: trio.Event = attrs.Factory(trio.Event)
    _operating: trio.Lock = attrs.Factory(trio.Lock)
    _outside: Context = attrs.Factory(copy_context)
    """What tasks of the world start in, whoever makes them start."""

    # The service's lives.

    async def live(self) -> None:
        """Start the service again whenever it ends, as systemd does; ends by cancellation only.

        Raises:
            Whatever the service crashes with.
        """
        while True:
            life = Life(self._surroundings())
            self.lives.append(life)
            self.life = life
            begun, self._begun = self._begun, trio.Event()
            begun.set()
            await life.run()
            self.troubles.note(Trouble.PROCESS)
            # The broker notices the end of the connection: what was not settled comes again.
            self.broker.consume(wanted=False)
            self.broker.restart() if self.broker.connected else None
            with self.troubles.during({Trouble.PROCESS}):
                await trio.sleep(self.random.uniform(*RESTART_S))
                while self.down:  # noqa: ASYNC110 - a few seconds of virtual time
                    await trio.sleep(0.1)

    async def begun(self) -> Life:
        """Wait for the next life."""
        await self._begun.wait()
        assert self.life is not None
        return self.life

    def kill(self) -> None:
        """Kill the running process, if there is one."""
        life = self.life
        if life is None or life.ended.is_set() or life.dead:
            return
        life.kill()
        self.network.vanish()
        self.broker.consume(wanted=False)
        self.broker.restart() if self.broker.connected else None

    def stop(self) -> None:
        """Ask the running process to end, as SIGTERM does."""
        if self.life is not None:
            self.life.stopping = True
            self.life.stop.set()

    async def freeze(self, lasting_s: float) -> None:
        """Stop the running process for a while, as SIGSTOP and SIGCONT do."""
        life = self.life
        if life is None or not life.freeze():
            return
        with self.troubles.during({Trouble.PROCESS}):
            try:
                await trio.sleep(lasting_s)
            finally:
                life.thaw()

    @property
    def state(self) -> TradeState | None:
        """The running process's trading state; None while there is none."""
        life = self.life
        return None if life is None or life.dead or life.ended.is_set() else life.state

    async def moment(self, holds: Callable[[TradeState], bool]) -> None:
        """Wait until something is true of the trading state."""
        if self.state is None or not holds(self.state):
            await _wait(self._awaited, holds)

    async def decision(self, kind: type[Effect]) -> None:
        """Wait until the service has decided to do something."""
        await _wait(self._decided, kind)

    # Around it.

    def dial(self, kind: str) -> End:
        """Connect to the exchange."""
        client, server = self.network.connect(kind)
        self._outside.run(self.nursery.start_soon, handle_stream, self.exchange, server)
        return client

    async def command(self, verb: Verb) -> bool:
        """Give an operator's command; returns whether it was taken, and cannot be lost any more."""
        async with self._operating:
            life = self.life
            if life is None or life.commands is None or life.dead or life.ended.is_set():
                return False
            existed = self.monitor.open_orders()
            self.monitor.commanded(verb)
            taken = False
            with trio.move_on_after(30.0):
                try:
                    await life.commands.command(verb, "operator")
                    taken = not life.dead
                except CommandError:
                    pass
            if taken:
                self.monitor.obeyed(verb, life.state)
                if verb in {Verb.KILL, Verb.CANCEL_ALL, Verb.FLATTEN}:
                    self.nursery.start_soon(self.monitor.follow, verb, existed)
            return taken

    def trade_by_hand(self, side: str, sz: Decimal = Decimal(1)) -> bool:
        """Trade at market, as a person does; False when the exchange refuses."""
        args = {
            "instIdCode": self.exchange.instrument.inst_id_code,
            "tdMode": "cross",
            "side": side,
            "ordType": "market",
            "sz": str(sz),
        }
        return self.exchange.place(args, check_inst_id_code).code == "0"

    def trade_back(self, side: str, sz: Decimal = Decimal(1)) -> None:
        """Trade by hand until it is done: the answers that other strikes have forced are few."""
        self.exchange.faults.suspended = False
        for _ in range(HAND_TRIES):
            if self.trade_by_hand(side, sz):
                return

    @contextmanager
    def trading_by_hand(self) -> Iterator[None]:
        """Say that what is traded by hand during the block is taken back at its end."""
        self.hands += 1
        try:
            yield
        finally:
            self.hands -= 1

    def fund(self, rate: Decimal) -> None:
        """Settle a funding fee."""
        exchange = self.exchange
        before = exchange.engine.ledger.cash_bal
        exchange.fund(rate)
        if amount := exchange.engine.ledger.cash_bal - before:
            fills = len(exchange.ground_truth.fills())
            self.funded.append(Funded(fills, trio.current_time(), amount))

    def _note_known(self, state: TradeState) -> None:
        """Note what a snapshot must have told of that has just been taken in."""
        now = trio.current_time()
        whole = state.sync.snapshot_applied and not state.sync.snapshot_requested
        if whole and self.troubles.calm_for({Trouble.REST}) > TOLD_S:
            for funded in self.funded:
                if now > funded.at + TOLD_S:
                    funded.known_at = min(funded.known_at, now)

    def cancel_resting(self, most: int) -> None:
        """Let the exchange cancel some of our resting orders, the oldest first."""
        engine = self.exchange.engine
        with engine.deferred():
            for order in engine.book.pending[:most]:
                engine.cancel(order, CancelSource.SYSTEM)

    def change_instrument(self, random: Random) -> None:
        """Change tick, lot and code of the instrument; the contract's value only when all is flat."""
        engine, instrument = self.exchange.engine, self.exchange.instrument
        changes: dict[str, Any] = {
            "inst_id_code": instrument.inst_id_code + 1,
            "tick_sz": random.choice((Decimal("0.1"), Decimal("0.5"))),
            "lot_sz": random.choice((Decimal("0.01"), Decimal("0.001"))),
        }
        state = self.state
        at_rest = state is not None and not state.book.position and not len(state.orders)
        if at_rest and not engine.ledger.pos and not engine.book.pending:
            changes["ct_val"] = random.choice((Decimal("0.01"), Decimal("0.001")))
        self.set_instrument(attrs.evolve(instrument, **changes))

    def set_instrument(self, instrument: Instrument) -> None:
        """Let the exchange go on with another instrument of the same name."""
        self.exchange.change_instrument(instrument)
        self.multipliers.append((len(self.exchange.ground_truth.fills()), instrument.multiplier))

    def delete_queue(self) -> None:
        """Delete the action queue with all that is in it."""
        self.gone += self.broker.delete_queue()

    def fill_any(self, random: Random) -> None:
        """Fill a part of a resting order, or all of it, whatever the market does."""
        if resting := self._resting():
            order, px = random.choice(resting)
            lot = self.exchange.instrument.lot_sz
            part = order.remaining / random.choice((1, 4, 10)) // lot * lot
            self.exchange.fill(order.ord_id, min(order.remaining, max(lot, part)), px)

    def open_gap(self, random: Random) -> None:
        """Lose the push of one fill and tell the next one of the same order, if one rests."""
        lot = self.exchange.instrument.lot_sz
        if resting := [(order, px) for order, px in self._resting() if order.remaining >= 2 * lot]:
            order, px = random.choice(resting)
            self.exchange.faults.drop_order_pushes = 1
            self.exchange.fill(order.ord_id, lot, px)
            self.exchange.fill(order.ord_id, lot, px)

    def _resting(self) -> list[tuple[ExchangeOrder, Decimal]]:
        pending = self.exchange.engine.book.pending
        return [(order, order.px) for order in pending if order.px is not None]

    async def move_market(self) -> None:
        """Let the market walk within its band; ends by cancellation only."""
        exchange = self.exchange
        while True:
            await trio.sleep(self.pace.market_s)
            exchange.tick()
            bid, center = exchange.engine.market.bid, self.center
            if abs(bid - center) > center * BAND:
                exchange.set_price(bid + (10 if bid < center else -10))
            self.monitor.sample()

    def jump_market(self, part: Decimal) -> None:
        """Let the market move at once by this part of its price, and stay there."""
        self.center = self.exchange.engine.market.bid * (1 + part)
        self.exchange.set_price(self.center)
        self.monitor.sample()

    async def listen(self) -> None:
        """Hear what the agent hears; ends by cancellation only."""
        with self.broker.subscribe() as told:
            async for message in told:
                self.heard.append(message)

    def observe(
        self, arrival: JournaledInput, effects: tuple[Effect, ...], state: TradeState
    ) -> None:
        """Note what an input came to, and count it."""
        self.arrivals[arrival.kind.value] += 1
        self.monitor.observe(effects, state)
        if arrival.kind is Kind.ACTION:
            self.monitor.note_decision(state)
        if arrival.kind is Kind.SNAPSHOT:
            self._note_known(state)
        for holds, come in self._awaited:
            if holds(state):
                come.set()
        for effect in effects:
            for kind, come in self._decided:
                if isinstance(effect, kind):
                    come.set()

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            room=self.room,
            broker=self.broker,
            tape=self.tape,
            random=self.random,
            clock=self.clock,
            wall=self.wall,
            rules=self.rules,
            keep_ns=None if (keep_s := self.setting.keep_s) is None else round(keep_s * 1e9),
            quiet_s=self.pace.quiet_s,
            scope=CONTEXT,
            credentials=account_key(),
            dial=self.dial,
            observe=self.observe,
        )


def open_world(
    seed: int,
    folder: Path,
    nursery: trio.Nursery,
    tape: Tape,
    *,
    mode: MatchingMode = MatchingMode.AUTO,
    rules: Rules | None = None,
    setting: Setting | None = None,
    pace: Pace = BUSY,
) -> World:
    """Make a world in which nothing happens yet."""
    random = Random(f"world {seed}")  # noqa: S311 - a seed repeats it
    clock = virtual_clock(WALL_CLOCK_START_NS)
    setting = setting or Setting(rules or RULES)
    rules = attrs.evolve(setting.rules, check_every_ns=round(pace.check_s * 1e9))
    exchange_drift, drift = setting.drift_ppm
    skew_ns = random.randint(-20_000, 20_000) * 1_000_000
    exchange_wall = WallClock(clock, skew_ns, exchange_drift)
    troubles = Troubles()
    faults = NotingFaults(troubles=troubles)
    truth = WatchedTruth()
    exchange = SimulatedExchange(
        account=ACCOUNT,
        clock=exchange_wall,
        seed=random.getrandbits(64),
        mode=mode,
        faults=faults,
        ground_truth=truth,
    )
    nursery.start_soon(_note, exchange, faults)
    exchange.push_every_s = pace.push_s
    market = exchange.engine.market
    market.depth_lots, market.step_ticks = (100, 2000), pace.step_ticks
    world = World(
        random=random,
        clock=clock,
        exchange=exchange,
        faults=faults,
        broker=MemoryBroker(message_ttl_s=rules.max_action_age_ns / 1e9),
        network=Network(random, tape),
        tape=tape,
        room=Room(folder),
        wall=WallClock(clock, drift_ppm=drift),
        exchange_wall=exchange_wall,
        troubles=troubles,
        monitor=Monitor(
            exchange,
            rules,
            troubles,
            lambda: world.life,
            mark_age_ns(rules) / 1e9 + 5.0,
        ),
        rules=rules,
        setting=setting,
        pace=pace,
        nursery=nursery,
        center=exchange.start_px,
    )
    truth.watch = world.monitor.watch
    exchange.limits = WatchedLimits(refused=world.monitor.refused)
    world.multipliers.append((0, exchange.instrument.multiplier))
    world.monitor.sample()
    nursery.start_soon(world.monitor.watch_liveness)
    return world


async def _wait(waiting: list[tuple[What, trio.Event]], what: What) -> None:
    come = trio.Event()
    waiting.append((what, come))
    try:
        await come.wait()
    finally:
        waiting.remove((what, come))


async def _note(exchange: SimulatedExchange, faults: NotingFaults) -> None:
    with exchange.engine.listening(faults.note):
        await trio.sleep_forever()
