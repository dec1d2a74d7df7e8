"""The world of a run: exchange, broker, network, disk, agent's ear, and the service's lives."""

from __future__ import annotations

import collections
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import attrs
import trio

from oms_trio.amqp.memory import MemoryBroker
from oms_trio.amqp.model import Outgoing
from oms_trio.clock import Clock, virtual_clock
from oms_trio.core.effects import Effect, PlaceOrder
from oms_trio.core.model import RewardUnit, Rules
from oms_trio.core.state import TradeState
from oms_trio.okx.signing import Credentials
from oms_trio.records import Arrival, Scope
from oms_trio.sim.admission import check_inst_id_code
from oms_trio.sim.auth import SimAccount
from oms_trio.sim.events import Event, OrderChanged
from oms_trio.sim.exchange import Exchange, Mode
from oms_trio.sim.faults import Counter, Faults
from oms_trio.sim.server import handle_stream
from oms_trio.sim.values import Order
from oms_trio.simulation.determinism import WALL_CLOCK_START_NS
from oms_trio.simulation.life import Life, Room, Surroundings
from oms_trio.simulation.network import End, Network
from oms_trio.simulation.pace import BUSY, Pace
from oms_trio.simulation.tape import Tape

What = TypeVar("What")

SCOPE = Scope("BTC-USDT-SWAP", "omstrio")
RULES = Rules(
    leverage=Decimal(100),
    step=Decimal("0.1"),
    max_margin_fraction=Decimal("0.01"),
    max_open_orders=12,
    max_order_age_ns=90_000_000_000,
    max_action_age_ns=5_000_000_000,
    reward_unit=RewardUnit.USDT,
    tag=SCOPE.tag,
)
"""Limits are low, so that orders grow old and too many within minutes, and the cap is met."""

SECRETS = ("Key-4f1c9a77", "Secret-8d02e6b1c3", "Passphrase-e77a90")
ACCOUNT = SimAccount(
    api_key=SECRETS[0], secret=SECRETS[1], passphrase=SECRETS[2], balance=Decimal(100_000)
)

BAND = Decimal("0.008")
"""The market keeps within this part of its first price: nobody can be liquidated."""

RESTART_S = (0.05, 8.0)


def account_key() -> Credentials:
    """Return the key that the service signs with."""
    return Credentials(ACCOUNT.api_key, ACCOUNT.secret, ACCOUNT.passphrase)


_DISPLACING: Final = frozenset({"miss_order_pushes", "late_order_pushes", "swap_order_pushes"})


@attrs.define(eq=False)
class NotingFaults(Faults):
    """Remembers the matches whose push was not told in its place while the session went on.

    Nothing tells of such a match before a later one of another order is told, so nobody can book
    them in the order in which they happened. (What a lost connection takes is another matter:
    that can be put in order before anything later is booked.)
    """

    current: OrderChanged | None = None
    """What the exchange is about to tell."""
    displaced: set[int] = attrs.Factory(set)

    def note(self, event: Event) -> None:
        """Listen to the exchange, before any session does."""
        if isinstance(event, OrderChanged):
            self.current = event

    def use_up(self, switch: Counter) -> bool:
        """See ``Faults.use_up``."""
        used = super().use_up(switch)
        if used and switch in _DISPLACING and self.current is not None and self.current.fill:
            self.displaced.add(self.current.fill.trade_id)
        return used


