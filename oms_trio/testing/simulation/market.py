"""What happens at the exchange without the service: prices, other traders, funding, instruments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from random import Random
from typing import Any, Final

import attrs
import trio

from oms_trio.core.model import Instrument
from oms_trio.core.state import TradeState
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.orders.request_checks import check_inst_id_code
from oms_trio.testing.okx_server.values import CancelSource, ExchangeOrder
from oms_trio.testing.simulation.impairments import Impairment, Impairments
from oms_trio.testing.simulation.invariants.monitor import RunMonitor

BAND: Final = Decimal("0.008")
"""The price stays within this fraction of its centre."""

SNAPSHOT_COVERS_S: Final = 15.0
"""A snapshot contains everything that is older than this, unless REST is impaired."""

CLOSE_TRIES: Final = 20
"""After so many rejections a manual trade is not closed; the operator has to adopt the rest."""


@attrs.define
class FundingPayment:
    """One settlement of funding."""

    fills: int
    """How many fills the exchange had made before it."""
    at: float
    """Virtual time in seconds."""
    amount: Decimal
    """USDT; below 0 when we paid."""
    known_at: float = float("inf")
    """The virtual time from which the service must know of it, as it reads bills regularly."""


@attrs.define(eq=False)
class SimulatedMarket:
    """Moves the price and changes our account without the service."""

    exchange: SimulatedExchange
    monitor: RunMonitor
    impairments: Impairments
    move_every_s: float
    center: Decimal
    """The price that the market stays close to."""
    manual_traders: int = 0
    """Manual trades that are open now and will be closed again."""
    funding: list[FundingPayment] = attrs.Factory(list)
    multipliers: list[tuple[int, Decimal]] = attrs.Factory(list)
    """BTC per contract, each with the number of fills that the exchange had made before it."""

    def __attrs_post_init__(self) -> None:
        """Note the multiplier and the prices at the beginning."""
        self.multipliers.append((0, self.exchange.instrument.multiplier))
        self.monitor.sample()

    # Prices.

    async def run(self) -> None:
        """Move the price within its band; ends by cancellation only."""
        exchange = self.exchange
        while True:
            await trio.sleep(self.move_every_s)
            exchange.tick()
            bid, center = exchange.engine.market.bid, self.center
            if abs(bid - center) > center * BAND:
                exchange.set_price(bid + (10 if bid < center else -10))
            self.monitor.sample()

    def jump(self, fraction: Decimal) -> None:
        """Move the price at once by a fraction of itself, and the band with it."""
        self.center = self.exchange.engine.market.bid * (1 + fraction)
        self.exchange.set_price(self.center)
        self.monitor.sample()

    # Manual trades on our account.

    def trade_by_hand(self, side: str, sz: Decimal = Decimal(1)) -> bool:
        """Send a market order without our tag; returns whether the exchange accepted it."""
        args = {
            "instIdCode": self.exchange.instrument.inst_id_code,
            "tdMode": "cross",
            "side": side,
            "ordType": "market",
            "sz": str(sz),
        }
        return self.exchange.place(args, check_inst_id_code).code == "0"

    def close_hand_trade(self, side: str, sz: Decimal = Decimal(1)) -> None:
        """Trade by hand until the exchange accepts it: other faults reject a few orders at most."""
        self.exchange.faults.suspended = False
        for _ in range(CLOSE_TRIES):
            if self.trade_by_hand(side, sz):
                return

    @contextmanager
    def trading_by_hand(self) -> Iterator[None]:
        """Mark the block as one at whose end the manual trade is closed again."""
        self.manual_traders += 1
        try:
            yield
        finally:
            self.manual_traders -= 1

    # Our orders.

    def cancel_resting(self, most: int) -> None:
        """Let the exchange cancel up to so many resting orders, the oldest first."""
        engine = self.exchange.engine
        with engine.deferred():
            for order in engine.book.pending[:most]:
                engine.cancel(order, CancelSource.SYSTEM)

    def fill_any(self, random: Random) -> None:
        """Fill a resting order in part or completely, whatever the price is."""
        if resting := self._resting():
            order, px = random.choice(resting)
            lot = self.exchange.instrument.lot_sz
            part = order.remaining / random.choice((1, 4, 10)) // lot * lot
            self.exchange.fill(order.ord_id, min(order.remaining, max(lot, part)), px)

    def open_gap(self, random: Random) -> None:
        """Fill a resting order twice, and lose the push of the first fill."""
        lot = self.exchange.instrument.lot_sz
        if resting := [(order, px) for order, px in self._resting() if order.remaining >= 2 * lot]:
            order, px = random.choice(resting)
            self.exchange.faults.drop_order_pushes = 1
            self.exchange.fill(order.ord_id, lot, px)
            self.exchange.fill(order.ord_id, lot, px)

    def _resting(self) -> list[tuple[ExchangeOrder, Decimal]]:
        pending = self.exchange.engine.book.pending
        return [(order, order.px) for order in pending if order.px is not None]

    # Funding.

    def settle_funding(self, rate: Decimal) -> None:
        """Settle funding at a rate (fraction of the position's value; longs pay when above 0)."""
        exchange = self.exchange
        before = exchange.engine.ledger.cash_bal
        exchange.fund(rate)
        if amount := exchange.engine.ledger.cash_bal - before:
            fills = len(exchange.ground_truth.fills())
            self.funding.append(FundingPayment(fills, trio.current_time(), amount))

    def note_snapshot(self, state: TradeState) -> None:
        """Note which payments a snapshot that has just been applied must have contained."""
        now = trio.current_time()
        complete = state.sync.snapshot_applied and not state.sync.snapshot_requested
        if complete and self.impairments.unimpaired_for({Impairment.REST}) > SNAPSHOT_COVERS_S:
            for payment in self.funding:
                if now > payment.at + SNAPSHOT_COVERS_S:
                    payment.known_at = min(payment.known_at, now)

    # The instrument.

    def change_instrument(self, random: Random, state: TradeState | None) -> None:
        """Change tick, lot and code; the contract value only when the service and we are flat."""
        engine, instrument = self.exchange.engine, self.exchange.instrument
        changes: dict[str, Any] = {
            "inst_id_code": instrument.inst_id_code + 1,
            "tick_sz": random.choice((Decimal("0.1"), Decimal("0.5"))),
            "lot_sz": random.choice((Decimal("0.01"), Decimal("0.001"))),
        }
        flat = state is not None and not state.book.position and not len(state.orders)
        if flat and not engine.ledger.pos and not engine.book.pending:
            changes["ct_val"] = random.choice((Decimal("0.01"), Decimal("0.001")))
        self.set_instrument(attrs.evolve(instrument, **changes))

    def set_instrument(self, instrument: Instrument) -> None:
        """Let the exchange continue with another definition of the same instrument."""
        self.exchange.change_instrument(instrument)
        self.multipliers.append((len(self.exchange.ground_truth.fills()), instrument.multiplier))
