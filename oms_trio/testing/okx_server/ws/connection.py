"""The server's end of one WebSocket: frames in and out, and what may befall them on the way.

No I/O here: ``send`` takes what leaves, ``wake`` says that ``deadline`` came nearer, ``lose`` loses
the connection. Times are seconds of one monotonic clock, which ``time`` reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import msgspec

from oms_trio.settings.clock import Clock
from oms_trio.testing.okx_server.faults.behaviour import Faults
from oms_trio.testing.okx_server.ws.pushes import JsonObject

IDLE_S = 30.0
"""Without a frame in either direction for this long the server closes the connection."""

MAX_WAITING = 4096
"""Frames that wait on a slow or held link; with more the connection is given up."""

MAX_SUBSCRIBE = 65_536
"""The longest subscribe request in bytes."""

NEVER = float("inf")


@attrs.frozen
class Ending:
    """The server's end of the connection: a close frame with this code."""

    code: int
    reason: str


Frame = str | bytes | Ending


@attrs.define(eq=False)
class ServerConnection:
    """One connection; also what fault switches reach of it."""

    faults: Faults
    clock: Clock
    """The true time, by which switches set for a while end."""
    conn_id: str
    send: Callable[[Frame], None]
    wake: Callable[[], None]
    lose: Callable[[], None]
    time: Callable[[], float]
    _deaf: bool = attrs.field(default=False, init=False)
    _last_frame_s: float = attrs.field(init=False)
    _late: list[tuple[float, Frame]] = attrs.field(factory=list, init=False)
    """Frames that leave at their own time, overtaken by others: bounded by the faults struck."""
    _slow: deque[tuple[float, Frame]] = attrs.field(factory=deque, init=False)
    """Frames of a slow or held link, in order."""
    _unheard: deque[str | bytes] = attrs.field(factory=deque, init=False)
    """What came in over a held link."""

    def __attrs_post_init__(self) -> None:
        """Start the idle timer."""
        self._last_frame_s = self.time()

    # Time.

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        due = [due_s for due_s, _ in self._late]
        if self._slow or self._unheard:
            first_s = self._slow[0][0] if self._slow else 0.0
            due.append(max(first_s, self._held_until_s()))
        return min([self._last_frame_s + IDLE_S, *due])

    def on_time(self) -> None:
        """Send what is due, or close for silence."""
        now_s = self.time()
        self._release()
        due = [frame for due_s, frame in self._late if now_s >= due_s]
        self._late = [late for late in self._late if now_s < late[0]]
        for frame in due:
            self.emit(frame)
        if now_s >= self._last_frame_s + IDLE_S:
            self._last_frame_s = now_s  # a stalled server does not close, nor ask every instant
            self.emit(Ending(4004, "No data received in 30s."))

    # In.

    def hears(self, frame: str | bytes) -> bool:
        """Whether a frame of the client arrives; one on a held link arrives later (``heard``)."""
        self.faults.expire(self.clock())
        if self._deaf or self.faults.stalled:
            return False
        if self.faults.held or self._unheard:
            self._unheard.append(frame)
            self._keep_bound(len(self._unheard))
            self.wake()
            return False
        self._last_frame_s = self.time()
        return True

    def heard(self) -> list[str | bytes]:
        """Take the frames that a held link now lets through."""
        self.faults.expire(self.clock())
        if self.faults.held or not self._unheard:
            return []
        frames = list(self._unheard)
        self._unheard.clear()
        self._last_frame_s = self.time()
        return frames

    def read(self, frame: str | bytes) -> dict[str, object] | None:
        """Return a request, or answer what is none: a ping, or no JSON object."""
        if frame == "ping":
            self.emit("pong")
            return None
        try:
            request = msgspec.json.decode(frame, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeEncodeError):
            self.error("60012", f"Invalid request: {frame[:200]!r}", "")
            return None
        if request.get("op") == "subscribe" and len(frame) > MAX_SUBSCRIBE:
            self.error("60012", "Invalid request: too long", "")
            return None
        return request

    # Out.

    def push(self, frame: JsonObject) -> None:
        """Send one object."""
        self.emit(_json(frame))

    def push_late(self, frame: JsonObject, after_s: float) -> None:
        """Send one object later; others may overtake it."""
        self.emit_late(_json(frame), after_s)

    def event(self, event: str, name: str = "", **fields: object) -> None:
        """Send an event frame, with the ``id`` of the request when it had one."""
        start: JsonObject = {"id": name} if name else {}
        self.push(start | {"event": event} | fields | {"connId": self.conn_id})

    def error(self, code: str, msg: str, name: str) -> None:
        """Send an error event."""
        self.event("error", name, code=code, msg=msg)

    def emit_late(self, frame: Frame, after_s: float) -> None:
        """Send a frame later."""
        self._late.append((self.time() + after_s, frame))
        self.wake()

    def emit(self, frame: Frame) -> None:
        """Send a frame as well as the link is."""
        self.faults.expire(self.clock())
        if self._deaf or self.faults.stalled:
            return
        self._release()
        if self.faults.held or self.faults.frame_delay_s or self._slow:
            self._slow.append((self.time() + self.faults.frame_delay_s, frame))
            self._keep_bound(len(self._slow))
            self.wake()
            return
        self._leave(frame)

    # What faults do.

    def cut(self) -> None:
        """Lose the connection."""
        self.lose()

    def announce_upgrade(self, after_s: float) -> None:
        """Send notice 64008 and close ``after_s`` later."""
        msg = "The connection will soon be closed for a service upgrade. Please reconnect."
        self.event("notice", code="64008", msg=msg)
        self.emit_late(Ending(4006, "service upgrade"), after_s)

    def go_deaf(self) -> None:
        """Stay open, but hear and say nothing from here on."""
        self._deaf = True

    def close(self, code: int) -> None:
        """End with a close frame."""
        self.emit(Ending(code, "closed by the exchange"))

    def say(self, frame: str | bytes) -> None:
        """Send this, whatever it is."""
        self.emit(frame)

    def _held_until_s(self) -> float:
        self.faults.expire(self.clock())
        if not self.faults.held:
            return 0.0
        return self.time() + self.faults.left_s("held", self.clock())

    def _release(self) -> None:
        """Let frames of a slow link go whose time has come, first come first served."""
        self.faults.expire(self.clock())
        while self._slow and not self.faults.held and self.time() >= self._slow[0][0]:
            self._leave(self._slow.popleft()[1])

    def _leave(self, frame: Frame) -> None:
        self._last_frame_s = self.time()
        self.send(frame)

    def _keep_bound(self, waiting: int) -> None:
        if waiting > MAX_WAITING:
            self.lose()


def _json(frame: JsonObject) -> str:
    return msgspec.json.encode(frame).decode()