@attrs.define(eq=False)
class World:
    """Everything of one run. Built inside ``trio.run``, by ``open_world``."""

    random: Random
    clock: Clock
    exchange: Exchange
    faults: NotingFaults
    broker: MemoryBroker
    network: Network
    tape: Tape
    room: Room
    rules: Rules
    pace: Pace
    nursery: trio.Nursery
    life: Life | None = None
    lives: list[Life] = attrs.Factory(list)
    down: bool = False
    """No new life is begun while this is set."""
    heard: list[Outgoing] = attrs.Factory(list)
    """Every message that reached the agent, repeats included."""
    caps: dict[str, Fraction] = attrs.Factory(dict)
    """By order name: what the position might reach when the order was decided, in contracts."""
    arrivals: collections.Counter[str] = attrs.Factory(collections.Counter)
    _awaited: list[tuple[Callable[[TradeState], bool], trio.Event]] = attrs.Factory(list)
    _decided: list[tuple[type[Effect], trio.Event]] = attrs.Factory(list)
    _begun: trio.Event = attrs.Factory(trio.Event)

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
            # The broker notices the end of the connection: what was not settled comes again.
            self.broker.consume(wanted=False)
            self.broker.restart() if self.broker.connected else None
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
        self.nursery.start_soon(handle_stream, self.exchange, server)
        return client

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
        while not self.trade_by_hand(side, sz):
            pass

    def fill_any(self, random: Random) -> None:
        """Fill a part of a resting order, or all of it, whatever the market does."""
        if resting := self._resting():
            order, px = random.choice(resting)
            lot = self.exchange.instrument.lot_sz
            part = order.remaining / random.choice((1, 4, 10)) // lot * lot
            self.exchange.fill(order.ord_id, max(lot, part), px)

    def open_gap(self, random: Random) -> None:
        """Lose the push of one fill and tell the next one of the same order, if one rests."""
        lot = self.exchange.instrument.lot_sz
        if resting := [(order, px) for order, px in self._resting() if order.remaining >= 2 * lot]:
            order, px = random.choice(resting)
            self.exchange.faults.miss_order_pushes = 1
            self.exchange.fill(order.ord_id, lot, px)
            self.exchange.fill(order.ord_id, lot, px)

    def _resting(self) -> list[tuple[Order, Decimal]]:
        pending = self.exchange.engine.book.pending
        return [(order, order.px) for order in pending if order.px is not None]

    async def move_market(self) -> None:
        """Let the market walk within its band; ends by cancellation only."""
        exchange, start = self.exchange, self.exchange.start_px
        while True:
            await trio.sleep(self.pace.market_s)
            exchange.tick()
            bid = exchange.engine.market.bid
            if abs(bid - start) > start * BAND:
                exchange.set_price(bid + (10 if bid < start else -10))

    async def listen(self) -> None:
        """Hear what the agent hears; ends by cancellation only."""
        with self.broker.subscribe() as told:
            async for message in told:
                self.heard.append(message)

    def observe(self, arrival: Arrival, effects: tuple[Effect, ...], state: TradeState) -> None:
        """Note what the cap allowed when an order was decided, and count what came in."""
        self.arrivals[arrival.kind.value] += 1
        for holds, come in self._awaited:
            if holds(state):
                come.set()
        for effect in effects:
            for kind, come in self._decided:
                if isinstance(effect, kind):
                    come.set()
            if isinstance(effect, PlaceOrder) and effect.cl_ord_id not in self.caps:
                order = state.orders.find(effect.cl_ord_id)
                assert order is not None
                assert state.balance is not None
                assert state.instrument is not None
                rules = self.rules
                money = Fraction(state.balance) * Fraction(rules.leverage)
                contract = Fraction(order.ref_px) * Fraction(state.instrument.multiplier)
                self.caps[effect.cl_ord_id] = money * Fraction(rules.max_margin_fraction) / contract

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            room=self.room,
            broker=self.broker,
            tape=self.tape,
            random=self.random,
            clock=self.clock,
            rules=self.rules,
            quiet_s=self.pace.quiet_s,
            scope=SCOPE,
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
    mode: Mode = Mode.AUTO,
    rules: Rules = RULES,
    pace: Pace = BUSY,
) -> World:
    """Make a world in which nothing happens yet."""
    random = Random(f"world {seed}")  # noqa: S311 - a seed repeats it
    clock = virtual_clock(WALL_CLOCK_START_NS)
    skew_ns = random.randint(-20_000, 20_000) * 1_000_000
    faults = NotingFaults()
    exchange = Exchange(
        account=ACCOUNT,
        clock=lambda: clock() + skew_ns,
        seed=random.getrandbits(64),
        mode=mode,
        faults=faults,
    )
    nursery.start_soon(_note, exchange, faults)
    exchange.push_every_s = pace.push_s
    market = exchange.engine.market
    market.depth_lots, market.step_ticks = (100, 2000), pace.step_ticks
    return World(
        random=random,
        clock=clock,
        exchange=exchange,
        faults=faults,
        broker=MemoryBroker(message_ttl_s=rules.max_action_age_ns / 1e9),
        network=Network(random, tape),
        tape=tape,
        room=Room(folder),
        rules=attrs.evolve(rules, check_every_ns=round(pace.check_s * 1e9)),
        pace=pace,
        nursery=nursery,
    )


async def _wait(waiting: list[tuple[What, trio.Event]], what: What) -> None:
    come = trio.Event()
    waiting.append((what, come))
    try:
        await come.wait()
    finally:
        waiting.remove((what, come))


async def _note(exchange: Exchange, faults: NotingFaults) -> None:
    with exchange.engine.listening(faults.note):
        await trio.sleep_forever()
