"""The switches of every way in which the simulated exchange can misbehave.

Transports consult them at the few points where an exchange can go wrong; a test, a control call or
a seeded plan sets them. A counter is the number of times that a fault will still happen; every
other switch stays set until it is reset, or for a limited time (``set_for``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import attrs

Counter = Literal[
    "drop_acks",
    "cut_before_op",
    "cut_after_op",
    "drop_order_pushes",
    "drop_position_pushes",
    "drop_account_pushes",
    "repeat_order_pushes",
    "echo_order_pushes",
    "late_order_pushes",
    "late_position_pushes",
    "swap_order_pushes",
    "rest_failures",
    "lost_rest_answers",
]

Switch = Literal[
    "refuse_connections",
    "silence",
    "stall",
    "push_before_ack",
    "positions_first",
    "suspended",
    "ops_hang",
    "ops_hang_executed",
    "dead_subscriptions",
    "hide_risk_orders",
    "ack_delay_s",
    "push_delay_s",
    "frame_delay_s",
    "rest_delay_s",
    "rest_lag_ms",
    "rest_lag_only",
    "clock_skew_ms",
    "clock_drift_ppm",
    "rest_status",
    "time_ts",
    "query_code",
    "query_code_only",
    "foreign_order",
    "foreign_position",
    "foreign_fill",
]


class ConnectionFaults(Protocol):
    """What faults can do to one open connection."""

    def cut(self) -> None:
        """Lose the connection without a close frame, as a network does."""

    def announce_upgrade(self, after_s: float) -> None:
        """Send the notice of a service upgrade, and close the connection ``after_s`` later."""

    def become_half_open(self) -> None:
        """Stay open, but receive and send nothing from now on."""

    def close(self, code: int) -> None:
        """Close the connection with a close frame."""

    def send_raw(self, frame: str | bytes) -> None:
        """Send this frame, whatever it contains."""


@attrs.frozen
class ForcedAnswer:
    """The answer to a submit, whatever the submit contains.

    ``executed`` says whether the order is accepted all the same: with the codes of an unknown
    outcome (50001 50004 50026 51054 51149 64007) a client cannot know.
    """

    code: str
    executed: bool = False


@attrs.frozen
class RestAnswer:
    """What a REST call gets instead of its answer; ``executed`` says whether it takes effect."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    executed: bool = False


@attrs.frozen
class RowEdit:
    """A change to the first row of the next message of one kind: absurd or missing values.

    ``where`` is a channel of the private WebSocket (``orders``, ``positions``, ``account``) or a
    part of a REST path (``trade/fills``). ``fields`` has the form ``pos=-1e20,avgPx=``.
    """

    where: str
    fields: str

    def apply(self, row: dict[str, object]) -> dict[str, object]:
        """Return the changed row; a field of the per-currency ``details`` changes there."""
        changes = read_fields(self.fields)
        details = row.get("details")
        if isinstance(details, list) and details:
            inner = {key: value for key, value in changes.items() if key in details[0]}
            row = {**row, "details": [details[0] | inner, *details[1:]]}
            changes = {key: value for key, value in changes.items() if key not in inner}
        return {**row, **changes}


def covers(parts: str, path: str) -> bool:
    """Whether a path contains one of these comma-separated parts; "" covers every path."""
    return not parts or any(part and part in path for part in parts.split(","))


def read_fields(text: str) -> dict[str, str]:
    """Read ``name=value,name=value``.

    Raises:
        ValueError: a part has no ``=``.
    """
    parts = [part.partition("=") for part in text.split(",") if part]
    for name, equals, _ in parts:
        if not name or not equals:
            raise ValueError(f"expected name=value,name=value, not {text!r}")
    return {name: value for name, _, value in parts}


