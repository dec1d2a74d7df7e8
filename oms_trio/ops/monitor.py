"""Counts and times what the service does, without holding it up.

The trade-state task only appends to a bounded queue. A task of the monitor counts what is in the
queue, and reads the trading state between two turns of the trade-state task. When inputs arrive
faster than they are counted, the oldest are dropped, the drops are counted, and nothing waits.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

import attrs
import msgspec
import trio

from oms_trio.amqp.model import Outgoing
from oms_trio.core.effects import (
    Alert,
    CancelOrders,
    Effect,
    PlaceOrder,
    PublishClosure,
    PublishExecution,
    PublishRejection,
)
from oms_trio.core.model import Cause, OrdId
from oms_trio.core.risk import Control
from oms_trio.core.state import TradeState
from oms_trio.ops.latency import Latency
from oms_trio.ops.metrics import Metrics
from oms_trio.ops.status import (
    Connections,
    RecentEvent,
    ReplayProgress,
    Status,
    Store,
    controls_of,
    orders_of,
    position_of,
    trade_of,
)
from oms_trio.service.journaled_inputs import DeliveryMetadata, JournaledInput, Kind
from oms_trio.settings.clock import Clock
from oms_trio.version import __version__

QUEUE = 8192
"""Inputs waiting to be counted: a few seconds at the exchange's highest rate, a few megabytes."""

FOLD_EVERY_S = 0.1

FOLD_AT_ONCE = 16
"""Inputs counted before other tasks get a turn: about 70 us, by which an order may be delayed."""

FOLD_PAUSE_S = 0.001
"""Pause between two batches, so that an order is delayed by one batch at most."""

AWAITED = 4096
"""Unanswered orders, and unconfirmed fills, whose duration is being measured."""

LATEST = 40

Observation = tuple[int, JournaledInput, tuple[Effect, ...]] | tuple[int, Sequence[Outgoing]]
"""Unix nanoseconds, and an input with its effects, or messages that the broker confirmed."""


