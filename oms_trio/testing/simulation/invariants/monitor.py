"""Invariants that are checked while a run goes on, as the exchange sees the service.

4  no order comes from an action that has expired
5  with all open orders of a side filled, the position is within the cap
8  no new order while the exchange's position differs from ours without an explanation
9  the service reconciles soon after it can reach the exchange again
10 an operator's command has its effect at the exchange
11 no request exceeds the exchange's rate limits

The others are checked after the run (``audit``). docs/simulation.md lists all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import attrs
import trio

from oms_trio.core.effects import Alert, Effect
from oms_trio.core.events import Verb
from oms_trio.core.model import Cause, Rules, Side
from oms_trio.core.state import TradeState
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.values import ExchangeFill, ExchangeOrder, OrderCategory
from oms_trio.testing.simulation.impairments import REACH, Impairment, Impairments
from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.run_settings import CONTEXT

if TYPE_CHECKING:
    from oms_trio.testing.simulation.machine.process import ServiceProcess

NEVER: Final = float("inf")

UNEXPLAINED_S: Final = 10.0
"""How long after a manual trade new orders may still come."""

RECONCILED_S: Final = 75.0
"""How long reconciling may take while nothing is impaired: back-off of sessions (30 s), the account,
pages and look-ups (15 s with 300 open orders), and some more tries at a position."""

COMMANDED_S: Final = 45.0
"""How long a command may take to have its effect while nothing is impaired: a session, when there
was none, then requests."""

SENT_S: Final = 7.0
"""After this long, what was sent before has arrived or expired: an action's age, and some delay."""

ARRIVED_S: Final = 0.1
"""The same over a network that is not slow."""

RATE_S: Final = 30.0
"""So long after a start, or an impairment of the link, no requests pile up and all rate limits are free."""

OLDEST_S: Final = 12.5
"""An action waits in the queue for its maximum age, and may become an order within the same age
again; a paused process notices after a second that it was paused."""

KNOWN_S: Final = 2.0 + SENT_S
"""What happened at the exchange within this time may be unknown to the sender of what arrives now."""

REPORTS_LATE_S: Final = 90.0
"""The same while reports come late or not at all."""

KNOWN_OPEN_S: Final = 75.0
"""When nothing has been impaired for so long there has been a check: what is open at the exchange is
open here."""

LOOK_S: Final = 15.0
"""How often the monitor checks whether a bound has passed."""

_REPORTS: Final = frozenset(
    {Impairment.LINK, Impairment.REST, Impairment.PUSHES, Impairment.PROCESS, Impairment.CLOCK}
)


@attrs.frozen
class _Sample:
    at: float
    pos: Decimal
    risk: Decimal
    """The part of the position that liquidations and ADL have made so far."""
    cash: Decimal
    mark: Decimal


@attrs.frozen
class SizingDecision:
    """The service's decision to send an order.

    ``at_ns`` is by the service's clock. ``cap`` is in contracts, from the price that the order was
    sized by and the balance at that time.
    """

    at_ns: int
    side: Side
    cap: Fraction


