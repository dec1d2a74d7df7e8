"""What must hold at every moment of a run, watched on the exchange while it goes on.

4  no order of an action that is older than it may become
5  with every open order filled the position stays within the cap, by the exchange's own figures
8  no new order once nothing explains the exchange's position any more
9  reconciled soon after the exchange can be asked again
10 an operator's command does on the exchange what it says
11 the exchange never has to refuse a request for coming too fast
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
from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.ground_truth import Truth
from oms_trio.testing.okx_server.rate_limits import Limits, Quota
from oms_trio.testing.okx_server.values import Category, Fill, Order
from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.setting import CONTEXT
from oms_trio.testing.simulation.troubles import REACH, Trouble, Troubles

if TYPE_CHECKING:
    from oms_trio.testing.simulation.machine.process import Life

NEVER: Final = float("inf")

UNEXPLAINED_S: Final = 10.0
"""How long new orders may go on after the exchange's position has stopped being explained."""

RECONCILED_S: Final = 75.0
"""How long reconciling may take where nothing hampers it: back-off of sessions (30 s), the account,
pages and look-ups (15 s with 300 open orders), and some more tries at a position."""

COMMANDED_S: Final = 45.0
"""How long a command may take to have its effect where nothing hampers it: a session, when there
was none, then requests."""

SENT_S: Final = 7.0
"""What was sent before has arrived or expired by then: an action's age, and some delay."""

ARRIVED_S: Final = 0.1
"""What was sent before has arrived by then over a network that is not slow."""

JITTER_MS: Final = 50
"""Requests that leave a window apart may arrive by this much closer to each other."""

RATE_S: Final = 30.0
"""So long after a trouble of the link or a start nothing bunches up, and all limits are full."""

OLDEST_S: Final = 12.5
"""An action waits in the queue for its age at most, and becomes an order within its age; the pause of
a process is noticed after a second."""

KNOWN_S: Final = 2.0 + SENT_S
"""What happened on the exchange so lately may be unknown to whoever sent what arrives now."""

TROUBLED_S: Final = 90.0
"""The same when reports may come late or not at all."""

KNOWN_OPEN_S: Final = 75.0
"""Where nothing hampers it for so long there has been a check: what is open there is open here."""

LOOK_S: Final = 15.0
"""How often the watch looks whether a bound has passed."""

_REPORTS: Final = frozenset(
    {Trouble.LINK, Trouble.REST, Trouble.PUSHES, Trouble.PROCESS, Trouble.CLOCK}
)


@attrs.define(eq=False)
class WatchedTruth(Truth):
    """The exchange's log, which tells of a change before anything else comes of it."""

    watch: Callable[[Order, Fill | None], object] | None = None

    def record(self, order: Order, fill: Fill | None) -> None:
        """See ``Truth.record``."""
        super().record(order, fill)
        if self.watch is not None:
            self.watch(order, fill)


@attrs.define
class WatchedLimits(Limits):
    """The exchange's rate limits, which tell when a request came too fast."""

    refused: Callable[[str], object] | None = None

    def admit(self, key: str, quota: Quota, now_ms: int, weight: int = 1) -> bool:
        """See ``Limits.admit``."""
        admitted = super().admit(key, quota, now_ms, weight)
        if not admitted and self.refused is not None:
            since_ms = now_ms - quota.window_ms + JITTER_MS
            recent = sum(stamp > since_ms for stamp in self._taken[key])
            if recent + weight > quota.count:
                self.refused(key)
        return admitted


@attrs.frozen
class _Sample:
    at: float
    pos: Decimal
    risk: Decimal
    """The part of the position that the exchange's risk engine has made so far."""
    cash: Decimal
    mark: Decimal


@attrs.frozen
class Decided:
    """A decision to send an order: when (the service's clock), and what the position might reach.

    ``cap`` is in contracts, by the price that the order was sized by and the balance of then.
    """

    at_ns: int
    side: Side
    cap: Fraction


