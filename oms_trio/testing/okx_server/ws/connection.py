"""The server's end of one WebSocket: frames in and out, and the faults of the link between.

There is no I/O here: ``send`` sends a frame, ``wake`` announces an earlier ``deadline``, ``lose``
aborts the connection. Times are seconds of the monotonic clock that ``time`` reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import attrs
import msgspec

from oms_trio.testing.okx_server.clock import Clock
from oms_trio.testing.okx_server.faults.switches import FaultSwitches
from oms_trio.testing.okx_server.values import JsonObject

IDLE_S = 30.0
"""The server closes a connection that has no frame in either direction for this long."""

MAX_WAITING = 4096
"""How many frames may wait on a slow or stalled link before the connection is aborted."""

MAX_SUBSCRIBE = 65_536
"""The maximum size of a subscribe request in bytes."""

NEVER = float("inf")


@attrs.frozen
class CloseFrame:
    """A close frame with this code, after which the server ends the connection."""

    code: int
    reason: str


Frame = str | bytes | CloseFrame


@attrs.define(eq=False)
class ServerConnection:
    """One connection; it implements ``ConnectionFaults``."""

    faults: FaultSwitches
    clock: Clock
    """The true time, by which fault switches expire."""
    conn_id: str
    send: Callable[[Frame], None]
    wake: Callable[[], None]
    lose: Callable[[], None]
    time: Callable[[], float]
    _half_open: bool = attrs.field(default=False, init=False)
    _last_frame_s: float = attrs.field(init=False)
    _delayed: list[tuple[float, Frame]] = attrs.field(factory=list, init=False)
    """Frames that are sent at a time of their own, while others overtake them."""
    _queued: deque[tuple[float, Frame]] = attrs.field(factory=deque, init=False)
    """Frames to send over a slow or stalled link, in order."""
    _incoming: deque[str | bytes] = attrs.field(factory=deque, init=False)
    """Frames received over a stalled link."""

    def __attrs_post_init__(self) -> None:
        """Start the idle timer."""
        self._last_frame_s = self.time()

    # Time.

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        due = [due_s for due_s, _ in self._delayed]
        if self._queued or self._incoming:
            first_s = self._queued[0][0] if self._queued else 0.0
            due.append(max(first_s, self._stalled_until_s()))
        return min([self._last_frame_s + IDLE_S, *due])

    def on_time(self) -> None:
        """Send what is due, or close the idle connection."""
        now_s = self.time()
        self._send_due()
        due = [frame for due_s, frame in self._delayed if now_s >= due_s]
        self._delayed = [delayed for delayed in self._delayed if now_s < delayed[0]]
        for frame in due:
            self.emit(frame)
        if now_s >= self._last_frame_s + IDLE_S:
            self._last_frame_s = now_s  # while frames are lost or wait, try again after as long
            self.emit(CloseFrame(4004, "No data received in 30s."))

    # In.

    def accepts(self, frame: str | bytes) -> bool:
        """Whether a frame of the client arrives now; on a stalled link it waits (``take_stalled``)."""
        self.faults.expire(self.clock())
        if self._half_open or self.faults.silence:
            return False
        if self.faults.stall or self._incoming:
            self._incoming.append(frame)
            self._check_bound(len(self._incoming))
            self.wake()
            return False
        self._last_frame_s = self.time()
        return True

    def arrived(self, frame: str | bytes) -> Iterator[str | bytes]:
        """Yield what to process now that the client has sent a frame: first those that no longer wait."""
        yield from self.take_stalled()
        if self.accepts(frame):
            yield frame

    def take_stalled(self) -> list[str | bytes]:
        """Remove and return the received frames that no longer wait."""
        self.faults.expire(self.clock())
        if self.faults.stall or not self._incoming:
            return []
        frames = list(self._incoming)
        self._incoming.clear()
        self._last_frame_s = self.time()
        return frames

    def read(self, frame: str | bytes) -> dict[str, object] | None:
        """Return a request; answer a ping, and anything but a JSON object, and return None."""
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
        """Send one object later, while others may overtake it."""
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
        self._delayed.append((self.time() + after_s, frame))
        self.wake()

    def emit(self, frame: Frame) -> None:
        """Send a frame, as far as the link's faults allow."""
        self.faults.expire(self.clock())
        if self._half_open or self.faults.silence:
            return
        self._send_due()
        if self.faults.stall or self.faults.frame_delay_s or self._queued:
            self._queued.append((self.time() + self.faults.frame_delay_s, frame))
            self._check_bound(len(self._queued))
            self.wake()
            return
        self._send_now(frame)

    # Faults.

    def cut(self) -> None:
        """Lose the connection without a close frame."""
        self.lose()

    def announce_upgrade(self, after_s: float) -> None:
        """Send notice 64008 and close ``after_s`` later."""
        msg = "The connection will soon be closed for a service upgrade. Please reconnect."
        self.event("notice", code="64008", msg=msg)
        self.emit_late(CloseFrame(4006, "service upgrade"), after_s)

    def become_half_open(self) -> None:
        """Stay open, but receive and send nothing from now on."""
        self._half_open = True

    def close(self, code: int) -> None:
        """Close the connection with a close frame."""
        self.emit(CloseFrame(code, "closed by the exchange"))

    def send_raw(self, frame: str | bytes) -> None:
        """Send this frame, whatever it contains."""
        self.emit(frame)

    def _stalled_until_s(self) -> float:
        self.faults.expire(self.clock())
        if not self.faults.stall:
            return 0.0
        return self.time() + self.faults.remaining_s("stall", self.clock())

    def _send_due(self) -> None:
        """Send the queued frames that are due, in order."""
        self.faults.expire(self.clock())
        while self._queued and not self.faults.stall and self.time() >= self._queued[0][0]:
            self._send_now(self._queued.popleft()[1])

    def _send_now(self, frame: Frame) -> None:
        self._last_frame_s = self.time()
        self.send(frame)

    def _check_bound(self, waiting: int) -> None:
        if waiting > MAX_WAITING:
            self.lose()


def _json(frame: JsonObject) -> str:
    return msgspec.json.encode(frame).decode()
