"""The ways in which the simulated exchange misbehaves on request.

Transports ask at the few points where an exchange can go wrong; a test, or a plan drawn from a
seed, sets the switches. Counters say how many times more a fault happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import attrs

Counter = Literal[
    "drop_acks", "cut_after_op", "miss_order_pushes", "repeat_order_pushes", "rest_failures"
]


class Connection(Protocol):
    """What faults can do to one open connection."""

    def cut(self) -> None:
        """Lose the connection without a word, as a network does."""

    def announce_upgrade(self, after_s: float) -> None:
        """Tell that the connection closes for an upgrade, and close it after ``after_s``."""


@attrs.frozen
class ForcedAnswer:
    """An answer to a submit regardless of what it asked.

    ``executed`` says whether the order was booked all the same: with the codes of an unknown
    outcome (50001 50004 50026 51054 51149 64007) a client cannot tell.
    """

    code: str
    executed: bool = False


@attrs.define
class Faults:
    """Switches, all off. One object serves every connection of one exchange."""

    refuse_connections: bool = False
    stalled: bool = False
    """Half-open: bytes are taken, nothing is done with them, nothing is sent."""
    push_before_ack: bool = False
    ack_delay_s: float = 0.0
    drop_acks: int = 0
    """Answers to WebSocket operations that are lost after the operation was carried out."""
    cut_after_op: int = 0
    """Operations after whose execution the socket is lost instead of an answer."""
    miss_order_pushes: int = 0
    repeat_order_pushes: int = 0
    """Pushes told a second time with a ``uTime`` one millisecond later."""
    rest_status: int = 0
    """HTTP status that every REST call gets, with an empty body; 0 is off."""
    rest_failures: int = 0
    """REST calls that get status 503 and an empty body, and have no effect."""
    login_codes: deque[str] = attrs.field(factory=deque)
    """Codes that refuse the next logins."""
    submit_answers: deque[ForcedAnswer] = attrs.field(factory=deque)
    """Answers to the next submits (order and batch-orders, WebSocket and REST)."""
    _connections: dict[int, Connection] = attrs.field(factory=dict, init=False, repr=False)

    @contextmanager
    def watching(self, connection: Connection) -> Iterator[None]:
        """Make a connection reachable for ``cut`` and ``announce_upgrade`` while it is open."""
        self._connections[id(connection)] = connection
        try:
            yield
        finally:
            del self._connections[id(connection)]

    def cut(self) -> None:
        """Lose every open connection, REST's included."""
        for connection in list(self._connections.values()):
            connection.cut()

    def announce_upgrade(self, after_s: float = 60.0) -> None:
        """Send notice 64008 to every WebSocket open now, and close it ``after_s`` later."""
        for connection in list(self._connections.values()):
            connection.announce_upgrade(after_s)

    def answer_submits(self, code: str, times: int = 1, *, executed: bool = False) -> None:
        """Answer the next ``times`` submits with ``code``."""
        self.submit_answers.extend([ForcedAnswer(code, executed)] * times)

    def next_submit_answer(self) -> ForcedAnswer | None:
        """Take the answer forced on the next submit, if any."""
        return self.submit_answers.popleft() if self.submit_answers else None

    def use_up(self, switch: Counter) -> bool:
        """Whether this counted fault happens now; it happens once less from here on."""
        left: int = getattr(self, switch)
        if left:
            setattr(self, switch, left - 1)
        return left > 0
