"""The Prometheus metrics, whose names are stable.

They are in a registry of their own, not the global one, so that services in one process do not mix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from oms_trio.core.model import RejectReason
from oms_trio.core.risk import Control
from oms_trio.ops.status import Status
from oms_trio.service.intake_gate import ROW
from oms_trio.version import __version__

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Decisions take tens of microseconds, round trips to the exchange tens of milliseconds, waits some
# seconds: three buckets a decade cover all of them.
_BUCKETS: Final = (
    *(float(f"{step}e{power}") for power in range(-5, 1) for step in (1, 2, 5)),
    10.0,
)


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, namespace="oms", registry=registry)


def _histogram(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Histogram:
    return Histogram(name, text, labels, namespace="oms", registry=registry, buckets=_BUCKETS)


Number = float | int | Decimal | None

# Name, meaning, and where it is in the status; unknown values are NaN.
_GAUGES: Final[tuple[tuple[str, str, Callable[[Status], Number]], ...]] = (
    ("ready", "1 while actions are taken.", lambda now: now.ready),
    ("okx_up", "1 while a session with the exchange is up.", lambda now: now.connections.okx),
    ("broker_up", "1 while the broker is connected.", lambda now: now.connections.broker),
    ("paused", "1 while trading is paused.", lambda now: now.controls.paused is not None),
    (
        "flattening",
        "1 while the operator's flatten command is closing the position.",
        lambda now: now.controls.flattening,
    ),
    ("position_contracts", "Net position: the sum of our fills.", lambda now: now.position.ours),
    (
        "exchange_position_contracts",
        "Net position that the exchange last reported.",
        lambda now: now.position.exchange,
    ),
    (
        "position_mismatch",
        "1 while the exchange's position is not the sum of our fills.",
        lambda now: not now.position.matches,
    ),
    (
        "row_unreadable",
        "1 while a row of ours on the exchange cannot be read.",
        lambda now: ROW in now.reasons,
    ),
    ("balance_usdt", "Cash balance.", lambda now: now.balance),
    (
        "lost_today_usdt",
        "Cash lost since the UTC day began, or since trading was last resumed.",
        lambda now: now.controls.lost_today,
    ),
    ("mark_price_usdt", "Latest mark price.", lambda now: now.position.mark_px),
    ("upl_ratio", "Unrealised profit over margin.", lambda now: now.position.upl_ratio),
    (
        "trade_max_drawdown_ratio",
        "Drawdown of the open trade, 0 or below.",
        lambda now: 0.0 if now.trade is None else now.trade.max_drawdown,
    ),
    ("open_orders", "Open orders.", lambda now: now.orders.open),
    ("unknown_orders", "Orders whose outcome is unknown.", lambda now: now.orders.unknown),
    (
        "cancelling_orders",
        "Open orders with a cancel request.",
        lambda now: now.orders.cancelling,
    ),
    (
        "outbox_messages",
        "Messages that the broker has not confirmed.",
        lambda now: now.store.outbox,
    ),
    ("journal_seq", "Sequence number of the journal's last record.", lambda now: now.store.seq),
    (
        "last_push_age_seconds",
        "Seconds since the last push.",
        lambda now: now.connections.push_age_s,
    ),
    (
        "last_reconciliation_age_seconds",
        "Seconds since the last snapshot of the exchange's state.",
        lambda now: now.connections.reconciled_age_s,
    ),
    (
        "dead_man_seconds",
        "Seconds until the exchange cancels our orders unless the timer is restarted.",
        lambda now: now.controls.dead_man_s,
    ),
    ("uptime_seconds", "Seconds since the service started.", lambda now: now.uptime_s),
    (
        "replay",
        "1 during the replay of a recording: nothing is traded.",
        lambda now: now.replay is not None,
    ),
)


class Metrics:
    """Counters and histograms are updated as things happen; gauges when the metrics are read."""

    def __init__(self) -> None:
        registry = CollectorRegistry(auto_describe=True)
        self.registry = registry
        ProcessCollector(registry=registry)
        build = Gauge("oms_build_info", "Always 1.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self.actions = _counter(registry, "actions", "Actions taken from the queue.")
        self.expired = _counter(registry, "actions_expired", "Actions that expired in the queue.")
        self.unroutable = _counter(
            registry, "unroutable_messages", "Messages to the agent for which no queue was bound."
        )
        self.orders = _counter(registry, "orders", "Orders decided, repeats included.")
        self.cancels = _counter(registry, "cancels", "Cancel requests, one for each order.")
        self.rejections = _counter(registry, "rejections", "Actions rejected.", "reason")
        self.executions = _counter(registry, "executions", "Executions published to the agent.")
        self.closures = _counter(registry, "closures", "Trades closed.")
        self.alerts = _counter(
            registry, "alerts", "Alerts: events that a person must look at.", "event"
        )
        self.sessions = _counter(registry, "okx_sessions", "Sessions that came up.")
        self.losses = _counter(registry, "okx_sessions_lost", "Sessions that were lost.")
        self.dropped = _counter(
            registry, "monitor_dropped", "Inputs dropped by the monitor: other counters miss them."
        )
        self.controls = _counter(
            registry, "controls_tripped", "Rejections and pauses by risk controls.", "control"
        )
        for control in Control:
            self.controls.labels(control.value)
        for reason in RejectReason:  # a rate needs a first sample of 0
            self.rejections.labels(reason.value)
        self._unroutable = 0
        self.action_to_order = _histogram(
            registry, "action_to_order_seconds", "From an action's receipt to its order's decision."
        )
        self.order_to_ack = _histogram(
            registry, "order_to_ack_seconds", "From an order's decision to the exchange's answer."
        )
        self.fill_to_publish = _histogram(
            registry,
            "fill_to_publish_seconds",
            "From a fill to the broker's confirm of its message.",
        )
        self.confirm = _histogram(
            registry, "broker_confirm_seconds", "From publishing to the broker's confirms."
        )
        self.commit = _histogram(
            registry, "journal_commit_seconds", "Making inputs durable: one transaction, one fsync."
        )
        self.loop_lag = _histogram(
            registry, "loop_lag_seconds", "Delay of a task that wanted to wake up."
        )
        self._gauges = [
            (Gauge(name, text, namespace="oms", registry=registry), read)
            for name, text, read in _GAUGES
        ]

    def exposition(self, status: Status) -> bytes:
        """Return all metrics in Prometheus' text format, with the gauges of ``status``."""
        for gauge, read in self._gauges:
            value = read(status)
            gauge.set(math.nan if value is None else float(value))
        more, self._unroutable = (
            status.connections.unroutable - self._unroutable,
            status.connections.unroutable,
        )
        self.unroutable.inc(max(more, 0))
        return generate_latest(self.registry)