@attrs.define(eq=False)
class Monitor:
    """Watches one run. ``published_at`` is when the agent last acted in a state."""

    exchange: Exchange
    rules: Rules
    """As the service has them."""
    troubles: Troubles
    life: Callable[[], Life | None]
    mark_age_s: float
    """How old the mark price may be that the service knows."""
    found: list[Violation] = attrs.Factory(list)
    published_at: dict[int, float] = attrs.Factory(dict)
    decided: dict[str, Decided] = attrs.Factory(dict)
    """By order name, in the order of the decisions."""
    by_hand: Decimal = Decimal(0)
    """The part of the exchange's position that no order of ours explains, and nobody adopted."""
    adopted: list[tuple[int, Decimal]] = attrs.Factory(list)
    """Adoptions: how many matches had been made, and what had been traded by hand."""
    fill_times: list[float] = attrs.Factory(list)
    """When each match was made, in virtual time."""
    adopting: bool = False
    failed_flatten: int = 0
    _called_off: dict[str, float] = attrs.Factory(dict)
    """Orders that were waiting to be sent when the operator cancelled everything, and when."""
    _flat_at: float = 0.0
    """When the exchange's position was last seen to be 0."""
    _known: set[str] = attrs.Factory(set)
    _unexplained_at: float = NEVER
    _paused_at: float = NEVER
    _odd_at: float = -NEVER
    """When the position last changed by other hands than ours."""
    _by_risk: Decimal = Decimal(0)
    """What liquidations and deleveraging have made of the position, in contracts so far."""
    _samples: deque[_Sample] = attrs.Factory(deque)

    # What happens on the exchange.

    def sample(self) -> None:
        """Note position, cash and mark price of this moment."""
        engine, now = self.exchange.engine, trio.current_time()
        if not engine.ledger.pos:
            self._flat_at = now
        samples = self._samples
        samples.append(
            _Sample(
                now,
                engine.ledger.pos,
                self._by_risk,
                engine.ledger.cash_bal,
                engine.market.mark_px,
            )
        )
        horizon = now - max(self.mark_age_s, TROUBLED_S)
        while len(samples) > 1 and samples[1].at < horizon:
            samples.popleft()

    def watch(self, order: Order, fill: Fill | None) -> None:
        """See every change of every order as it happens."""
        if fill is not None:
            self._note_fill(order, fill)
        elif order.tag == CONTEXT.tag and order.ord_id not in self._known:
            self._known.add(order.ord_id)
            self.sample()
            self._note_order(order)
        self.sample()

    def _note_fill(self, order: Order, fill: Fill) -> None:
        self.fill_times.append(trio.current_time())
        if order.tag == CONTEXT.tag:
            return
        self._odd_at = trio.current_time()
        if order.category is Category.NORMAL:
            self.by_hand += fill.side.sign * fill.sz
            self._judge_position()
        else:
            self._by_risk += fill.side.sign * fill.sz

    def _judge_position(self) -> None:
        if not self.by_hand:
            self._unexplained_at = NEVER
        elif self._unexplained_at == NEVER:
            self._unexplained_at = trio.current_time()

    def _note_order(self, order: Order) -> None:
        if order.reduce_only:
            return
        self._judge_age(order)
        self._judge_cap(order)
        now, name = trio.current_time(), order.cl_ord_id
        since = max(self._unexplained_at, self.troubles.calm_since(_REPORTS))
        if now - since > UNEXPLAINED_S:
            self._break(
                8,
                f"{name} came {now - self._unexplained_at:.0f} s after {self.by_hand} contracts "
                "by hand, which nothing explains",
            )
        if self._is_late(self._paused_at):
            self._break(10, f"{name} came {now - self._paused_at:.1f} s after the pause")
        if self._is_late(off := self._called_off.get(name, NEVER)):
            self._break(10, f"{name} came {now - off:.1f} s after all orders were cancelled")

    def _is_late(self, stopped_at: float) -> bool:
        """Whether an order that comes now cannot have been sent before orders were stopped."""
        kinds = {Trouble.LINK, Trouble.PROCESS, Trouble.CLOCK}
        if self.troubles.calm_for(kinds) > RATE_S:
            return trio.current_time() - stopped_at > ARRIVED_S
        return self.troubles.calm_for(kinds, stopped_at) > SENT_S

    def refused(self, key: str) -> None:
        """See a request that came faster than the exchange allows."""
        if self.troubles.calm_for({Trouble.LINK, Trouble.REST, Trouble.PROCESS}) > RATE_S:
            self._break(11, f"above the rate limit of {key}")

    def _judge_age(self, order: Order) -> None:
        published = self.published_at.get(int(order.cl_ord_id[3:11], 16))
        if published is None or self.troubles.calm_for({Trouble.CLOCK}) < TROUBLED_S:
            return
        age_s = trio.current_time() - published
        if age_s > OLDEST_S:
            self._break(4, f"{order.cl_ord_id} came {age_s:.1f} s after its action")

    def _judge_cap(self, order: Order) -> None:
        """Hold an order against the cap, with what was decided by and with the exchange's figures."""
        engine, sign = self.exchange.engine, order.side.sign
        resting = sum(
            (Fraction(other.remaining) for other in self._ours() if other.side is order.side),
            Fraction(0),
        )
        ours = sign * Fraction(engine.ledger.pos - self.by_hand) + resting
        quiet = self.troubles.calm_for({Trouble.PUSHES, Trouble.REST}, self._odd_at) > TROUBLED_S
        if order.cl_ord_id not in self.decided:
            self._break(5, f"order {order.cl_ord_id} was never decided")
        elif ours > (cap := self._cap_decided(order.side)) and quiet:
            self._break_cap(order, ours, cap, "as decided")
        calm = self.troubles.calm_for(_REPORTS) > TROUBLED_S
        horizon = trio.current_time() - (KNOWN_S if calm else TROUBLED_S)
        lately = self._lately(horizon)
        mark = min(sample.mark for sample in self._samples)
        px = Fraction(mark if order.px is None else max(order.px, mark))
        money = Fraction(max(sample.cash for sample in lately)) * Fraction(self.rules.leverage)
        allowed = money * Fraction(self.rules.max_margin_fraction)
        allowed /= px * Fraction(self.exchange.instrument.multiplier)
        # What is traded by hand just now need not be known yet: invariant 8 says how soon it must.
        # Nor need what the risk engine has done: no orders push may tell of it, and then fills of
        # later are known before it.
        others = [engine.ledger.pos - self.by_hand - self._by_risk]
        others += [sample.pos - sample.risk for sample in lately]
        risks = [self._by_risk, *(sample.risk for sample in lately)]
        reached = resting + min(sign * Fraction(pos) for pos in others)
        reached += min(sign * Fraction(risk) for risk in risks)
        if reached > allowed:
            self._break_cap(order, reached, allowed, "by the exchange's figures")

    def _lately(self, horizon: float) -> list[_Sample]:
        """Return the samples since then, with the one before them: it still held then."""
        samples = list(self._samples)
        first = bisect_left(samples, horizon, key=attrgetter("at"))
        return samples[max(0, first - 1) :]

    def _cap_decided(self, side: Side) -> Fraction:
        """Return what the latest decision for a side allowed.

        Each decision counts all that is open on its side, and what comes after it only takes away
        from that. An order may come after younger ones, because it was tried again: those had caps
        of their own, by their own prices.
        """
        return next(one.cap for one in reversed(self.decided.values()) if one.side is side)

    def _ours(self) -> Iterator[Order]:
        return (order for order in self.exchange.engine.book.pending if order.tag == CONTEXT.tag)

    def _break_cap(self, order: Order, reached: Fraction, cap: Fraction, how: str) -> None:
        side = "long" if order.side is Side.BUY else "short"
        self._break(
            5,
            f"{float(reached)} contracts {side} with {order.cl_ord_id}, cap {float(cap)} {how}",
        )

    # What happens in the service.

    def note_decision(self, state: TradeState) -> None:
        """See the order that an action has become, if any; with a redelivered one it may come later."""
        order = next(reversed(state.orders.open.values()), None)
        if order is None or order.cause is not Cause.AGENT or not order.expires_at_ns:
            return  # found on the exchange, or the operator's: no decision is behind it
        before = self.decided.get(order.cl_ord_id)
        if before is not None and before.at_ns == order.created_ns:
            return
        # A later process decides an action again of which the one before has left no record.
        self.decided.pop(order.cl_ord_id, None)
        assert state.balance is not None
        assert state.instrument is not None
        money = Fraction(state.balance) * Fraction(self.rules.leverage)
        contract = Fraction(order.ref_px) * Fraction(state.instrument.multiplier)
        cap = money * Fraction(self.rules.max_margin_fraction) / contract
        self.decided[order.cl_ord_id] = Decided(order.created_ns, order.side, cap)

    def observe(self, effects: tuple[Effect, ...], state: TradeState) -> None:
        """See every input behind its effects."""
        for effect in effects:
            if isinstance(effect, Alert) and effect.event.startswith("flatten_"):
                self.failed_flatten += 1
        if self.adopting and state.book.position == self.exchange.engine.ledger.pos:
            self.adopting = False
            if self.by_hand:
                self.adopted.append((len(self.fill_times), self.by_hand))
            self.by_hand = Decimal(0)
            self._odd_at = trio.current_time()
            self._judge_position()

    async def watch_liveness(self) -> None:
        """Look that the service is reconciled whenever it can be; ends by cancellation only."""
        since, told = 0.0, False
        missing: frozenset[str] = frozenset()
        while True:
            await trio.sleep(LOOK_S)
            life = self.life()
            missing = self._look_for_orders(missing)
            state = None if life is None or life.dead or life.ended.is_set() else life.state
            if state is None or state.draining or self._reconciled(state):
                since, told = trio.current_time(), False
            elif not told and self.troubles.calm_for(REACH, since) > RECONCILED_S + LOOK_S:
                told = True
                self._break(
                    9, f"{len(state.orders)} orders open, and not in sync: {state.sync.why}"
                )

    def _look_for_orders(self, missing_before: frozenset[str]) -> frozenset[str]:
        """Look for orders that are open on the exchange and not here, and have been for long."""
        life = self.life()
        kinds = {*REACH, Trouble.PUSHES, Trouble.ORDERS, Trouble.CLOCK}
        if life is None or life.state is None or self.troubles.calm_for(kinds) < KNOWN_OPEN_S:
            return frozenset()
        state = life.state
        if state.draining or not state.ready:
            return frozenset()
        missing = self.open_orders() - {str(order.okx_order_id) for order in state.orders}
        if lasting := missing & missing_before:
            self._break(2, f"{len(lasting)} orders are open on the exchange and not here")
            return frozenset()
        return missing

    def _reconciled(self, state: TradeState) -> bool:
        # A position that nothing explains keeps the service from taking actions, and should.
        return state.ready or (
            self.by_hand != 0 and state.sync.has_session and state.sync.snapshot_applied
        )

    # What the operator wants.

    def commanded(self, verb: Verb) -> None:
        """Note a command that is about to be given: a resume may be obeyed from here on."""
        if verb is Verb.RESUME:
            self._paused_at = NEVER
        elif verb in {Verb.ADOPT, Verb.FLATTEN}:
            self.adopting = True

    def obeyed(self, verb: Verb, state: TradeState | None) -> None:
        """Note a command that cannot be lost any more."""
        if verb in {Verb.CANCEL_ALL, Verb.KILL, Verb.FLATTEN} and state is not None:
            verify_before_send = [
                order for order in state.orders if order.verify_before_send or order.retry_due_ns
            ]
            now = trio.current_time()
            self._called_off |= {order.cl_ord_id: now for order in verify_before_send}
        if verb not in {Verb.RESUME, Verb.CANCEL_ALL} and self._paused_at == NEVER:
            self._paused_at = trio.current_time()

    def open_orders(self) -> frozenset[str]:
        """Name our orders that are pending on the exchange."""
        return frozenset(order.ord_id for order in self._ours())

    async def follow(self, verb: Verb, existed: frozenset[str]) -> None:
        """Wait until a command has had its time, and look at the exchange then."""
        failed = self.failed_flatten
        paused_at, began = self._paused_at, trio.current_time()
        kinds = {*REACH, Trouble.ORDERS, Trouble.PUSHES, Trouble.CLOCK}
        await self.troubles.wait_calm(kinds, COMMANDED_S)
        if left := existed & self.open_orders():
            self._break(10, f"{len(left)} of {len(existed)} orders live after {verb.value}")
        resumed = self._paused_at != paused_at
        pos = self.exchange.engine.ledger.pos
        stayed = pos and self._flat_at < began  # a hand may have traded since
        if verb is Verb.FLATTEN and stayed and not resumed and failed == self.failed_flatten:
            self._break(10, f"the position is {pos} after flatten, and nobody said that it failed")

    def _break(self, invariant: int, what: str) -> None:
        self.found.append(Violation(str(invariant), f"{what} (at {trio.current_time():.3f} s)"))
