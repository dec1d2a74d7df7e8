"""Watches the service without holding it up.

The writer's only cost is an append to a bounded queue. A task of its own counts what is in there,
and reads the state between two turns of the writer; when more comes than it can take, the oldest
is dropped and counted, and nobody waits.
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
    Event,
    Links,
    Replay,
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
"""Inputs that wait to be counted: some seconds of the exchange's fastest, some megabytes."""

FOLD_EVERY_S = 0.1

FOLD_AT_ONCE = 16
"""Inputs counted before others get their turn: some 70 us, which an order may have to wait."""

FOLD_PAUSE_S = 0.001
"""So that an order meets one such part at most: in one go they would be in each of its rounds."""

AWAITED = 4096
"""Orders without an answer and fills without a confirm whose time is being taken."""

LATEST = 40

Seen = tuple[int, JournaledInput, tuple[Effect, ...]] | tuple[int, Sequence[Outgoing]]
"""When (Unix nanoseconds), and what: an input with its effects, or messages that are confirmed."""


@attrs.define
class Monitor:
    """Counts, times and remembers; ``status`` says how things are now."""

    instrument: str
    clock: Clock
    can_control: bool = False
    metrics: Metrics = attrs.Factory(Metrics)
    _began_ns: int = attrs.field(init=False, default=0)
    """When the first input was taken in: for a clock of a recording there is no time before."""
    _state: TradeState | None = attrs.field(init=False, default=None)
    _queue: deque[Seen] = attrs.field(init=False, factory=lambda: deque(maxlen=QUEUE))
    _dropped: int = attrs.field(init=False, default=0)
    _sent_ns: OrderedDict[str, int] = attrs.field(init=False, factory=OrderedDict)
    _filled_ns: OrderedDict[str, int] = attrs.field(init=False, factory=OrderedDict)
    _acted: dict[Control, int] = attrs.field(init=False, factory=dict)
    _counts: dict[str, int] = attrs.field(init=False, factory=dict)
    _refusals: dict[str, int] = attrs.field(init=False, factory=dict)
    _latest: deque[Event] = attrs.field(init=False, factory=lambda: deque(maxlen=LATEST))
    _push_ns: int | None = attrs.field(init=False, default=None)
    _snapshot_ns: int | None = attrs.field(init=False, default=None)
    _latencies: dict[str, Latency] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Give every histogram its latest values."""
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

    def _put(self, seen: Seen) -> None:
        self._dropped += len(self._queue) == QUEUE
        self._queue.append(seen)

    def committed(self, took_ns: int) -> None:
        """Note how long a commit took."""
        self._latencies["journal_commit"].note(took_ns)

    def confirmed(self, messages: Sequence[Outgoing], took_ns: int) -> None:
        """Note that the broker has confirmed messages, and how long it took for it."""
        self._latencies["broker_confirm"].note(took_ns)
        # Behind the fills that are told: they may not be counted yet.
        self._put((self.clock(), messages))

    async def watch(self) -> None:
        """Count what was observed, for ever; ends only by cancellation."""
        while True:
            due = trio.current_time() + FOLD_EVERY_S
            await trio.sleep_until(due)
            self._latencies["loop_lag"].note(round((trio.current_time() - due) * 1e9))
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
                        self._latencies["order_to_ack"].note(at_ns - sent_ns)
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
                _await(self._sent_ns, name, at_ns)
                if received_ns is not None:
                    self._latencies["action_to_order"].note(at_ns - received_ns)
            case CancelOrders(orders=orders):
                self._plus("cancels", len(orders))
                self.metrics.cancels.inc(len(orders))
            case PublishExecution(message_id=message_id, state_id=state_id, ord_id=ord_id):
                self._plus("executions")
                self.metrics.executions.inc()
                _await(self._filled_ns, message_id, at_ns)
                self._tell(at_ns, "execution", state_id, ord_id, self._filled(ord_id))
            case PublishClosure(message_id=message_id, state_id=state_id, ord_id=ord_id):
                self._plus("closures")
                self.metrics.closures.inc()
                _await(self._filled_ns, message_id, at_ns)
                by = "" if effect.cause is Cause.AGENT else f", by {effect.cause.value}"
                text = f"reward {effect.reward:+.4f}, {len(effect.portions)} orders{by}"
                self._tell(at_ns, "closure", state_id, ord_id, text)
            case PublishRejection(state_id=state_id, reason=reason, detail=detail):
                self._plus("refusals")
                self._refusals[reason.value] = self._refusals.get(reason.value, 0) + 1
                self.metrics.refusals.labels(reason.value).inc()
                self._tell(at_ns, "refusal", state_id, None, f"{reason.value}: {detail}")
            case Alert(event=event, detail=detail):
                self._plus("alerts")
                self.metrics.alerts.labels(event).inc()
                self._tell(at_ns, "alert", None, None, f"{event}: {detail}")
            case _:
                pass

    def _count_confirmed(self, at_ns: int, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            if (filled_ns := self._filled_ns.pop(message.message_id, None)) is not None:
                self._latencies["fill_to_publish"].note(at_ns - filled_ns)

    def _plus(self, what: str, number: int = 1) -> None:
        self._counts[what] = self._counts.get(what, 0) + number

    def _filled(self, ord_id: OrdId) -> str:
        order = None if self._state is None else self._state.orders.find(None, ord_id)
        if order is None or order.avg_fill_price is None:
            return ""
        at = round(order.avg_fill_price, 2)
        return f"{order.side.value} {order.filled_size} of {order.volume} at {at}"

    def _tell(
        self, at_ns: int, kind: str, state_id: int | None, ord_id: str | None, text: str
    ) -> None:
        self._latest.append(Event(at_ns, kind, state_id, ord_id, text))

    def _count_controls(self) -> None:
        """Count from the start of this process, as counters do; the state counts for ever."""
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
        replay: Replay | None = None,
    ) -> Status | None:
        """Say how everything is; None before the first input.

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
            links=Links(
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
            latencies={name: latency.spread() for name, latency in self._latencies.items()},
            counts=dict(self._counts),
            refusals=dict(self._refusals),
            latest=tuple(reversed(self._latest)),
            can_control=self.can_control,
            replay=replay,
        )


def _await(times: OrderedDict[str, int], name: str, at_ns: int) -> None:
    times[name] = at_ns
    if len(times) > AWAITED:
        times.popitem(last=False)


def _age_s(now_ns: int, then_ns: int | None) -> float | None:
    return None if then_ns is None else round(max(now_ns - then_ns, 0) / 1e9, 1)
