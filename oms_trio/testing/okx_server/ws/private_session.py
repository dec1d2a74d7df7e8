"""One private WebSocket session as a state machine: frames and times in, frames out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import attrs

from oms_trio.testing.okx_server.auth import check_login
from oms_trio.testing.okx_server.events import Event
from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.orders.admission import NAME, Refused, check_inst_id_code
from oms_trio.testing.okx_server.orders.operations import (
    MAX_BATCH,
    Op,
    carry_out,
    not_in_this_mode,
    render,
    summary,
)
from oms_trio.testing.okx_server.rate_limits import Limits, Quota
from oms_trio.testing.okx_server.ws.connection import NEVER, Ending, ServerConnection
from oms_trio.testing.okx_server.ws.feeds import CHANNELS, SILENT_CHANNELS, Feeds, told
from oms_trio.testing.okx_server.ws.pushes import JsonObject

UNSUBSCRIBED_S = 30.0
"""The exchange closes a connection that has not subscribed to anything within this."""

DEAD_S = 0.05
"""How long after its ack a subscription that a fault wants dead is refused."""

CONTROL_REQUESTS = Quota(480, 3_600_000)

_OPS = {
    "order": (Op.PLACE, 1),
    "batch-orders": (Op.PLACE, MAX_BATCH),
    "cancel-order": (Op.CANCEL, 1),
    "batch-cancel-orders": (Op.CANCEL, MAX_BATCH),
    "amend-order": (Op.AMEND, 1),
    "batch-amend-orders": (Op.AMEND, MAX_BATCH),
    "mass-cancel": (None, 1),
}

_ELSEWHERE = {
    **dict.fromkeys(("orders-algo", "algo-advance", "grid-orders-spot"), "64001"),
    "fills": "64003",
}
"""Channels that moved to another URL, or are not for an account of this level."""


@attrs.define(eq=False)
class Session:
    """What one connection has logged in, subscribed and still has to be told."""

    exchange: Exchange
    line: ServerConnection
    logged_in: bool = attrs.field(default=False, init=False)
    feeds: Feeds = attrs.field(init=False)
    _limits: Limits = attrs.field(factory=Limits, init=False)
    _must_subscribe_by_s: float = attrs.field(default=NEVER, init=False)

    def __attrs_post_init__(self) -> None:
        """Start the timers."""
        self.feeds = Feeds(self.exchange, self.line)
        if self.exchange.close_unsubscribed:
            self._must_subscribe_by_s = self.line.time() + UNSUBSCRIBED_S

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        return min(self.line.deadline, self.feeds.deadline, self._must_subscribe_by_s)

    def on_time(self) -> None:
        """Do what is due: pushes first, then late frames and the closes for silence."""
        for frame in self.line.heard():
            self._take(frame)
        self.feeds.on_time()
        self.line.on_time()
        if self.line.time() >= self._must_subscribe_by_s:
            self._must_subscribe_by_s = NEVER
            self.line.emit(Ending(4004, "No subscription within 30s."))

    def receive(self, frame: str | bytes) -> None:
        """Take one frame of the client."""
        for earlier in self.line.heard():
            self._take(earlier)
        if self.line.hears(frame):
            self._take(frame)

    def tell(self, event: Event) -> None:
        """Take one event of the exchange."""
        self.feeds.tell(event)

    def leave(self) -> None:
        """Give back what the connection held; it is over."""
        self.feeds.leave()

    def _take(self, frame: str | bytes) -> None:
        request = self.line.read(frame)
        if request is None:
            return
        op, name = (
            value if isinstance(value, str) else "" for value in map(request.get, ("op", "id"))
        )
        if op in _OPS:
            self._trade(op, name, request)
        elif op in {"login", "subscribe", "unsubscribe"}:
            self._control(op, name, request.get("args"))
        else:
            self.line.error("60019", f"Invalid OP: {op}", name)

    # Login and subscriptions.

    def _control(self, op: str, name: str, args: object) -> None:
        if not self._limits.admit("control", CONTROL_REQUESTS, self.exchange.steady_ms):
            self.line.error("60014", "Requests too frequent", name)
            return
        if not isinstance(args, list) or not all(isinstance(arg, dict) for arg in args) or not args:
            self.line.error("60012", f"Invalid request: {op}", name)
            return
        if op == "login":
            self._login(args[0], name)
            return
        for arg in args:
            try:
                self._check_subscription(arg)
            except Refused as refused:
                self.line.error(refused.code, refused.msg, name)
                continue
            if op == "subscribe":
                self._subscribe(arg, name)
            else:
                self._unsubscribe(arg, name)

    def _login(self, arg: Mapping[str, object], name: str) -> None:
        if self.logged_in:
            self.line.error("60031", "The WebSocket endpoint does not allow multiple logins", name)
            return
        faults = self.exchange.faults
        try:
            if faults.login_codes:
                raise Refused(faults.login_codes.popleft(), "Login failed.")  # noqa: TRY301 - forced and real refusals answer alike
            check_login(self.exchange.account, arg, self.exchange.now_ms)
        except Refused as refused:
            self.line.error(refused.code, refused.msg, name)
            self.line.emit(Ending(4001, "Login failed"))
            return
        self.logged_in = True
        self.line.event("login", name, code="0", msg="")

    def _check_subscription(self, arg: Mapping[str, object]) -> None:
        channel = arg.get("channel")
        if not isinstance(channel, str) or channel not in CHANNELS | SILENT_CHANNELS:
            code = _ELSEWHERE.get(channel, "60018") if isinstance(channel, str) else "60018"
            raise Refused(code, f"Wrong URL or channel:{channel} doesn't exist.")
        if not self.logged_in:
            raise Refused("60011", "Please log in")
        needs_type = channel in {"orders", "positions", "liquidation-warning"}
        if needs_type and arg.get("instType") not in ("SWAP", "ANY"):
            raise Refused("60033", "Parameter instType error")
        inst_id = self.exchange.instrument.inst_id
        for key, ours in (("instId", inst_id), ("instFamily", inst_id.removesuffix("-SWAP"))):
            if arg.get(key, ours) not in (ours, ""):
                raise Refused("60018", f"Wrong URL or {arg} doesn't exist.")

    def _subscribe(self, arg: Mapping[str, object], name: str) -> None:
        self.line.event("subscribe", name, arg=told(arg))
        self._must_subscribe_by_s = NEVER
        if self.exchange.faults.dead_subscriptions:
            # Later, so that it follows the acks of the whole request.
            self.line.push_late(self.feeds.refuse(arg) | {"connId": self.line.conn_id}, DEAD_S)
            return
        self.line.push(self.feeds.subscribe(arg) | {"connId": self.line.conn_id})
        self.feeds.start(arg)

    def _unsubscribe(self, arg: Mapping[str, object], name: str) -> None:
        self.feeds.unsubscribe(arg)
        self.line.event("unsubscribe", name, arg=told(arg))

    # Trade operations.

    def _trade(self, op: str, name: str, request: Mapping[str, object]) -> None:
        if not self.logged_in:
            self.line.error("60011", "Please log in", name)
            return
        if self.exchange.faults.use_up("cut_before_op"):
            self.line.cut()
            return
        if self.exchange.faults.ops_hang:
            return
        if self.exchange.faults.ops_hang_executed:
            self._perform(op, name, request)
            return
        if self.exchange.faults.push_before_ack:
            self._answer(self._perform(op, name, request))
            return
        # Pushes wait until the answer is on its way.
        with self.exchange.engine.deferred():
            self._answer(self._perform(op, name, request))

    def _perform(self, op: str, name: str, request: Mapping[str, object]) -> JsonObject:
        in_us = self.exchange.now_us
        answer: JsonObject = {
            "id": name,
            "op": op,
            "code": "60013",
            "msg": "Invalid args",
            "data": [],
        }
        args = request.get("args")
        kind, most = _OPS[op]
        if (
            NAME.match(name)
            and isinstance(args, list)
            and 1 <= len(args) <= most
            and all(isinstance(arg, dict) for arg in args)
        ):
            try:
                if kind is None:
                    raise not_in_this_mode()
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
            self.line.cut()
        elif faults.use_up("drop_acks"):
            return
        elif faults.ack_delay_s:
            self.line.push_late(answer, faults.ack_delay_s)
        else:
            self.line.push(answer)