@attrs.define(eq=False)
class RunMonitor:
    """Watches one run; what is broken is in ``found``."""

    exchange: SimulatedExchange
    rules: Rules
    """Those that the service trades by."""
    impairments: Impairments
    process: Callable[[], ServiceProcess | None]
    mark_age_s: float
    """The greatest age of a mark price that the service uses."""
    found: list[Violation] = attrs.Factory(list)
    published_at: dict[int, float] = attrs.Factory(dict)
    """By state id: when the agent last published an action."""
    decided: dict[str, SizingDecision] = attrs.Factory(dict)
    """By ``clOrdId``, in the order of the decisions."""
    by_hand: Decimal = Decimal(0)
    """The part of the exchange's position that was traded by hand and not adopted."""
    adopted: list[tuple[int, Decimal]] = attrs.Factory(list)
    """Adoptions: how many fills the exchange had made, and the contracts adopted."""
    fill_times: list[float] = attrs.Factory(list)
    """The virtual time of each fill of the exchange."""
    adopting: bool = False
    failed_flatten: int = 0
    _cancelled_at: dict[str, float] = attrs.Factory(dict)
    """By ``clOrdId`` of orders that waited to be sent: when the operator cancelled everything."""
    _flat_at: float = 0.0
    """When the exchange's position was last seen to be 0, in virtual time."""
    _known: set[str] = attrs.Factory(set)
    _unexplained_at: float = NEVER
    _paused_at: float = NEVER
    _foreign_at: float = -NEVER
    """When the position last changed by an order that is not ours."""
    _liquidated: Decimal = Decimal(0)
    """What liquidations and ADL have made of the position so far, in contracts."""
    _samples: deque[_Sample] = attrs.Factory(deque)

    # What happens at the exchange.

    def sample(self) -> None:
        """Record the present position, cash and mark price."""
        engine, now = self.exchange.engine, trio.current_time()
        if not engine.ledger.pos:
            self._flat_at = now
        samples = self._samples
        samples.append(
            _Sample(
                now,
                engine.ledger.pos,
                self._liquidated,
                engine.ledger.cash_bal,
                engine.market.mark_px,
            )
        )
        horizon = now - max(self.mark_age_s, REPORTS_LATE_S)
        while len(samples) > 1 and samples[1].at < horizon:
            samples.popleft()

    def note_change(self, order: ExchangeOrder, fill: ExchangeFill | None) -> None:
        """Take a change of an order, of anybody's, as it happens."""
        if fill is not None:
            self._note_fill(order, fill)
        elif order.tag == CONTEXT.tag and order.ord_id not in self._known:
            self._known.add(order.ord_id)
            self.sample()
            self._check_order(order)
        self.sample()

    def _note_fill(self, order: ExchangeOrder, fill: ExchangeFill) -> None:
        self.fill_times.append(trio.current_time())
        if order.tag == CONTEXT.tag:
            return
        self._foreign_at = trio.current_time()
        if order.category is OrderCategory.NORMAL:
            self.by_hand += fill.side.sign * fill.sz
            self._update_unexplained()
        else:
            self._liquidated += fill.side.sign * fill.sz

    def _update_unexplained(self) -> None:
        if not self.by_hand:
            self._unexplained_at = NEVER
        elif self._unexplained_at == NEVER:
            self._unexplained_at = trio.current_time()

    def _check_order(self, order: ExchangeOrder) -> None:
        if order.reduce_only:
            return
        self._check_age(order)
        self._check_cap(order)
        now, name = trio.current_time(), order.cl_ord_id
        since = max(self._unexplained_at, self.impairments.unimpaired_since(_REPORTS))
        if now - since > UNEXPLAINED_S:
            self._break(
                8,
                f"order {name} came {now - self._unexplained_at:.0f} s after {self.by_hand} contracts "
                "were traded by hand",
            )
        if self._is_late(self._paused_at):
            self._break(
                10, f"order {name} came {now - self._paused_at:.1f} s after trading was paused"
            )
        if self._is_late(cancelled_at := self._cancelled_at.get(name, NEVER)):
            self._break(10, f"order {name} came {now - cancelled_at:.1f} s after cancel-all")

    def _is_late(self, stopped_at: float) -> bool:
        """Whether an order that comes now must have been sent after orders were stopped."""
        kinds = {Impairment.LINK, Impairment.PROCESS, Impairment.CLOCK}
        if self.impairments.unimpaired_for(kinds) > RATE_S:
            return trio.current_time() - stopped_at > ARRIVED_S
        return self.impairments.unimpaired_for(kinds, stopped_at) > SENT_S

    def note_rate_limited(self, key: str) -> None:
        """Take a request that exceeded a rate limit of the exchange."""
        if (
            self.impairments.unimpaired_for({Impairment.LINK, Impairment.REST, Impairment.PROCESS})
            > RATE_S
        ):
            self._break(11, f"a request exceeded the rate limit of {key}")

    def _check_age(self, order: ExchangeOrder) -> None:
        published = self.published_at.get(int(order.cl_ord_id[3:11], 16))
        if (
            published is None
            or self.impairments.unimpaired_for({Impairment.CLOCK}) < REPORTS_LATE_S
        ):
            return
        age_s = trio.current_time() - published
        if age_s > OLDEST_S:
            self._break(4, f"order {order.cl_ord_id} came {age_s:.1f} s after its action")

    def _check_cap(self, order: ExchangeOrder) -> None:
        """Check the cap twice: by the decision that led to the order, and by the exchange's own figures."""
        engine, sign = self.exchange.engine, order.side.sign
        resting = sum(
            (Fraction(other.remaining) for other in self._ours() if other.side is order.side),
            Fraction(0),
        )
        ours = sign * Fraction(engine.ledger.pos - self.by_hand) + resting
        reported = (
            self.impairments.unimpaired_for({Impairment.PUSHES, Impairment.REST}, self._foreign_at)
            > REPORTS_LATE_S
        )
        if order.cl_ord_id not in self.decided:
            self._break(5, f"no decision is known for order {order.cl_ord_id}")
        elif ours > (cap := self._cap_decided(order.side)) and reported:
            self._break_cap(order, ours, cap, "as decided")
        timely = self.impairments.unimpaired_for(_REPORTS) > REPORTS_LATE_S
        horizon = trio.current_time() - (KNOWN_S if timely else REPORTS_LATE_S)
        lately = self._lately(horizon)
        mark = min(sample.mark for sample in self._samples)
        px = Fraction(mark if order.px is None else max(order.px, mark))
        money = Fraction(max(sample.cash for sample in lately)) * Fraction(self.rules.leverage)
        allowed = money * Fraction(self.rules.max_margin_fraction)
        allowed /= px * Fraction(self.exchange.instrument.multiplier)
        # The service may not know yet what was just traded by hand; invariant 8 bounds for how long.
        # Nor what was liquidated: no orders push may report that, and later fills are then known
        # before it.
        others = [engine.ledger.pos - self.by_hand - self._liquidated]
        others += [sample.pos - sample.risk for sample in lately]
        risks = [self._liquidated, *(sample.risk for sample in lately)]
        reached = resting + min(sign * Fraction(pos) for pos in others)
        reached += min(sign * Fraction(risk) for risk in risks)
        if reached > allowed:
            self._break_cap(order, reached, allowed, "by the exchange's figures")

    def _lately(self, horizon: float) -> list[_Sample]:
        """Return the samples since ``horizon``, and the last one before: its values still held then."""
        samples = list(self._samples)
        first = bisect_left(samples, horizon, key=attrgetter("at"))
        return samples[max(0, first - 1) :]

    def _cap_decided(self, side: Side) -> Fraction:
        """Return the cap of the latest decision for a side.

        Each decision counts all open orders of its side, and nothing after it adds to them. An order
        that is tried again may arrive after younger ones; those had caps by their own prices.
        """
        return next(one.cap for one in reversed(self.decided.values()) if one.side is side)

    def _ours(self) -> Iterator[ExchangeOrder]:
        return (order for order in self.exchange.engine.book.pending if order.tag == CONTEXT.tag)

    def _break_cap(self, order: ExchangeOrder, reached: Fraction, cap: Fraction, how: str) -> None:
        side = "long" if order.side is Side.BUY else "short"
        self._break(
            5,
            f"order {order.cl_ord_id} can make {float(reached)} contracts {side}; the cap is {float(cap)} {how}",
        )

    # What happens in the service.

    def note_decision(self, state: TradeState) -> None:
        """Take the order that an action has become, if any; after a redelivery it may come later."""
        order = next(reversed(state.orders.open.values()), None)
        if order is None or order.cause is not Cause.AGENT or not order.expires_at_ns:
            return  # found at the exchange, or the operator's: no action was decided on
        before = self.decided.get(order.cl_ord_id)
        if before is not None and before.at_ns == order.created_ns:
            return
        # A later process decides again on an action that the one before left no record of.
        self.decided.pop(order.cl_ord_id, None)
        assert state.balance is not None
        assert state.sync.instrument is not None
        money = Fraction(state.balance) * Fraction(self.rules.leverage)
        contract = Fraction(order.ref_px) * Fraction(state.sync.instrument.multiplier)
        cap = money * Fraction(self.rules.max_margin_fraction) / contract
        self.decided[order.cl_ord_id] = SizingDecision(order.created_ns, order.side, cap)

    def observe(self, effects: tuple[Effect, ...], state: TradeState) -> None:
        """Take the effects of an input and the state after it."""
        for effect in effects:
            if isinstance(effect, Alert) and effect.event.startswith("flatten_"):
                self.failed_flatten += 1
        if self.adopting and state.book.position == self.exchange.engine.ledger.pos:
            self.adopting = False
            if self.by_hand:
                self.adopted.append((len(self.fill_times), self.by_hand))
            self.by_hand = Decimal(0)
            self._foreign_at = trio.current_time()
            self._update_unexplained()

    async def watch_liveness(self) -> None:
        """Check that the service reconciles whenever it can; ends by cancellation only."""
        since, reported = 0.0, False
        missing: frozenset[str] = frozenset()
        while True:
            await trio.sleep(LOOK_S)
            process = self.process()
            missing = self._find_missing(missing)
            state = (
                None if process is None or process.dead or process.ended.is_set() else process.state
            )
            if state is None or state.draining or self._reconciled(state):
                since, reported = trio.current_time(), False
            elif (
                not reported
                and self.impairments.unimpaired_for(REACH, since) > RECONCILED_S + LOOK_S
            ):
                reported = True
                self._break(
                    9, f"still not in sync, with {len(state.orders)} open orders: {state.sync.why}"
                )

    def _find_missing(self, missing_before: frozenset[str]) -> frozenset[str]:
        """Check that no order stays open at the exchange without being open here."""
        process = self.process()
        kinds = {*REACH, Impairment.PUSHES, Impairment.ORDERS, Impairment.CLOCK}
        if (
            process is None
            or process.state is None
            or self.impairments.unimpaired_for(kinds) < KNOWN_OPEN_S
        ):
            return frozenset()
        state = process.state
        if state.draining or not state.ready:
            return frozenset()
        missing = self.open_orders() - {str(order.okx_order_id) for order in state.orders}
        if lasting := missing & missing_before:
            self._break(2, f"{len(lasting)} orders are open at the exchange and not here")
            return frozenset()
        return missing

    def _reconciled(self, state: TradeState) -> bool:
        # With an unexplained position the service rightly takes no actions.
        return state.ready or (
            self.by_hand != 0 and state.sync.has_session and state.sync.snapshot_applied
        )

    # The operator's commands.

    def note_command_sent(self, verb: Verb) -> None:
        """Take a command that is about to be given: a resume may have its effect from here on."""
        if verb is Verb.RESUME:
            self._paused_at = NEVER
        elif verb in {Verb.ADOPT, Verb.FLATTEN}:
            self.adopting = True

    def note_command_accepted(self, verb: Verb, state: TradeState | None) -> None:
        """Take a command that is journaled and can no longer be lost."""
        if verb in {Verb.CANCEL_ALL, Verb.KILL, Verb.FLATTEN} and state is not None:
            waiting = [
                order for order in state.orders if order.verify_before_send or order.retry_due_ns
            ]
            now = trio.current_time()
            self._cancelled_at |= {order.cl_ord_id: now for order in waiting}
        if verb not in {Verb.RESUME, Verb.CANCEL_ALL} and self._paused_at == NEVER:
            self._paused_at = trio.current_time()

    def open_orders(self) -> frozenset[str]:
        """Return the ``ordId`` of each of our orders that is pending at the exchange."""
        return frozenset(order.ord_id for order in self._ours())

    async def check_command(self, verb: Verb, existed: frozenset[str]) -> None:
        """Wait until a command must have had its effect, then look for it at the exchange."""
        failed = self.failed_flatten
        paused_at, began = self._paused_at, trio.current_time()
        kinds = {*REACH, Impairment.ORDERS, Impairment.PUSHES, Impairment.CLOCK}
        await self.impairments.wait_unimpaired(kinds, COMMANDED_S)
        if left := existed & self.open_orders():
            self._break(
                10, f"{len(left)} of {len(existed)} orders are still pending after {verb.value}"
            )
        resumed = self._paused_at != paused_at
        pos = self.exchange.engine.ledger.pos
        stayed = pos and self._flat_at < began  # somebody may have traded by hand since
        if verb is Verb.FLATTEN and stayed and not resumed and failed == self.failed_flatten:
            self._break(10, f"the position is {pos} after flatten, and no failure was reported")

    def _break(self, invariant: int, what: str) -> None:
        self.found.append(Violation(str(invariant), f"{what} (at {trio.current_time():.3f} s)"))
