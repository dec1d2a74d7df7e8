"""The simulated exchange as its transports and its scripts use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import StrEnum
from random import Random

import attrs

from oms_trio.core.model import Instrument, Side
from oms_trio.settings.clock import Clock, system_clock
from oms_trio.testing.okx_server.account.ledger import Ledger
from oms_trio.testing.okx_server.account.risk import (
    check_against_state,
    check_lever,
    check_margin,
    check_pos_mode,
    check_tier,
    find_cancelable,
)
from oms_trio.testing.okx_server.auth import SimAccount
from oms_trio.testing.okx_server.engine import Engine
from oms_trio.testing.okx_server.events import OperationResult, OrderChanged, PositionChanged
from oms_trio.testing.okx_server.faults.behaviour import Faults, covers
from oms_trio.testing.okx_server.faults.specs import Strike
from oms_trio.testing.okx_server.ground_truth import Truth
from oms_trio.testing.okx_server.market import Market, crosses
from oms_trio.testing.okx_server.numbers import Numbers
from oms_trio.testing.okx_server.orders.admission import (
    Args,
    OrderRequest,
    Refused,
    read_amendment,
    read_order,
)
from oms_trio.testing.okx_server.orders.amending import amend
from oms_trio.testing.okx_server.orders.cancel_all_after import DeadMansSwitch
from oms_trio.testing.okx_server.rate_limits import Limits, Quota
from oms_trio.testing.okx_server.values import (
    BTC_USDT_SWAP,
    ZERO,
    CancelSource,
    Category,
    Order,
    OrdType,
    Reported,
)

SUBMITS_PER_ACCOUNT = Quota(1000)
FUNDING_PERIOD_MS = 8 * 3_600_000

CheckInstrument = Callable[[Args, Instrument], None]
"""How the transport names the instrument: ``instIdCode`` on WebSocket, ``instId`` on REST."""


class Mode(StrEnum):
    """Who decides what fills."""

    AUTO = "auto"
    MANUAL = "manual"
    """Nothing fills by itself: a script calls ``fill``."""


@attrs.define
class _Drift:
    """What a clock that goes too fast or too slow has gained, in nanoseconds."""

    _since_ns: int
    _ppm: int = 0
    _gained_ns: int = 0

    def gained_ns(self, now_ns: int, ppm: int) -> int:
        """Return what was gained until this true time; the rate is ``ppm`` from now on."""
        gained_ns = self._gained_ns + (now_ns - self._since_ns) * self._ppm // 1_000_000
        if ppm != self._ppm:
            self._gained_ns, self._since_ns, self._ppm = gained_ns, now_ns, ppm
        return gained_ns


@attrs.define
class Exchange:
    """One instrument, one account. All time comes from ``clock``, all chance from ``seed``."""

    account: SimAccount = attrs.field(factory=SimAccount)
    clock: Clock = system_clock
    seed: int = 0
    mode: Mode = Mode.AUTO
    instrument: Instrument = BTC_USDT_SWAP
    start_px: Decimal = Decimal(67_000)
    faults: Faults = attrs.field(factory=Faults)
    truth: Truth = attrs.field(factory=Truth)
    """The log of what really happened."""
    path: Iterator[Decimal] | None = None
    """Prices for the market to follow, one a tick, instead of walking."""
    funding_rate: Decimal = ZERO
    """What longs pay to shorts, of the position's value, every ``funding_every_ms``."""
    funding_every_ms: int = FUNDING_PERIOD_MS
    """How often funding is settled, at multiples of this: 00, 08 and 16 UTC by default."""
    close_unsubscribed: bool = False
    """Close a WebSocket that has not subscribed within 30 s, as the exchange documents."""
    connections_per_s: int = 3
    """New WebSockets that are let in per second; more are answered by HTTP 429. 0 is no limit."""
    push_every_s: float | None = None
    """How often positions and accounts are told while nothing changes; None: as subscribed."""
    pos_mode: str = attrs.field(init=False)
    limits: Limits = attrs.field(factory=Limits, init=False)
    engine: Engine = attrs.field(init=False)
    channel_connections: dict[str, int] = attrs.field(factory=dict, init=False)
    """How many connections have subscribed to each channel; at most one entry a channel."""
    rng: Random = attrs.field(init=False, repr=False)
    struck: deque[Strike] = attrs.field(factory=lambda: deque(maxlen=10_000), init=False)
    """The latest faults that were struck, for whoever wants to know what happened."""
    funded: deque[tuple[int, Decimal]] = attrs.field(factory=lambda: deque(maxlen=400), init=False)
    """When (ms) and at which rate funding was settled, held or not: the funding-rate history."""
    _funded_ms: int = attrs.field(default=0, init=False)
    """The latest funding time that has passed."""
    _returns: list[tuple[int, Decimal]] = attrs.field(factory=list, init=False)
    """When (true ns) which move ends that does not last; a move is a part of 100."""
    _drift: _Drift = attrs.field(init=False)
    _switch: DeadMansSwitch = attrs.field(factory=DeadMansSwitch, init=False)

    def __attrs_post_init__(self) -> None:
        """Wire the parts together."""
        self.pos_mode = self.account.pos_mode
        self.rng = Random(self.seed)  # noqa: S311 - a simulation must be repeatable
        self._drift = _Drift(self.clock())
        self.engine = Engine(
            instrument=self.instrument,
            clock=self._read_clock,
            steady_clock=self.clock,
            market=Market(self.instrument, self.rng, self.start_px, path=self.path),
            ledger=Ledger(
                self.instrument, self.account.balance, self.account.lever, self.clock() // 1_000_000
            ),
            truth=self.truth,
            numbers=Numbers(self.rng),
        )

    @property
    def now_ms(self) -> int:
        """The exchange's clock in Unix milliseconds, right or wrong."""
        return self.engine.now_ms

    @property
    def now_us(self) -> int:
        """The exchange's clock in Unix microseconds."""
        return self._read_clock() // 1000

    @property
    def steady_ms(self) -> int:
        """The true time in Unix milliseconds: what rate limits count by."""
        return self.clock() // 1_000_000

    # What clients ask for.

    def place(self, args: Args, check_instrument: CheckInstrument) -> OperationResult:
        """Take one order, or refuse it; what it causes is told by events."""
        now_ms = self.now_ms
        try:
            check_instrument(args, self.instrument)
            self._check_open()
            request = read_order(args, self.instrument)
            order = self._admit(request)
        except Refused as refused:
            return OperationResult.of_refusal(refused, now_ms, args)
        with self.engine.deferred():
            self._start(order)
        return OperationResult(now_ms, order.ord_id, order.cl_ord_id, order.tag, msg="Order placed")

    def cancel(self, args: Args, check_instrument: CheckInstrument) -> OperationResult:
        """Take one cancellation, or refuse it."""
        now_ms = self.now_ms
        try:
            check_instrument(args, self.instrument)
            order = find_cancelable(self.engine, args)
        except Refused as refused:
            return OperationResult.of_refusal(refused, now_ms, args)
        with self.engine.deferred():
            self.engine.cancel(order, CancelSource.USER)
        return OperationResult(now_ms, order.ord_id, order.cl_ord_id)

    def amend(self, args: Args, check_instrument: CheckInstrument) -> OperationResult:
        """Take one amendment, or refuse it; some refusals come later, by a push."""
        now_ms = self.now_ms
        with self.engine.deferred():
            try:
                check_instrument(args, self.instrument)
                self._check_open()
                request = read_amendment(args, self.instrument)
                order = amend(self.engine, args, request, matches=self.mode is Mode.AUTO)
            except Refused as refused:
                return OperationResult.of_refusal(refused, now_ms, args)
        return OperationResult(now_ms, order.ord_id, order.cl_ord_id, req_id=request.req_id)

    def find_open(self, name: str) -> Order:
        """Return the open order with this ``ordId`` or ``clOrdId``.

        Raises:
            LookupError: there is no such open order.
        """
        book = self.engine.book
        order = book.find(name, "") or book.find("", name)
        if order is None or not order.is_open:
            raise LookupError(f"no open order {name}")
        return order

    def _check_open(self) -> None:
        if self.faults.suspended:
            raise Refused("51022", "Contract suspended.")

    def close_position(self, *, auto_cancel: bool, cl_ord_id: str, tag: str) -> None:
        """Close the whole position at market.

        Raises:
            Refused: 51023 when flat, 51115 when closing orders are pending.
        """
        pos = self.engine.ledger.pos
        if not pos:
            raise Refused("51023", "Position does not exist.")
        side = Side.SELL if pos > 0 else Side.BUY
        closing = [order for order in self.engine.book.pending if order.side is side]
        if closing and not auto_cancel:
            raise Refused("51115", "Cancel all pending close orders first.")
        with self.engine.deferred():
            for order in closing:
                self.engine.cancel(order, CancelSource.CLOSED_AT_MARKET)
            request = OrderRequest(
                side, OrdType.MARKET, None, abs(pos), cl_ord_id, tag, True, False
            )
            self._start(self.new_order(request, self.engine.market.limit_for(side)))

    def set_pos_mode(self, pos_mode: str) -> None:
        """Set net or hedge mode.

        Raises:
            Refused: 51000 for another word, 59000 while orders or a position are open.
        """
        check_pos_mode(self.engine, pos_mode)
        self.pos_mode = pos_mode

    def set_lever(self, lever: Decimal) -> None:
        """Set the leverage of the instrument in cross margin.

        Raises:
            Refused: 59102 above the ceiling, 59105 below 1, 59107 with pending orders, 59108 when
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
        """Arm the dead man's switch of a tag ("" is all orders); 0 disarms. Returns when, in ms.

        Raises:
            Refused: 51000 for a time out of range or a bad tag, 51071 above 20 tags.
        """
        return self._switch.arm(timeout_s, tag, self.now_ms)

    # What time and scripts do.

    def tick(self) -> None:
        """Let the market move one step (AUTO), and do what is due."""
        with self.engine.deferred():
            if self.mode is Mode.AUTO:
                self.engine.market.step()
            self._move_back()
            self._follow_market()
            now_ms = self.now_ms
            for tag in self._switch.gone_off(now_ms):
                for order in self.engine.book.pending:
                    if tag in {"", order.tag}:
                        self.engine.cancel(order, CancelSource.CANCEL_ALL_AFTER)
            self._fund_if_due()
            self.engine.forget()

    def set_price(self, px: Decimal) -> None:
        """Put the market at ``px``; in AUTO mode what it reaches fills."""
        with self.engine.deferred():
            self.engine.market.set_price(px)
            self._follow_market()

    def move_market(self, percent: Decimal, *, back_after_s: float = 0.0) -> None:
        """Move the market at once, by -10 for a fall of 10 %; the price band follows.

        With ``back_after_s`` the first ``tick`` after so many seconds takes it back.

        Raises:
            ValueError: the price would not stay above 0.
        """
        part = 100 + percent
        if part <= 0:
            raise ValueError(f"a price cannot fall by {-percent} %")
        if back_after_s:
            due_ns = self.clock() + round(back_after_s * 1e9)
            self._returns.append((due_ns, part))
        with self.engine.deferred():
            self.engine.market.move(part, Decimal(100))
            self._follow_market()

    def change_instrument(self, instrument: Instrument) -> None:
        """Trade by other rules from now on: tick, lot, minimum, contract value, ``instIdCode``.

        Open orders and the position keep their numbers; another contract value values them anew.
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
            ValueError: the order has not so much left.
        """
        order = self.find_open(name)
        if not 0 < sz <= order.remaining:
            raise ValueError(f"order {name} has {order.remaining} left, not {sz}")
        with self.engine.deferred():
            self.engine.fill(order, px, sz, "M" if order.ord_type.takes_px else "T")

    def push_position(self, upl_ratio: Decimal) -> None:
        """Move the mark price to where the position has this ``uplRatio``, and push it at once.

        Raises:
            LookupError: there is no position.
        """
        held = self.engine.ledger.position
        if held is None or not held.pos:
            raise LookupError("no position to push")
        direction = 1 if held.pos > 0 else -1
        mark_px = held.avg_px * (1 + direction * upl_ratio / self.engine.ledger.lever)
        with self.engine.deferred():
            self.engine.market.set_mark(mark_px)
            self.engine.emit(PositionChanged(at_once=True))

    def refuse_next(self, code: str, times: int = 1) -> None:
        """Refuse the next orders, each by this ``sCode``."""
        self.faults.order_refusals.extend([code] * times)

    def liquidate(self, sz: Decimal | None = None) -> None:
        """Let the risk engine close the position now, or ``sz`` contracts of it.

        Raises:
            LookupError: there is no position, or it is not so large.
        """
        held = abs(self.engine.ledger.pos)
        sz = held if sz is None else sz
        self._check_held(sz)
        with self.engine.deferred():
            self.engine.liquidate(sz, self._risk_reported)

    def deleverage(self, sz: Decimal) -> None:
        """Let an auto-deleveraging take ``sz`` contracts of the position.

        Raises:
            LookupError: the position is not so large.
        """
        self._check_held(sz)
        px = self.engine.market.mark_px
        with self.engine.deferred():
            self.engine.close_by_force(sz, px, Category.ADL, self._risk_reported)

    def fund(self, rate: Decimal | None = None) -> None:
        """Settle a funding fee now, by default at the rate that is set; longs pay above 0."""
        rate = self.funding_rate if rate is None else rate
        self.funded.append((self.now_ms, rate))
        with self.engine.deferred():
            self.engine.fund(rate)
            self.engine.liquidate_if_due(self._risk_reported)

    def reading(self, path: str) -> Engine:
        """Return what a REST endpoint sees: the present, or the past while REST lags behind."""
        faults = self.faults
        if not faults.rest_lag_ms or not covers(faults.rest_lag_only, path):
            return self.engine
        return self.engine.as_of(self.clock() - faults.rest_lag_ms * 1_000_000)

    @property
    def _risk_reported(self) -> Reported:
        return Reported(min(max(Reported), self.faults.quiet_risk_orders))

    def _check_held(self, sz: Decimal) -> None:
        if not 0 < sz <= abs(self.engine.ledger.pos):
            raise LookupError(f"no position of {sz} contracts")

    def _move_back(self) -> None:
        now_ns = self.clock()
        for due_ns, part in self._returns:
            if now_ns >= due_ns:
                self.engine.market.move(Decimal(100), part)
        self._returns = [each for each in self._returns if now_ns < each[0]]

    def _fund_if_due(self) -> None:
        """Settle funding whenever a multiple of its interval has passed."""
        due_ms = self.now_ms // self.funding_every_ms * self.funding_every_ms
        if self._funded_ms and due_ms > self._funded_ms and self.funding_rate:
            self.fund()
        # A wrong clock may go back: what was settled is not settled again.
        self._funded_ms = max(due_ms, self._funded_ms)

    def _read_clock(self) -> int:
        now_ns = self.clock()
        self.faults.expire(now_ns)
        gained_ns = self._drift.gained_ns(now_ns, self.faults.clock_drift_ppm)
        return now_ns + gained_ns + self.faults.clock_skew_ms * 1_000_000

    def _follow_market(self) -> None:
        if self.mode is Mode.AUTO:
            self.engine.make()
        self.engine.liquidate_if_due(self._risk_reported)

    def _admit(self, request: OrderRequest) -> Order:
        """Check what depends on the state of account, book and market."""
        engine = self.engine
        if self.faults.order_refusals:
            raise Refused(self.faults.order_refusals.popleft(), "Refused by the script.")
        if not self.limits.admit("sub-account", SUBMITS_PER_ACCOUNT, self.steady_ms):
            raise Refused("50061", "Sub-account rate limit exceeded.")
        if self.pos_mode != "net_mode":
            raise Refused("51000", "Parameter posSide error")
        limit_px = check_against_state(engine, request)
        if request.clamp_px and request.px is not None:
            request = attrs.evolve(request, px=limit_px)
        order = self.new_order(request, limit_px)
        check_margin(engine, order)
        check_tier(engine, order)
        return order

    def new_order(self, request: OrderRequest, limit_px: Decimal) -> Order:
        """Make an order of a request, with an id of its own; nothing is booked."""
        now_ms = self.now_ms
        return Order(
            ord_id=self.engine.numbers.next_id(),
            cl_ord_id=request.cl_ord_id,
            tag=request.tag,
            side=request.side,
            ord_type=request.ord_type,
            px=request.px,
            limit_px=limit_px,
            sz=request.sz,
            lever=self.engine.ledger.lever,
            c_time_ms=now_ms,
            u_time_ms=now_ms,
            reduce_only=request.reduce_only,
            stp_mode=request.stp_mode,
        )

    def _start(self, order: Order) -> None:
        """Book an admitted order and let it match."""
        if order.ord_type is OrdType.POST_ONLY and crosses(
            order.side, order.limit_px, self.engine.market.best_for(order.side)
        ):
            # Since August 2026 the only push of such an order is its cancellation.
            self.engine.cancel(order, CancelSource.POST_ONLY)
            return
        self.engine.store(OrderChanged(order))
        if self.mode is Mode.AUTO:
            self.engine.take(order)
        elif not order.ord_type.may_rest:
            fok = order.ord_type is OrdType.FOK
            self.engine.cancel(order, CancelSource.FOK if fok else CancelSource.IOC)
