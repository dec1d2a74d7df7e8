"""The ways in which the simulated exchange misbehaves on request.

Transports ask at the few points where an exchange can go wrong; a test, a control call or a plan
drawn from a seed sets the switches. Counters say how many times more a fault happens; the other
switches stay until they are put back, or for a while (``set_for``).
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
    "miss_order_pushes",
    "miss_position_pushes",
    "miss_account_pushes",
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
    "stalled",
    "held",
    "push_before_ack",
    "positions_first",
    "suspended",
    "ops_hang",
    "ops_hang_executed",
    "dead_subscriptions",
    "quiet_risk_orders",
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


class Connection(Protocol):
    """What faults can do to one open connection."""

    def cut(self) -> None:
        """Lose the connection without a word, as a network does."""

    def announce_upgrade(self, after_s: float) -> None:
        """Tell that the connection closes for an upgrade, and close it after ``after_s``."""

    def go_deaf(self) -> None:
        """Stay open, but hear and say nothing from here on."""

    def close(self, code: int) -> None:
        """End with a close frame."""

    def say(self, frame: str | bytes) -> None:
        """Send this, whatever it is."""


@attrs.frozen
class ForcedAnswer:
    """An answer to a submit regardless of what it asked.

    ``executed`` says whether the order was booked all the same: with the codes of an unknown
    outcome (50001 50004 50026 51054 51149 64007) a client cannot tell.
    """

    code: str
    executed: bool = False


@attrs.frozen
class RestAnswer:
    """What a REST call gets instead of its answer; ``executed`` says whether it had its effect."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    executed: bool = False


@attrs.frozen
class Edit:
    """A change of the first row of the next message of one kind: absurd values, missing texts.

    ``where`` is a channel of the private WebSocket (``orders``, ``positions``, ``account``) or a
    part of a REST path (``trade/fills``). ``fields`` reads like ``pos=-1e20,avgPx=``.
    """

    where: str
    fields: str

    def apply(self, row: dict[str, object]) -> dict[str, object]:
        """Return the row with the fields changed; those of a currency go to the first one."""
        changes = read_fields(self.fields)
        details = row.get("details")
        if isinstance(details, list) and details:
            inner = {key: value for key, value in changes.items() if key in details[0]}
            row = {**row, "details": [details[0] | inner, *details[1:]]}
            changes = {key: value for key, value in changes.items() if key not in inner}
        return {**row, **changes}


def covers(parts: str, path: str) -> bool:
    """Whether a path has one of these comma-separated parts; "" covers every path."""
    return not parts or any(part and part in path for part in parts.split(","))


def read_fields(text: str) -> dict[str, str]:
    """Read ``name=value,name=value``.

    Raises:
        ValueError: a part has no ``=``.
    """
    parts = [part.partition("=") for part in text.split(",") if part]
    for name, equals, _ in parts:
        if not name or not equals:
            raise ValueError(f"{text!r} must be like name=value,name=value")
    return {name: value for name, _, value in parts}


