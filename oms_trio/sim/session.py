"""One private WebSocket session as a state machine: frames and times in, frames out.

No I/O here: ``send`` takes what leaves, ``wake`` says that ``deadline`` came nearer, ``cut`` loses
the connection. Times are seconds of one monotonic clock, which ``time`` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import attrs
import msgspec

from oms_trio.sim.admission import NAME, Refused, check_inst_id_code
from oms_trio.sim.auth import check_login
from oms_trio.sim.exchange import Exchange
from oms_trio.sim.feeds import CHANNELS, Feeds, told
from oms_trio.sim.limits import Limits, Quota
from oms_trio.sim.pushes import JsonObject
from oms_trio.sim.trade_ops import MAX_BATCH, Op, carry_out, render, summary

IDLE_S = 30.0
"""Without a frame in either direction for this long the server closes the connection."""

CONTROL_REQUESTS = Quota(480, 3_600_000)

_OPS = {
    "order": (Op.PLACE, 1),
    "batch-orders": (Op.PLACE, MAX_BATCH),
    "cancel-order": (Op.CANCEL, 1),
    "batch-cancel-orders": (Op.CANCEL, MAX_BATCH),
    "amend-order": (Op.AMEND, 1),
    "batch-amend-orders": (Op.AMEND, MAX_BATCH),
}


@attrs.frozen
class Ending:
    """The server's end of the connection: a close frame with this code."""

    code: int
    reason: str


