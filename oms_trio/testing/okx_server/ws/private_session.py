"""One private WebSocket session: login, subscriptions and trade operations, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import attrs

from oms_trio.testing.okx_server.auth import check_login
from oms_trio.testing.okx_server.events import ExchangeEvent
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.orders.operations import (
    MAX_BATCH,
    TradeOperation,
    execute,
    render,
    summary,
    unsupported_in_this_mode,
)
from oms_trio.testing.okx_server.orders.request_checks import (
    NAME,
    RequestRejected,
    check_inst_id_code,
)
from oms_trio.testing.okx_server.rate_limits import Quota, RateLimits
from oms_trio.testing.okx_server.values import JsonObject
from oms_trio.testing.okx_server.ws.connection import NEVER, CloseFrame, ServerConnection
from oms_trio.testing.okx_server.ws.subscriptions import (
    CHANNELS,
    SILENT_CHANNELS,
    Subscriptions,
    echoed,
)

UNSUBSCRIBED_S = 30.0
"""The exchange closes a connection without a subscription after this."""

DEAD_AFTER_S = 0.05
"""How long after its acknowledgement a dead subscription ends."""

CONTROL_REQUESTS = Quota(480, 3_600_000)

_OPS = {
    "order": (TradeOperation.PLACE, 1),
    "batch-orders": (TradeOperation.PLACE, MAX_BATCH),
    "cancel-order": (TradeOperation.CANCEL, 1),
    "batch-cancel-orders": (TradeOperation.CANCEL, MAX_BATCH),
    "amend-order": (TradeOperation.AMEND, 1),
    "batch-amend-orders": (TradeOperation.AMEND, MAX_BATCH),
    "mass-cancel": (None, 1),
}

_UNAVAILABLE = {
    **dict.fromkeys(("orders-algo", "algo-advance", "grid-orders-spot"), "64001"),
    "fills": "64003",
}
"""Channels of another URL or of a higher account level, and the code of their rejection."""


@attrs.define(eq=False)
class PrivateSession:
    """The state of one private connection."""

    exchange: SimulatedExchange
    connection: ServerConnection
    logged_in: bool = attrs.field(default=False, init=False)
    subscriptions: Subscriptions = attrs.field(init=False)
    _limits: RateLimits = attrs.field(factory=RateLimits, init=False)
    _must_subscribe_by_s: float = attrs.field(default=NEVER, init=False)

    def __attrs_post_init__(self) -> None:
        """Start the timers."""
        self.subscriptions = Subscriptions(self.exchange, self.connection)
        if self.exchange.close_unsubscribed:
            self._must_subscribe_by_s = self.connection.time() + UNSUBSCRIBED_S

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""
        return min(self.connection.deadline, self.subscriptions.deadline, self._must_subscribe_by_s)

    def on_time(self) -> None:
        """Do what is due: pushes first, then delayed frames and timeouts."""
        for frame in self.connection.take_stalled():
            self._process(frame)
        self.subscriptions.on_time()
        self.connection.on_time()
        if self.connection.time() >= self._must_subscribe_by_s:
            self._must_subscribe_by_s = NEVER
            self.connection.emit(CloseFrame(4004, "No subscription within 30s."))

    def receive(self, frame: str | bytes) -> None:
        """Process one frame of the client."""
        for arrived in self.connection.arrived(frame):
            self._process(arrived)

    def on_event(self, event: ExchangeEvent) -> None:
        """Process one event of the exchange."""
        self.subscriptions.on_event(event)

    def close(self) -> None:
        """Release the subscriptions: the connection is over."""
        self.subscriptions.close()

    def _process(self, frame: str | bytes) -> None:
        request = self.connection.read(frame)
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
            self.connection.error("60019", f"Invalid OP: {op}", name)

    # Login and subscriptions.

    def _control(self, op: str, name: str, args: object) -> None:
        if not self._limits.admit("control", CONTROL_REQUESTS, self.exchange.true_ms):
            self.connection.error("60014", "Requests too frequent", name)
            return
        if not isinstance(args, list) or not all(isinstance(arg, dict) for arg in args) or not args:
            self.connection.error("60012", f"Invalid request: {op}", name)
            return
        if op == "login":
            self._login(args[0], name)
            return
        for arg in args:
            try:
                self._check_subscription(arg)
            except RequestRejected as rejected:
                self.connection.error(rejected.code, rejected.msg, name)
                continue
            if op == "subscribe":
                self._subscribe(arg, name)
            else:
                self._unsubscribe(arg, name)

    def _login(self, arg: Mapping[str, object], name: str) -> None:
        if self.logged_in:
            self.connection.error(
                "60031", "The WebSocket endpoint does not allow multiple logins", name
            )
            return
        faults = self.exchange.faults
        try:
            if faults.login_codes:
                raise RequestRejected(faults.login_codes.popleft(), "Login failed.")  # noqa: TRY301 - the same answer
            check_login(self.exchange.account, arg, self.exchange.now_ms)
        except RequestRejected as rejected:
            self.connection.error(rejected.code, rejected.msg, name)
            self.connection.emit(CloseFrame(4001, "Login failed"))
            return
        self.logged_in = True
        self.connection.event("login", name, code="0", msg="")

    def _check_subscription(self, arg: Mapping[str, object]) -> None:
        channel = arg.get("channel")
        if not isinstance(channel, str) or channel not in CHANNELS | SILENT_CHANNELS:
            code = _UNAVAILABLE.get(channel, "60018") if isinstance(channel, str) else "60018"
            raise RequestRejected(code, f"Wrong URL or channel:{channel} doesn't exist.")
        if not self.logged_in:
            raise RequestRejected("60011", "Please log in")
        needs_type = channel in {"orders", "positions", "liquidation-warning"}
        if needs_type and arg.get("instType") not in ("SWAP", "ANY"):
            raise RequestRejected("60033", "Parameter instType error")
        inst_id = self.exchange.instrument.inst_id
        for key, ours in (("instId", inst_id), ("instFamily", inst_id.removesuffix("-SWAP"))):
            if arg.get(key, ours) not in (ours, ""):
                raise RequestRejected("60018", f"Wrong URL or {arg} doesn't exist.")

    def _subscribe(self, arg: Mapping[str, object], name: str) -> None:
        self.connection.event("subscribe", name, arg=echoed(arg))
        self._must_subscribe_by_s = NEVER
        if self.exchange.faults.dead_subscriptions:
            # Later, so that it follows the acknowledgements of the whole request.
            self.connection.push_late(
                self.subscriptions.rejection(arg) | {"connId": self.connection.conn_id},
                DEAD_AFTER_S,
            )
            return
        self.connection.push(
            self.subscriptions.subscribe(arg) | {"connId": self.connection.conn_id}
        )
        self.subscriptions.start(arg)

    def _unsubscribe(self, arg: Mapping[str, object], name: str) -> None:
        self.subscriptions.unsubscribe(arg)
        self.connection.event("unsubscribe", name, arg=echoed(arg))

    # Trade operations.

    def _trade(self, op: str, name: str, request: Mapping[str, object]) -> None:
        if not self.logged_in:
            self.connection.error("60011", "Please log in", name)
            return
        if self.exchange.faults.consume("cut_before_op"):
            self.connection.cut()
            return
        if self.exchange.faults.ops_hang:
            return
        if self.exchange.faults.ops_hang_executed:
            self._perform(op, name, request)
            return
        if self.exchange.faults.push_before_ack:
            self._answer(self._perform(op, name, request))
            return
        # The answer is sent before the pushes.
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
                    raise unsupported_in_this_mode()
                results = execute(
                    self.exchange,
                    kind,
                    cast("list[dict[str, object]]", args),
                    check_inst_id_code,
                    exp_time=request.get("expTime"),
                )
            except RequestRejected as rejected:
                answer |= {"code": rejected.code, "msg": rejected.msg}
            else:
                answer |= {"code": summary(results), "msg": "", "data": render(kind, results)}
        # The gateway takes a fixed time, so that runs repeat; as on a real one it is not 0.
        return answer | {"inTime": str(in_us), "outTime": str(in_us + 900)}

    def _answer(self, answer: JsonObject) -> None:
        faults = self.exchange.faults
        if faults.consume("cut_after_op"):
            self.connection.cut()
        elif faults.consume("drop_acks"):
            return
        elif faults.ack_delay_s:
            self.connection.push_late(answer, faults.ack_delay_s)
        else:
            self.connection.push(answer)