@attrs.define
class Monitor:
    """Counts and times what happens; ``status`` describes the present."""

    instrument: str
    clock: Clock
    can_control: bool = False
    metrics: Metrics = attrs.Factory(Metrics)
    _began_ns: int = attrs.field(init=False, default=0)
    """Time of the first input: a recording's clock has no time before it."""
    _state: TradeState | None = attrs.field(init=False, default=None)
    _queue: deque[Observation] = attrs.field(init=False, factory=lambda: deque(maxlen=QUEUE))
    _dropped: int = attrs.field(init=False, default=0)
    _sent_ns: OrderedDict[str, int] = attrs.field(init=False, factory=OrderedDict)
    _filled_ns: OrderedDict[str, int] = attrs.field(init=False, factory=OrderedDict)
    _acted: dict[Control, int] = attrs.field(init=False, factory=dict)
    _counts: dict[str, int] = attrs.field(init=False, factory=dict)
    _rejections: dict[str, int] = attrs.field(init=False, factory=dict)
    _latest: deque[RecentEvent] = attrs.field(init=False, factory=lambda: deque(maxlen=LATEST))
    _push_ns: int | None = attrs.field(init=False, default=None)
    _snapshot_ns: int | None = attrs.field(init=False, default=None)
    _latencies: dict[str, Latency] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Pair every histogram with its latest values."""
        metrics = self.metrics
        self._latencies = {
            "action_to_order": Latency(metrics.action_to_order),
            "order_to_ack": Latency(metrics.order_to_ack),
            "fill_to_publish": Latency(metrics.fill_to_publish),
            "broker_confirm": Latency(metrics.confirm),
            "journal_commit": Latency(metrics.commit),
            "loop_lag": Latency(metrics.loop_lag),
        }

    def observe(
        self, arrival: JournaledInput, effects: tuple[Effect, ...], state: TradeState
    ) -> None:
        """See ``tasks.trade_state.Observer``."""
        if state is not self._state:
            self._state, self._acted = state, dict(state.risk.acted)
            self._began_ns = self._began_ns or self.clock()
        if effects or arrival.kind is not Kind.TICK:
            self._put((self.clock(), arrival, effects))

    def _put(self, observation: Observation) -> None:
        self._dropped += len(self._queue) == QUEUE
        self._queue.append(observation)

    def committed(self, took_ns: int) -> None:
        """Record how long a commit took."""
        self._latencies["journal_commit"].record(took_ns)

    def confirmed(self, messages: Sequence[Outgoing], took_ns: int) -> None:
        """Record that the broker has confirmed messages, and how long that took."""
        self._latencies["broker_confirm"].record(took_ns)
        # Queued after the fills that caused the messages, which may not have been counted yet.
        self._put((self.clock(), messages))

    async def watch(self) -> None:
        """Count what was observed; ends only by cancellation."""
        while True:
            due = trio.current_time() + FOLD_EVERY_S
            await trio.sleep_until(due)
            self._latencies["loop_lag"].record(round((trio.current_time() - due) * 1e9))
            while self.fold():  # noqa: ASYNC110 - a pause, not a wait
                await trio.sleep(FOLD_PAUSE_S)

    def fold(self) -> bool:
        """Count some of what was observed; returns whether there is more."""
        for _ in range(min(FOLD_AT_ONCE, len(self._queue))):
            match self._queue.popleft():
                case (at_ns, arrival, effects):
                    self._count(at_ns, arrival, effects)
                case (at_ns, messages):
                    self._count_confirmed(at_ns, messages)
        if self._dropped:
            self.metrics.dropped.inc(self._dropped)
            self._dropped = 0
        self._count_controls()
        return bool(self._queue)

    def _count(self, at_ns: int, arrival: JournaledInput, effects: tuple[Effect, ...]) -> None:
        received_ns = None
        match arrival.kind:
            case Kind.ACTION:
                origin = msgspec.json.decode(arrival.context, type=DeliveryMetadata)
                self._plus("expired" if origin.expired else "actions")
                (self.metrics.expired if origin.expired else self.metrics.actions).inc()
                received_ns = origin.received_ns
            case Kind.PUSH:
                self._push_ns = at_ns
            case Kind.SNAPSHOT:
                self._snapshot_ns = at_ns
            case Kind.ORDER_ANSWER:
                for name in arrival.context.split():
                    if (sent_ns := self._sent_ns.pop(name, None)) is not None:
                        self._latencies["order_to_ack"].record(at_ns - sent_ns)
            case Kind.SESSION_UP:
                self._plus("sessions")
                self.metrics.sessions.inc()
            case Kind.SESSION_DOWN:
                self.metrics.losses.inc()
            case _:
                pass
        for effect in effects:
            self._count_effect(at_ns, effect, received_ns)

    def _count_effect(self, at_ns: int, effect: Effect, received_ns: int | None) -> None:
        match effect:
            case PlaceOrder(cl_ord_id=name):
                self._plus("orders")
                self.metrics.orders.inc()
                _remember(self._sent_ns, name, at_ns)
                if received_ns is not None:
                    self._latencies["action_to_order"].record(at_ns - received_ns)
            case CancelOrders(orders=orders):
                self._plus("cancels", len(orders))
                self.metrics.cancels.inc(len(orders))
            case PublishExecution(message_id=message_id, state_id=state_id, ord_id=ord_id):
                self._plus("executions")
                self.metrics.executions.inc()
                _remember(self._filled_ns, message_id, at_ns)
                self._add_event(at_ns, "execution", state_id, ord_id, self._filled(ord_id))
            case PublishClosure(message_id=message_id, state_id=state_id, ord_id=ord_id):
                self._plus("closures")
                self.metrics.closures.inc()
                _remember(self._filled_ns, message_id, at_ns)
                by = "" if effect.cause is Cause.AGENT else f", by {effect.cause.value}"
                text = f"reward {effect.reward:+.4f}, {len(effect.portions)} orders{by}"
                self._add_event(at_ns, "closure", state_id, ord_id, text)
            case PublishRejection(state_id=state_id, reason=reason, detail=detail):
                self._plus("rejections")
                self._rejections[reason.value] = self._rejections.get(reason.value, 0) + 1
                self.metrics.rejections.labels(reason.value).inc()
                self._add_event(at_ns, "rejection", state_id, None, f"{reason.value}: {detail}")
            case Alert(event=event, detail=detail):
                self._plus("alerts")
                self.metrics.alerts.labels(event).inc()
                self._add_event(at_ns, "alert", None, None, f"{event}: {detail}")
            case _:
                pass

    def _count_confirmed(self, at_ns: int, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            if (filled_ns := self._filled_ns.pop(message.message_id, None)) is not None:
                self._latencies["fill_to_publish"].record(at_ns - filled_ns)

    def _plus(self, what: str, number: int = 1) -> None:
        self._counts[what] = self._counts.get(what, 0) + number

    def _filled(self, ord_id: OrdId) -> str:
        order = None if self._state is None else self._state.orders.find(None, ord_id)
        if order is None or order.avg_fill_price is None:
            return ""
        at = round(order.avg_fill_price, 2)
        return f"{order.side.value} {order.filled_size} of {order.volume} at {at}"

    def _add_event(
        self, at_ns: int, kind: str, state_id: int | None, ord_id: str | None, text: str
    ) -> None:
        self._latest.append(RecentEvent(at_ns, kind, state_id, ord_id, text))

    def _count_controls(self) -> None:
        """Add what was counted since the last look: the state's counts outlive the process."""
        if self._state is None:
            return
        acted = dict(self._state.risk.acted)
        before, self._acted = self._acted, acted
        for control, count in acted.items():
            if (more := count - before.get(control, 0)) > 0:
                self.metrics.controls.labels(control.value).inc(more)

    def status(
        self,
        *,
        reasons: dict[str, str],
        okx_up: bool,
        broker_up: bool | None,
        dead_man_s: float | None,
        store: Store,
        unroutable: int = 0,
        replay: ReplayProgress | None = None,
    ) -> Status | None:
        """Return the present status, or None before the first input has been applied.

        The arguments are what the trading state does not know: why no action is taken, which
        connections are up, when the dead man's switch acts, what the journal holds.
        """
        state = self._state
        if state is None:
            return None
        now_ns = self.clock()
        return Status(
            version=__version__,
            instrument=self.instrument,
            at_ns=now_ns,
            uptime_s=round((now_ns - self._began_ns) / 1e9, 1),
            ready=not reasons,
            reasons=reasons,
            connections=Connections(
                okx=okx_up,
                broker=broker_up,
                sessions=self._counts.get("sessions", 0),
                push_age_s=_age_s(now_ns, self._push_ns),
                reconciled_age_s=_age_s(now_ns, self._snapshot_ns),
                unroutable=unroutable,
            ),
            balance=state.balance,
            position=position_of(state),
            trade=trade_of(state.book.trade, state.rules),
            orders=orders_of(state, now_ns),
            controls=controls_of(state, dead_man_s),
            store=store,
            latencies={name: latency.summary() for name, latency in self._latencies.items()},
            counts=dict(self._counts),
            rejections=dict(self._rejections),
            latest=tuple(reversed(self._latest)),
            can_control=self.can_control,
            replay=replay,
        )


def _remember(times: OrderedDict[str, int], name: str, at_ns: int) -> None:
    times[name] = at_ns
    if len(times) > AWAITED:
        times.popitem(last=False)


def _age_s(now_ns: int, then_ns: int | None) -> float | None:
    return None if then_ns is None else round(max(now_ns - then_ns, 0) / 1e9, 1)
