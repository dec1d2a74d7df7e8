"""The simulated exchange, as its transports, tests and control calls use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import StrEnum
from random import Random

import attrs

from oms_trio.core.model import Instrument
from oms_trio.testing.okx_server.account.ledger import Ledger
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.clock import Clock, ExchangeClock, system_clock
from oms_trio.testing.okx_server.events import OperationResult, PositionChanged
from oms_trio.testing.okx_server.faults.kinds import FaultEvent
from oms_trio.testing.okx_server.faults.switches import FaultSwitches, covers
from oms_trio.testing.okx_server.ground_truth import GroundTruth
from oms_trio.testing.okx_server.matching import risk_engine
from oms_trio.testing.okx_server.matching.engine import MatchingEngine
from oms_trio.testing.okx_server.matching.ids import IdGenerator
from oms_trio.testing.okx_server.matching.market import SimulatedMarket
from oms_trio.testing.okx_server.orders import placement
from oms_trio.testing.okx_server.orders.amendments import amend
from oms_trio.testing.okx_server.orders.cancel_all_after import CancelAllAfterTimers
from oms_trio.testing.okx_server.orders.request_checks import (
    Args,
    OrderRequest,
    RequestRejected,
    read_amendment,
    read_order,
)
from oms_trio.testing.okx_server.orders.state_checks import (
    check_lever,
    check_pos_mode,
    find_cancelable,
)
from oms_trio.testing.okx_server.rate_limits import Quota, RateLimits
from oms_trio.testing.okx_server.values import (
    BTC_USDT_SWAP,
    ZERO,
    CancelSource,
    ExchangeOrder,
    OrderCategory,
    Visibility,
)

SUBMITS_PER_ACCOUNT = Quota(1000)
FUNDING_PERIOD_MS = 8 * 3_600_000

CheckInstrument = Callable[[Args, Instrument], None]
"""How a transport names the instrument: ``instIdCode`` on the WebSocket, ``instId`` on REST."""


class MatchingMode(StrEnum):
    """What decides which orders fill."""

    AUTO = "auto"
    """The market moves, and what it reaches fills."""
    MANUAL = "manual"
    """Orders fill by calls of ``fill`` only."""


@attrs.define
class SimulatedExchange:
    """One instrument, one account. Time comes from ``clock`` only, randomness from ``seed`` only."""

    account: ExchangeAccount = attrs.field(factory=ExchangeAccount)
    clock: Clock = system_clock
    seed: int = 0
    mode: MatchingMode = MatchingMode.AUTO
    instrument: Instrument = BTC_USDT_SWAP
    start_px: Decimal = Decimal(67_000)
    faults: FaultSwitches = attrs.field(factory=FaultSwitches)
    ground_truth: GroundTruth = attrs.field(factory=GroundTruth)
    """The log of everything that really happened."""
    prices: Iterator[Decimal] | None = None
    """Prices for the market to follow, one per tick, instead of a random walk."""
    funding_rate: Decimal = ZERO
    """What longs pay to shorts, as a fraction of the position's value, per interval."""
    funding_every_ms: int = FUNDING_PERIOD_MS
    """The funding interval; funding is settled at its multiples, by default at 0, 8 and 16 h UTC."""
    close_unsubscribed: bool = False
    """Close a WebSocket that has not subscribed within 30 s, as the exchange documents."""
    connections_per_s: int = 3
    """How many new WebSockets are accepted per second; more get HTTP 429. 0 is no limit."""
    push_every_s: float | None = None
    """How often unchanged positions and accounts are pushed; None: as subscribed."""
    pos_mode: str = attrs.field(init=False)
    limits: RateLimits = attrs.field(factory=RateLimits, init=False)
    engine: MatchingEngine = attrs.field(init=False)
    channel_connections: dict[str, int] = attrs.field(factory=dict, init=False)
    """How many connections have subscribed to each channel."""
    rng: Random = attrs.field(init=False, repr=False)
    injected: deque[FaultEvent] = attrs.field(factory=lambda: deque(maxlen=10_000), init=False)
    """The latest faults that were injected."""
    funded: deque[tuple[int, Decimal]] = attrs.field(factory=lambda: deque(maxlen=400), init=False)
    """Time (ms) and rate of each settlement of funding: the funding-rate history."""
    _funded_ms: int = attrs.field(default=0, init=False)
    """The latest funding time that has passed."""
    _exchange_clock: ExchangeClock = attrs.field(init=False)
    _cancel_timers: CancelAllAfterTimers = attrs.field(factory=CancelAllAfterTimers, init=False)

    def __attrs_post_init__(self) -> None:
        """Build the market, the account and the engine."""
        self.pos_mode = self.account.pos_mode
        self.rng = Random(self.seed)  # noqa: S311 - a simulation must be repeatable
        self._exchange_clock = ExchangeClock(self.clock, self.faults)
        self.engine = MatchingEngine(
            instrument=self.instrument,
            clock=self._exchange_clock,
            true_clock=self.clock,
            market=SimulatedMarket(self.instrument, self.rng, self.start_px, prices=self.prices),
            ledger=Ledger(
                self.instrument, self.account.balance, self.account.lever, self.clock() // 1_000_000
            ),
            ground_truth=self.ground_truth,
            ids=IdGenerator(self.rng),
        )

    @property
    def now_ms(self) -> int:
        """The exchange's clock in Unix milliseconds, as faults have set it."""
        return self.engine.now_ms

    @property
    def now_us(self) -> int:
        """The exchange's clock in Unix microseconds."""
        return self._exchange_clock() // 1000

    @property
    def true_ms(self) -> int:
        """The true time in Unix milliseconds, by which rate limits count."""
        return self.clock() // 1_000_000

    @property
    def matches(self) -> bool:
        """Whether orders match with the market by themselves."""
        return self.mode is MatchingMode.AUTO

    # Requests of clients.

    def place(self, args: Args, check_instrument: CheckInstrument) -> OperationResult:
        """Accept or reject one order; its effects follow as events."""
        now_ms = self.now_ms
        try:
            check_instrument(args, self.instrument)
            self._check_open()
            request = read_order(args, self.instrument)
            order = self._admit(request)
        except RequestRejected as rejected:
            return OperationResult.rejection(rejected, now_ms, args)
        with self.engine.deferred():
            placement.start(self.engine, order, matches=self.matches)
        return OperationResult(now_ms, order.ord_id, order.cl_ord_id, order.tag, msg="Order placed")

    def cancel(self, args: Args, check_instrument: CheckInstrument) -> OperationResult:
        """Accept or reject one cancellation."""
        now_ms = self.now_ms
        try:
            check_instrument(args, self.instrument)
            order = find_cancelable(self.engine, args)
        except RequestRejected as rejected:
            return OperationResult.rejection(rejected, now_ms, args)
        with self.engine.deferred():
            self.engine.cancel(order, CancelSource.USER)
        return OperationResult(now_ms, order.ord_id, order.cl_ord_id)

    def amend(self, args: Args, check_instrument: CheckInstrument) -> OperationResult:
        """Accept or reject one amendment; some are rejected later, by a push."""
        now_ms = self.now_ms
        with self.engine.deferred():
            try:
                check_instrument(args, self.instrument)
                self._check_open()
                request = read_amendment(args, self.instrument)
                order = amend(self.engine, args, request, matches=self.matches)
            except RequestRejected as rejected:
                return OperationResult.rejection(rejected, now_ms, args)
        return OperationResult(now_ms, order.ord_id, order.cl_ord_id, req_id=request.req_id)

    def _check_open(self) -> None:
        if self.faults.suspended:
            raise RequestRejected("51022", "Contract suspended.")

    def set_pos_mode(self, pos_mode: str) -> None:
        """Set net or hedge mode.

        Raises:
            RequestRejected: 51000 for an unknown mode, 59000 while orders or a position are open.
        """
        check_pos_mode(self.engine, pos_mode)
        self.pos_mode = pos_mode

    def set_lever(self, lever: Decimal) -> None:
        """Set the leverage of the instrument in cross margin.

        Raises:
            RequestRejected: 59102 above the ceiling, 59105 below 1, 59107 with pending orders, 59108 when
                the position would need more margin than there is.
        """
        engine = self.engine
        if lever == engine.ledger.lever:
            return
        check_lever(engine, lever)
        with engine.deferred():
            engine.ledger.lever = lever
            if engine.ledger.pos:
                engine.emit(PositionChanged())

    def cancel_all_after(self, timeout_s: int, tag: str) -> int:
        """Start the timer that cancels the orders of a tag ("" is all orders); 0 stops it.

        Return when it expires, in Unix milliseconds.

        Raises:
            RequestRejected: 51000 for a timeout out of range or an invalid tag, 51071 above 20 tags.
        """
        return self._cancel_timers.arm(timeout_s, tag, self.now_ms)

    # Time, and calls of tests and of /sim/.

    def tick(self) -> None:
        """Let the market move one step (in AUTO mode), and do what is due."""
        with self.engine.deferred():
            if self.matches:
                self.engine.market.step()
            self.engine.market.reverse_moves(self.clock())
            self._follow_market()
            now_ms = self.now_ms
            for tag in self._cancel_timers.pop_expired(now_ms):
                for order in self.engine.book.pending:
                    if tag in {"", order.tag}:
                        self.engine.cancel(order, CancelSource.CANCEL_ALL_AFTER)
            self._fund_if_due()
            self.engine.drop_expired()

    def set_price(self, px: Decimal) -> None:
        """Set the market to ``px``; in AUTO mode the orders that it reaches fill."""
        with self.engine.deferred():
            self.engine.market.set_price(px)
            self._follow_market()

    def move_market(self, percent: Decimal, *, back_after_s: float = 0.0) -> None:
        """Move the market at once, by -10 for a fall of 10 %; the price band follows.

        With ``back_after_s`` the move is reversed by the first ``tick`` after so many seconds.

        Raises:
            ValueError: the price would not stay above 0.
        """
        if percent <= -100:
            raise ValueError(f"percent must be above -100, not {percent}")
        back_at_ns = self.clock() + round(back_after_s * 1e9) if back_after_s else None
        with self.engine.deferred():
            self.engine.market.move(percent, back_at_ns)
            self._follow_market()

    def change_instrument(self, instrument: Instrument) -> None:
        """Change the rules from now on: tick, lot, minimum, contract value, ``instIdCode``.

        Open orders and the position keep their numbers; another contract value revalues them.
        """
        engine = self.engine
        self.instrument = engine.instrument = instrument
        engine.market.instrument = engine.ledger.instrument = instrument
        with engine.deferred():
            engine.market.set_price(engine.market.bid)
            self._follow_market()

    def fill(self, name: str, sz: Decimal, px: Decimal) -> None:
        """Match ``sz`` contracts of the order with this ``ordId`` or ``clOrdId`` at ``px``.

        Raises:
            LookupError: there is no such open order.
            ValueError: less than ``sz`` remains.
        """
        order = self.engine.book.find_open(name)
        if not 0 < sz <= order.remaining:
            raise ValueError(f"sz must be above 0 and at most {order.remaining}, not {sz}")
        with self.engine.deferred():
            self.engine.fill(order, px, sz, "M" if order.ord_type.takes_px else "T")

    def push_position(self, upl_ratio: Decimal) -> None:
        """Set the mark price so that the position has this ``uplRatio``, and push it at once.

        Raises:
            LookupError: there is no position.
        """
        held = self.engine.ledger.position
        if held is None or not held.pos:
            raise LookupError("there is no position")
        direction = 1 if held.pos > 0 else -1
        mark_px = held.avg_px * (1 + direction * upl_ratio / self.engine.ledger.lever)
        with self.engine.deferred():
            self.engine.market.set_mark(mark_px)
            self.engine.emit(PositionChanged(at_once=True))

    def reject_next_orders(self, code: str, times: int = 1) -> None:
        """Reject the next ``times`` orders with this ``sCode``."""
        self.faults.order_rejections.extend([code] * times)

    def liquidate(self, sz: Decimal | None = None) -> None:
        """Let the risk engine close the position now, or ``sz`` contracts of it.

        Raises:
            LookupError: the position is smaller, or there is none.
        """
        held = abs(self.engine.ledger.pos)
        sz = held if sz is None else sz
        self._check_held(sz)
        with self.engine.deferred():
            risk_engine.liquidate(self.engine, sz, self._risk_visibility)

    def deleverage(self, sz: Decimal) -> None:
        """Let auto-deleveraging close ``sz`` contracts of the position.

        Raises:
            LookupError: the position is smaller, or there is none.
        """
        self._check_held(sz)
        px = self.engine.market.mark_px
        with self.engine.deferred():
            risk_engine.close_by_force(
                self.engine, sz, px, OrderCategory.ADL, self._risk_visibility
            )

    def fund(self, rate: Decimal | None = None) -> None:
        """Settle a funding fee now, by default at ``funding_rate``; longs pay if it is above 0."""
        rate = self.funding_rate if rate is None else rate
        self.funded.append((self.now_ms, rate))
        with self.engine.deferred():
            self.engine.fund(rate)
            risk_engine.liquidate_if_due(self.engine, self._risk_visibility)

    def rest_view(self, path: str) -> MatchingEngine:
        """Return what a REST path reads: the present state, or that of the past while REST lags."""
        faults = self.faults
        if not faults.rest_lag_ms or not covers(faults.rest_lag_only, path):
            return self.engine
        return self.engine.as_of(self.clock() - faults.rest_lag_ms * 1_000_000)

    @property
    def _risk_visibility(self) -> Visibility:
        return Visibility(min(max(Visibility), self.faults.hide_risk_orders))

    def _check_held(self, sz: Decimal) -> None:
        if not 0 < sz <= abs(self.engine.ledger.pos):
            raise LookupError(f"there is no position of {sz} contracts to close")

    def _fund_if_due(self) -> None:
        """Settle funding if a multiple of its interval has passed."""
        due_ms = self.now_ms // self.funding_every_ms * self.funding_every_ms
        if self._funded_ms and due_ms > self._funded_ms and self.funding_rate:
            self.fund()
        # A wrong clock may go back: no interval is settled twice.
        self._funded_ms = max(due_ms, self._funded_ms)

    def _follow_market(self) -> None:
        if self.matches:
            self.engine.match_resting()
        risk_engine.liquidate_if_due(self.engine, self._risk_visibility)

    def _admit(self, request: OrderRequest) -> ExchangeOrder:
        if self.faults.order_rejections:
            raise RequestRejected(self.faults.order_rejections.popleft(), "Forced by a fault.")
        if not self.limits.admit("sub-account", SUBMITS_PER_ACCOUNT, self.true_ms):
            raise RequestRejected("50061", "Sub-account rate limit exceeded.")
        if self.pos_mode != "net_mode":
            raise RequestRejected("51000", "Parameter posSide error")
        return placement.admit(self.engine, request)