@attrs.define
class Faults:
    """Switches, all off. One object serves every connection of one exchange."""

    refuse_connections: bool = False
    stalled: bool = False
    """Silence: bytes are taken, nothing is done with them, nothing is sent."""
    held: bool = False
    """A stall: frames of both directions wait, and go through in order when it is over."""
    push_before_ack: bool = False
    positions_first: bool = False
    """Orders pushes wait until the positions push of the same match is out."""
    suspended: bool = False
    """The instrument is suspended: no new order, no amendment; cancels are done."""
    ops_hang: bool = False
    """A half-dead gateway: WebSocket operations are read, never answered and not executed."""
    ops_hang_executed: bool = False
    """As ``ops_hang``, but operations are executed, and their pushes come."""
    dead_subscriptions: bool = False
    """Subscriptions are acknowledged and then, after the last of them, end in
    ``channel-conn-count-error``: nothing is ever pushed for them."""
    quiet_risk_orders: int = 0
    """1: liquidation and ADL change the position without an orders push. 2: REST's lists of
    orders and fills do not have them either, only bills (see ``values.Reported``)."""
    rate_limit_in_data: bool = False
    """A rate-limited operation is answered by ``sCode`` 50011 instead of the outer code."""
    ack_delay_s: float = 0.0
    push_delay_s: float = 0.2
    """How late the pushes counted by ``late_order_pushes`` and ``late_position_pushes`` are."""
    frame_delay_s: float = 0.0
    """A slow link: every frame leaves this much later, in order."""
    rest_delay_s: float = 0.0
    """REST answers leave this much later; the call has its effect at once."""
    rest_lag_ms: int = 0
    """REST tells of orders, fills, bills, cash and position as they were this long ago, up to
    60 s."""
    rest_lag_only: str = ""
    """Only endpoints whose path has one of these comma-separated parts lag; "" is all of them."""
    clock_skew_ms: int = 0
    """How far the exchange's clock is ahead of the true time: a step when it changes."""
    clock_drift_ppm: int = 0
    """How much faster the exchange's clock goes; what it has gained so stays when this ends."""
    time_ts: str = ""
    """What ``/public/time`` tells instead of the time; "" is off."""
    query_code: str = ""
    """Every GET gets this code; "" is off."""
    query_code_only: str = ""
    """Only paths that have one of these comma-separated parts get it; "" is all of them."""
    foreign_order: str = ""
    """One more order row, of nobody here, in every orders push and in REST's lists of orders; its
    fields like ``state=mystery,side=both``; "" is off."""
    foreign_position: str = ""
    """One more position row in every positions push and in REST's answer; "" is off."""
    foreign_fill: str = ""
    """One more fill row in REST's lists of fills; "" is off."""
    drop_acks: int = 0
    """Answers to WebSocket operations that are lost after the operation was carried out."""
    cut_before_op: int = 0
    """Operations before whose execution the socket is lost: they never happen."""
    cut_after_op: int = 0
    """Operations after whose execution the socket is lost instead of an answer."""
    miss_order_pushes: int = 0
    miss_position_pushes: int = 0
    miss_account_pushes: int = 0
    repeat_order_pushes: int = 0
    """Pushes told a second time with a ``uTime`` one millisecond later."""
    echo_order_pushes: int = 0
    """Pushes told a second time, the same to the letter."""
    late_order_pushes: int = 0
    """Pushes that are overtaken by whatever comes within ``push_delay_s``."""
    late_position_pushes: int = 0
    """Positions pushes that come when the position may be another one."""
    swap_order_pushes: int = 0
    """Pushes that change places with the next orders push."""
    rest_status: int = 0
    """HTTP status that every REST call gets, with an empty body; 0 is off."""
    rest_failures: int = 0
    """REST calls that get status 503 and an empty body, and have no effect."""
    lost_rest_answers: int = 0
    """POST calls that have their effect and then lose the connection instead of an answer."""
    login_codes: deque[str] = attrs.field(factory=deque)
    """Codes that refuse the next logins."""
    submit_answers: deque[ForcedAnswer] = attrs.field(factory=deque)
    """Answers to the next submits (order and batch-orders, WebSocket and REST)."""
    order_refusals: deque[str] = attrs.field(factory=deque)
    """Codes (``sCode``) that refuse the next orders one by one."""
    rest_answers: deque[RestAnswer] = attrs.field(factory=deque)
    """Answers to the next REST calls."""
    edits: deque[Edit] = attrs.field(factory=deque)
    """Changes of the next rows, each used once, by the first message that it fits."""
    _connections: dict[int, Connection] = attrs.field(factory=dict, init=False, repr=False)
    _ends_ns: dict[Switch, int] = attrs.field(factory=dict, init=False)

    @contextmanager
    def watching(self, connection: Connection) -> Iterator[None]:
        """Make a connection reachable for the calls below while it is open."""
        self._connections[id(connection)] = connection
        try:
            yield
        finally:
            del self._connections[id(connection)]

    @property
    def connections(self) -> list[Connection]:
        """Every open connection, REST's included."""
        return list(self._connections.values())

    def cut(self) -> None:
        """Lose every open connection, REST's included."""
        for connection in self.connections:
            connection.cut()

    def announce_upgrade(self, after_s: float = 60.0) -> None:
        """Send notice 64008 to every WebSocket open now, and close it ``after_s`` later."""
        for connection in self.connections:
            connection.announce_upgrade(after_s)

    def half_open(self) -> None:
        """Make every WebSocket open now deaf and mute for good; new ones are well."""
        for connection in self.connections:
            connection.go_deaf()

    def close(self, code: int) -> None:
        """Close every open WebSocket by a close frame."""
        for connection in self.connections:
            connection.close(code)

    def say(self, frame: str | bytes) -> None:
        """Send a frame that means nothing, or nothing good, to every open WebSocket."""
        for connection in self.connections:
            connection.say(frame)

    def answer_submits(self, code: str, times: int = 1, *, executed: bool = False) -> None:
        """Answer the next ``times`` submits with ``code``."""
        self.submit_answers.extend([ForcedAnswer(code, executed)] * times)

    def next_submit_answer(self) -> ForcedAnswer | None:
        """Take the answer forced on the next submit, if any."""
        return self.submit_answers.popleft() if self.submit_answers else None

    def edited(self, where: str, rows: list[dict[str, object]]) -> list[dict[str, object]]:
        """Return the rows of a push (its channel) or of a REST answer (its path) as told."""
        for edit in self.edits:
            if rows and (edit.where == where or ("/" in edit.where and edit.where in where)):
                self.edits.remove(edit)
                return [edit.apply(rows[0]), *rows[1:]]
        return rows

    def use_up(self, switch: Counter) -> bool:
        """Whether this counted fault happens now; it happens once less from here on."""
        left: int = getattr(self, switch)
        if left:
            setattr(self, switch, left - 1)
        return left > 0

    def set_for(self, switch: Switch, value: float | str, until_ns: int | None = None) -> None:
        """Set a switch until this time of the true clock, or until it is put back."""
        setattr(self, switch, value)
        self._ends_ns.pop(switch, None)
        if until_ns is not None:
            self._ends_ns[switch] = until_ns

    def expire(self, now_ns: int) -> None:
        """Put back the switches whose time is over; transports call this before they look."""
        if not self._ends_ns:
            return
        for switch in [name for name, end_ns in self._ends_ns.items() if now_ns >= end_ns]:
            del self._ends_ns[switch]
            setattr(self, switch, getattr(_OFF, switch))

    def left_s(self, switch: Switch, now_ns: int) -> float:
        """Return how long a switch stays, in seconds; infinity when it was set without an end."""
        end_ns = self._ends_ns.get(switch)
        return float("inf") if end_ns is None else max(0.0, (end_ns - now_ns) / 1e9)

    def calm(self) -> None:
        """Put every switch back; connections that are lost or deaf stay so."""
        self._ends_ns.clear()
        for name in self.switches():
            setattr(self, name, getattr(_OFF, name))
        self.login_codes.clear()
        self.submit_answers.clear()
        self.order_refusals.clear()
        self.rest_answers.clear()
        self.edits.clear()

    def switches(self) -> dict[str, float | str]:
        """Return every plain switch and counter with its value."""
        return {
            field.name: getattr(self, field.name)
            for field in attrs.fields(Faults)
            if isinstance(field.default, (bool, int, float, str))
        }


_OFF = Faults()