@attrs.define
class FaultSwitches:
    """The switches of one exchange and all of its connections; initially all are off."""

    refuse_connections: bool = False
    silence: bool = False
    """What arrives is discarded and nothing is sent, while connections stay open."""
    stall: bool = False
    """Frames of both directions wait, and go through in order when the stall ends."""
    push_before_ack: bool = False
    positions_first: bool = False
    """Orders pushes are sent after the positions push of the same match."""
    suspended: bool = False
    """The instrument is suspended: orders and amendments are rejected, cancellations accepted."""
    ops_hang: bool = False
    """WebSocket operations are read, but neither executed nor answered; pushes and pings work."""
    ops_hang_executed: bool = False
    """As ``ops_hang``, but operations are executed and cause their pushes."""
    dead_subscriptions: bool = False
    """Subscriptions are acknowledged, and after the last of them end in
    ``channel-conn-count-error``: nothing is ever pushed for them."""
    hide_risk_orders: int = 0
    """1: liquidation and ADL cause no orders push. 2: REST's lists of orders and fills omit them
    too, and only bills have them (see ``values.Visibility``)."""
    rate_limit_in_data: bool = False
    """A rate-limited operation is answered with ``sCode`` 50011 instead of the outer code."""
    ack_delay_s: float = 0.0
    push_delay_s: float = 0.2
    """The delay of pushes counted by ``late_order_pushes`` and ``late_position_pushes``."""
    frame_delay_s: float = 0.0
    """A slow link: every frame is sent this much later, in order."""
    rest_delay_s: float = 0.0
    """REST answers are sent this much later; the call takes effect at once."""
    rest_lag_ms: int = 0
    """REST returns orders, fills, bills, cash and position as they were this long ago, up to
    60 s."""
    rest_lag_only: str = ""
    """Only endpoints whose path contains one of these comma-separated parts lag; "" is all."""
    clock_skew_ms: int = 0
    """How far the exchange's clock is ahead of the true time; it steps when this changes."""
    clock_drift_ppm: int = 0
    """How much too fast the exchange's clock runs; what it has gained stays when this ends."""
    time_ts: str = ""
    """What ``/public/time`` returns instead of the time; "" is off."""
    query_code: str = ""
    """Every GET gets this code; "" is off."""
    query_code_only: str = ""
    """Only paths that contain one of these comma-separated parts get it; "" is all."""
    foreign_order: str = ""
    """The fields of one more order row, of an unknown owner, in every orders push and in REST's
    lists of orders, such as ``state=mystery,side=both``; "" is off."""
    foreign_position: str = ""
    """One more position row in every positions push and in REST's answer; "" is off."""
    foreign_fill: str = ""
    """One more fill row in REST's lists of fills; "" is off."""
    drop_acks: int = 0
    """Answers to WebSocket operations that are lost although the operation was executed."""
    cut_before_op: int = 0
    """Operations that lose the connection before they are executed: they never happen."""
    cut_after_op: int = 0
    """Operations that are executed and then lose the connection instead of an answer."""
    drop_order_pushes: int = 0
    drop_position_pushes: int = 0
    drop_account_pushes: int = 0
    repeat_order_pushes: int = 0
    """Pushes sent twice, the second time with a ``uTime`` one millisecond later."""
    echo_order_pushes: int = 0
    """Pushes sent twice, byte for byte the same."""
    late_order_pushes: int = 0
    """Pushes that everything sent within ``push_delay_s`` overtakes."""
    late_position_pushes: int = 0
    """Positions pushes that are late, when the position may already be another one."""
    swap_order_pushes: int = 0
    """Pushes that change places with the next orders push."""
    rest_status: int = 0
    """The HTTP status that every REST call gets, with an empty body; 0 is off."""
    rest_failures: int = 0
    """REST calls that get status 503 and an empty body, and take no effect."""
    lost_rest_answers: int = 0
    """POST calls that take effect and then lose the connection instead of an answer."""
    login_codes: deque[str] = attrs.field(factory=deque)
    """Codes with which the next logins are rejected."""
    submit_answers: deque[ForcedAnswer] = attrs.field(factory=deque)
    """Answers to the next submits (order and batch-orders, WebSocket and REST)."""
    order_rejections: deque[str] = attrs.field(factory=deque)
    """Codes (``sCode``) with which the next orders are rejected, one each."""
    rest_answers: deque[RestAnswer] = attrs.field(factory=deque)
    """Answers to the next REST calls."""
    edits: deque[RowEdit] = attrs.field(factory=deque)
    """Changes to the next rows, each used once, on the first message that it fits."""
    _connections: dict[int, ConnectionFaults] = attrs.field(factory=dict, init=False, repr=False)
    _ends_ns: dict[Switch, int] = attrs.field(factory=dict, init=False)

    @contextmanager
    def attached(self, connection: ConnectionFaults) -> Iterator[None]:
        """Let the methods below act on a connection while the block runs."""
        self._connections[id(connection)] = connection
        try:
            yield
        finally:
            del self._connections[id(connection)]

    @property
    def connections(self) -> list[ConnectionFaults]:
        """Every open connection, REST's included."""
        return list(self._connections.values())

    def cut(self) -> None:
        """Lose every open connection, REST's included."""
        for connection in self.connections:
            connection.cut()

    def announce_upgrade(self, after_s: float = 60.0) -> None:
        """Send notice 64008 to every open WebSocket, and close it ``after_s`` later."""
        for connection in self.connections:
            connection.announce_upgrade(after_s)

    def half_open(self) -> None:
        """Let every open WebSocket receive and send nothing any more; new ones are not affected."""
        for connection in self.connections:
            connection.become_half_open()

    def close(self, code: int) -> None:
        """Close every open WebSocket with a close frame."""
        for connection in self.connections:
            connection.close(code)

    def send_raw(self, frame: str | bytes) -> None:
        """Send a frame, valid or not, to every open WebSocket."""
        for connection in self.connections:
            connection.send_raw(frame)

    def answer_submits(self, code: str, times: int = 1, *, executed: bool = False) -> None:
        """Answer the next ``times`` submits with ``code``."""
        self.submit_answers.extend([ForcedAnswer(code, executed)] * times)

    def next_submit_answer(self) -> ForcedAnswer | None:
        """Remove and return the answer that is forced on the next submit, if any."""
        return self.submit_answers.popleft() if self.submit_answers else None

    def apply_edit(self, where: str, rows: list[dict[str, object]]) -> list[dict[str, object]]:
        """Return the rows of a push (by channel) or of a REST answer (by path) as they are sent."""
        for edit in self.edits:
            if rows and (edit.where == where or ("/" in edit.where and edit.where in where)):
                self.edits.remove(edit)
                return [edit.apply(rows[0]), *rows[1:]]
        return rows

    def consume(self, switch: Counter) -> bool:
        """Whether a counted fault happens now; if so, count it down."""
        left: int = getattr(self, switch)
        if left:
            setattr(self, switch, left - 1)
        return left > 0

    def set_for(self, switch: Switch, value: float | str, until_ns: int | None = None) -> None:
        """Set a switch until this true time, or until it is reset."""
        setattr(self, switch, value)
        self._ends_ns.pop(switch, None)
        if until_ns is not None:
            self._ends_ns[switch] = until_ns

    def expire(self, now_ns: int) -> None:
        """Reset the switches whose time is over; to be called before switches are read."""
        if not self._ends_ns:
            return
        for switch in [name for name, end_ns in self._ends_ns.items() if now_ns >= end_ns]:
            del self._ends_ns[switch]
            setattr(self, switch, getattr(_OFF, switch))

    def remaining_s(self, switch: Switch, now_ns: int) -> float:
        """Return how many seconds a switch stays set; infinity when it was set without an end."""
        end_ns = self._ends_ns.get(switch)
        return float("inf") if end_ns is None else max(0.0, (end_ns - now_ns) / 1e9)

    def clear(self) -> None:
        """Reset every switch; connections that are lost or half-open stay so."""
        self._ends_ns.clear()
        for name in self.switches():
            setattr(self, name, getattr(_OFF, name))
        self.login_codes.clear()
        self.submit_answers.clear()
        self.order_rejections.clear()
        self.rest_answers.clear()
        self.edits.clear()

    def switches(self) -> dict[str, float | str]:
        """Return every plain switch and counter with its value."""
        return {
            field.name: getattr(self, field.name)
            for field in attrs.fields(FaultSwitches)
            if isinstance(field.default, (bool, int, float, str))
        }


_OFF = FaultSwitches()