@attrs.define(eq=False)
class Session:
    """What one connection has logged in, subscribed and still has to be told."""

    exchange: Exchange
    conn_id: str
    send: Callable[[str | Ending], None]
    wake: Callable[[], None]
    cut: Callable[[], None]
    time: Callable[[], float]
    logged_in: bool = attrs.field(default=False, init=False)
    feeds: Feeds = attrs.field(init=False)
    _limits: Limits = attrs.field(factory=Limits, init=False)
    _last_frame_s: float = attrs.field(init=False)
    _late: list[tuple[float, str | Ending]] = attrs.field(factory=list, init=False)
    """Frames that leave at their time: delayed answers, and the end after an upgrade notice."""

    def __attrs_post_init__(self) -> None:
        """Start the idle timer."""
        self.feeds = Feeds(self.exchange, self._push, self.wake, self.time)
        self._last_frame_s = self.time()

    # Time.

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        late = [due_s for due_s, _ in self._late]
        return min([self._last_frame_s + IDLE_S, self.feeds.deadline, *late])

    def on_time(self) -> None:
        """Do what is due: pushes first, then late frames and the idle close."""
        now_s = self.time()
        self.feeds.on_time()
        due = [frame for due_s, frame in self._late if now_s >= due_s]
        self._late = [late for late in self._late if now_s < late[0]]
        for frame in due:
            self._emit(frame)
        if now_s >= self._last_frame_s + IDLE_S:
            self._last_frame_s = now_s  # a stalled server does not close, nor ask every instant
            self._emit(Ending(4004, "No data received in 30s."))

    # Frames.

    def receive(self, frame: str | bytes) -> None:
        """Take one frame of the client."""
        if self.exchange.faults.stalled:
            return
        self._last_frame_s = self.time()
        if frame == "ping":
            self._emit("pong")
            return
        try:
            request = msgspec.json.decode(frame, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeEncodeError):
            self._error("60012", f"Invalid request: {frame[:200]!r}", "")
            return
        op, name = (
            value if isinstance(value, str) else "" for value in map(request.get, ("op", "id"))
        )
        if op in _OPS:
            self._trade(op, name, request)
        elif op in {"login", "subscribe", "unsubscribe"}:
            self._control(op, name, request.get("args"))
        else:
            self._error("60019", f"Invalid OP: {op}", name)

    def announce_upgrade(self, after_s: float) -> None:
        """Send notice 64008 and close ``after_s`` later."""
        msg = "The connection will soon be closed for a service upgrade. Please reconnect."
        self._event("notice", code="64008", msg=msg)
        self._late.append((self.time() + after_s, Ending(4006, "service upgrade")))
        self.wake()

    # Login and subscriptions.

    def _control(self, op: str, name: str, args: object) -> None:
        if not self._limits.admit("control", CONTROL_REQUESTS, self.exchange.now_ms):
            self._error("60014", "Requests too frequent", name)
            return
        if not isinstance(args, list) or not all(isinstance(arg, dict) for arg in args) or not args:
            self._error("60012", f"Invalid request: {op}", name)
            return
        if op == "login":
            self._login(args[0], name)
            return
        for arg in args:
            try:
                self._check_subscription(arg)
            except Refused as refused:
                self._error(refused.code, refused.msg, name)
                continue
            if op == "subscribe":
                self._subscribe(arg, name)
            else:
                self._unsubscribe(arg, name)

    def _login(self, arg: Mapping[str, object], name: str) -> None:
        if self.logged_in:
            self._error("60031", "The WebSocket endpoint does not allow multiple logins", name)
            return
        faults = self.exchange.faults
        try:
            if faults.login_codes:
                raise Refused(faults.login_codes.popleft(), "Login failed.")  # noqa: TRY301 - forced and real refusals answer alike
            check_login(self.exchange.account, arg, self.exchange.now_ms)
        except Refused as refused:
            self._error(refused.code, refused.msg, name)
            self._emit(Ending(4001, "Login failed"))
            return
        self.logged_in = True
        self._event("login", name, code="0", msg="")

    def _check_subscription(self, arg: Mapping[str, object]) -> None:
        channel = arg.get("channel")
        if channel not in CHANNELS:
            raise Refused("60018", f"Wrong URL or channel:{channel} doesn't exist.")
        if not self.logged_in:
            raise Refused("60011", "Please log in")
        if channel != "account" and arg.get("instType") not in ("SWAP", "ANY"):
            raise Refused("60033", "Parameter instType error")
        if arg.get("instId", self.exchange.instrument.inst_id) != self.exchange.instrument.inst_id:
            raise Refused("60018", f"Wrong URL or {arg} doesn't exist.")

    def _subscribe(self, arg: Mapping[str, object], name: str) -> None:
        self._event("subscribe", name, arg=told(arg))
        self._push(self.feeds.subscribe(arg) | {"connId": self.conn_id})
        self.feeds.start(arg)

    def _unsubscribe(self, arg: Mapping[str, object], name: str) -> None:
        self.feeds.unsubscribe(arg)
        self._event("unsubscribe", name, arg=told(arg))

    # Trade operations.

    def _trade(self, op: str, name: str, request: Mapping[str, object]) -> None:
        if not self.logged_in:
            self._error("60011", "Please log in", name)
            return
        if self.exchange.faults.push_before_ack:
            self._answer(self._perform(op, name, request))
            return
        # Pushes wait until the answer is on its way.
        with self.exchange.engine.deferred():
            self._answer(self._perform(op, name, request))

    def _perform(self, op: str, name: str, request: Mapping[str, object]) -> JsonObject:
        kind, most = _OPS[op]
        in_us = self.exchange.clock() // 1000
        answer: JsonObject = {
            "id": name,
            "op": op,
            "code": "60013",
            "msg": "Invalid args",
            "data": [],
        }
        args = request.get("args")
        if (
            NAME.match(name)
            and isinstance(args, list)
            and 1 <= len(args) <= most
            and all(isinstance(arg, dict) for arg in args)
        ):
            try:
                outcomes = carry_out(
                    self.exchange,
                    kind,
                    cast("list[dict[str, object]]", args),
                    check_inst_id_code,
                    exp_time=request.get("expTime"),
                )
            except Refused as refused:
                answer |= {"code": refused.code, "msg": refused.msg}
            else:
                answer |= {"code": summary(outcomes), "msg": "", "data": render(kind, outcomes)}
        # The simulated gateway takes a fixed time: repeatable, and never 0 as no real one is.
        return answer | {"inTime": str(in_us), "outTime": str(in_us + 900)}

    def _answer(self, answer: JsonObject) -> None:
        faults = self.exchange.faults
        if faults.use_up("cut_after_op"):
            self.cut()
        elif faults.use_up("drop_acks"):
            return
        elif faults.ack_delay_s:
            self._late.append((self.time() + faults.ack_delay_s, _json(answer)))
            self.wake()
        else:
            self._push(answer)

    # Sending.

    def _event(self, event: str, name: str = "", **fields: object) -> None:
        start: JsonObject = {"id": name} if name else {}
        self._push(start | {"event": event} | fields | {"connId": self.conn_id})

    def _error(self, code: str, msg: str, name: str) -> None:
        self._event("error", name, code=code, msg=msg)

    def _push(self, frame: JsonObject) -> None:
        self._emit(_json(frame))

    def _emit(self, frame: str | Ending) -> None:
        if self.exchange.faults.stalled:
            return
        self._last_frame_s = self.time()
        self.send(frame)


def _json(frame: JsonObject) -> str:
    return msgspec.json.encode(frame).decode()
