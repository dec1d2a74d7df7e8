"""The fault catalog: every kind of fault with its description, its action and its ranges."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults import actions
from oms_trio.testing.okx_server.faults.kinds import FaultEvent, FaultKind
from oms_trio.testing.okx_server.faults.switches import RestAnswer

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"

HIDING = ("", "1", "2")
UNKNOWN_OUTCOMES = ("50001", "50004", "50026", "51054", "51149", "64007")
REJECTIONS = ("50011", "50013", "50061", "51008", "51030", "51149", "54109", "59113")
ROWS = ("", "state=mystery", "side=both", "ordType=iceberg", "category=rebate", "sz=0", "px=")
TIMES = ("0", "-1", "soon", "99999999999999999999", "1e300", "1790000000000.5")
ABSURD = (
    *("orders accFillSz=1e9", "orders sz=0", "orders sz=-3", "orders avgPx=", "orders fillSz=1e20"),
    *("positions pos=1e20", "positions uplRatio=NaN", "positions markPx=-1", "positions pos="),
    *("account cashBal=1e20", "account cashBal=-5", "account cashBal=nothing"),
    *("account/balance cashBal=1e20", "account/positions pos=1e20", "public/mark-price markPx=0"),
    *("trade/orders-pending accFillSz=1e9", "trade/orders-pending sz=-1", "trade/fills fillSz=-1"),
)


@attrs.frozen
class FaultSpec:
    """What a kind of fault does, and the ranges from which a plan draws its events."""

    description: str
    act: actions.Action
    times: tuple[int, int] = (1, 1)
    duration_s: tuple[float, float] = (0.0, 0.0)
    delay_s: tuple[float, float] = (0.0, 0.0)
    codes: tuple[str, ...] = ("",)


FAULT_SPECS: Mapping[FaultKind, FaultSpec] = {
    FaultKind.CUT: FaultSpec(
        "every connection is lost without a close frame", lambda exchange, _: exchange.faults.cut()
    ),
    FaultKind.CLOSE: FaultSpec(
        "every WebSocket is closed with this close code",
        lambda exchange, event: exchange.faults.close(int(event.code or 4006)),
        codes=("1009", "4002", "4004", "4005", "4006"),
    ),
    FaultKind.UPGRADE: FaultSpec(
        "WebSockets get notice 64008 and are closed delay_s later",
        lambda exchange, event: exchange.faults.announce_upgrade(event.delay_s or 60.0),
        delay_s=(60.0, 60.0),
    ),
    FaultKind.HALF_OPEN: FaultSpec(
        "open WebSockets stay open, but receive and send nothing any more",
        lambda exchange, _: exchange.faults.half_open(),
    ),
    FaultKind.REFUSE_CONNECTIONS: FaultSpec(
        "new connections are dropped before the handshake",
        actions.set_switch("refuse_connections"),
        duration_s=(0.5, 20.0),
    ),
    FaultKind.STALL: FaultSpec(
        "frames and REST calls wait until it is over, then go through in order",
        actions.set_switch("stall"),
        duration_s=(0.2, 40.0),
    ),
    FaultKind.SILENCE: FaultSpec(
        "what is sent in either direction is lost; connections stay open",
        actions.set_switch("silence"),
        duration_s=(0.2, 40.0),
    ),
    FaultKind.SLOW: FaultSpec(
        "every frame of the exchange is delay_s late, in order",
        actions.set_switch("frame_delay_s", actions.delay_s),
        duration_s=(1.0, 20.0),
        delay_s=(0.05, 3.0),
    ),
    FaultKind.GARBAGE: FaultSpec(
        "WebSockets get invalid or meaningless frames", actions.send_garbage, times=(1, 3)
    ),
    FaultKind.REJECT_LOGIN: FaultSpec(
        "the next logins are rejected with this code",
        lambda exchange, event: exchange.faults.login_codes.extend(
            [event.code or "60009"] * event.times
        ),
        times=(1, 2),
        codes=("60006", "60009", "63999"),
    ),
    FaultKind.CUT_BEFORE_OP: FaultSpec(
        "the connection is lost before an operation is executed", actions.count("cut_before_op")
    ),
    FaultKind.CUT_AFTER_OP: FaultSpec(
        "an operation is executed, then the connection is lost", actions.count("cut_after_op")
    ),
    FaultKind.DROP_ACK: FaultSpec(
        "an operation is executed, its answer is lost", actions.count("drop_acks"), (1, 3)
    ),
    FaultKind.LATE_ACK: FaultSpec(
        "answers to operations are delay_s late; pushes overtake them",
        actions.set_switch("ack_delay_s", actions.delay_s),
        duration_s=(0.5, 10.0),
        delay_s=(0.05, 8.0),
    ),
    FaultKind.PUSH_BEFORE_ACK: FaultSpec(
        "pushes come before the answer to the operation that caused them",
        actions.set_switch("push_before_ack"),
        duration_s=(1.0, 20.0),
    ),
    FaultKind.ANSWER: FaultSpec(
        "submits get this code and are not executed",
        actions.answer_submits(executed=False),
        (1, 3),
        codes=(*UNKNOWN_OUTCOMES, "50011", "50013"),
    ),
    FaultKind.ANSWER_EXECUTED: FaultSpec(
        "submits get this code, but are executed",
        actions.answer_submits(executed=True),
        (1, 2),
        codes=UNKNOWN_OUTCOMES,
    ),
    FaultKind.REJECT_ORDER: FaultSpec(
        "orders are rejected one by one with this sCode",
        lambda exchange, event: exchange.reject_next_orders(event.code or "51008", event.times),
        (1, 3),
        codes=REJECTIONS,
    ),
    FaultKind.DROP_PUSH: FaultSpec(
        "orders pushes are lost", actions.count("drop_order_pushes"), (1, 3)
    ),
    FaultKind.DROP_POSITION: FaultSpec(
        "positions pushes are lost", actions.count("drop_position_pushes"), (1, 3)
    ),
    FaultKind.DROP_ACCOUNT: FaultSpec(
        "account pushes are lost", actions.count("drop_account_pushes"), (1, 3)
    ),
    FaultKind.REPEAT_PUSH: FaultSpec(
        "orders pushes come twice, with another uTime", actions.count("repeat_order_pushes"), (1, 3)
    ),
    FaultKind.ECHO_PUSH: FaultSpec(
        "orders pushes come twice, byte for byte the same",
        actions.count("echo_order_pushes"),
        (1, 3),
    ),
    FaultKind.LATE_PUSH: FaultSpec(
        "orders pushes are overtaken by whatever is sent within delay_s",
        actions.count_late("late_order_pushes"),
        (1, 3),
        delay_s=(0.05, 3.0),
    ),
    FaultKind.LATE_POSITION: FaultSpec(
        "positions pushes come delay_s late, when the position may already be another one",
        actions.count_late("late_position_pushes"),
        (1, 3),
        delay_s=(0.05, 6.0),
    ),
    FaultKind.SWAP_PUSHES: FaultSpec(
        "an orders push changes places with the next one",
        actions.count("swap_order_pushes"),
        (1, 2),
    ),
    FaultKind.POSITIONS_FIRST: FaultSpec(
        "positions and account pushes come before the orders push of the same match",
        actions.set_switch("positions_first"),
        duration_s=(1.0, 20.0),
    ),
    FaultKind.HANG: FaultSpec(
        "operations are read, but neither executed nor answered; pushes and pings work",
        actions.set_switch("ops_hang"),
        duration_s=(5.0, 60.0),
    ),
    FaultKind.HANG_EXECUTED: FaultSpec(
        "operations are executed, but never answered",
        actions.set_switch("ops_hang_executed"),
        duration_s=(5.0, 60.0),
    ),
    FaultKind.DEAD_SUBSCRIPTIONS: FaultSpec(
        "subscriptions are acknowledged, then end in channel-conn-count-error",
        actions.set_switch("dead_subscriptions"),
        duration_s=(1.0, 60.0),
    ),
    FaultKind.ABSURD: FaultSpec(
        "the next row of a channel or REST path has these values: 'orders sz=-1'",
        actions.edit_rows,
        (1, 2),
        codes=ABSURD,
    ),
    FaultKind.FOREIGN_ORDER: FaultSpec(
        "orders pushes and lists have one more row, of an unknown owner, with these values",
        actions.set_fields("foreign_order", "state=live"),
        duration_s=(5.0, 60.0),
        codes=ROWS,
    ),
    FaultKind.FOREIGN_POSITION: FaultSpec(
        "positions pushes and answers have one more row, of an unknown owner, with these values",
        actions.set_fields("foreign_position", "mgnMode=isolated"),
        duration_s=(5.0, 60.0),
        codes=("", "mgnMode=isolated,posSide=sideways", "mgnMode=isolated,pos=", "mgnMode=quick"),
    ),
    FaultKind.FOREIGN_FILL: FaultSpec(
        "lists of fills have one more row, of an unknown owner, with these values",
        actions.set_fields("foreign_fill", "side=buy"),
        duration_s=(5.0, 60.0),
        codes=("", "side=both", "tradeId=", "fillSz=-1", "subType=999"),
    ),
    FaultKind.SUSPEND: FaultSpec(
        "the instrument is suspended: orders and amendments get sCode 51022",
        actions.set_switch("suspended"),
        duration_s=(1.0, 60.0),
    ),
    FaultKind.CLOCK_SKEW: FaultSpec(
        "the exchange's clock is delay_s ahead (below 0: behind)",
        actions.set_switch("clock_skew_ms", actions.delay_ms),
        duration_s=(1.0, 30.0),
        delay_s=(-45.0, 45.0),
    ),
    FaultKind.INSTRUMENT: FaultSpec(
        "the instrument has other rules from now on: 'tickSz=0.5,lotSz=0.1'",
        actions.change_instrument,
        codes=("tickSz=0.5", "tickSz=0.1", "lotSz=0.1,minSz=0.1", "lotSz=0.01,minSz=0.01"),
    ),
    FaultKind.CLOCK_DRIFT: FaultSpec(
        "the exchange's clock gains delay_s per hour (below 0: loses)",
        actions.set_switch("clock_drift_ppm", lambda event: round(event.delay_s / 3600 * 1e6)),
        duration_s=(60.0, 600.0),
        delay_s=(-20.0, 20.0),
    ),
    FaultKind.WRONG_TIME: FaultSpec(
        "/public/time returns this instead of the time",
        actions.set_switch("time_ts", lambda event: event.code or "0"),
        duration_s=(1.0, 30.0),
        codes=TIMES,
    ),
    FaultKind.QUERY_CODE: FaultSpec(
        "queries get this code: of all paths, or of one, as in '59999 public/time'",
        actions.set_query_code,
        duration_s=(1.0, 30.0),
        codes=("59999", "59999 public/time", "50011", "59999 trade/", "59999 account/"),
    ),
    FaultKind.REST_LAG: FaultSpec(
        "REST returns the state of delay_s ago, on all paths or those that contain one of these",
        actions.set_rest_lag,
        duration_s=(1.0, 30.0),
        delay_s=(0.05, 12.0),
        codes=("", "", "trade/fills", "trade/order", "account/positions,account/bills"),
    ),
    FaultKind.REST_SLOW: FaultSpec(
        "REST answers come delay_s late",
        actions.set_switch("rest_delay_s", actions.delay_s),
        duration_s=(1.0, 20.0),
        delay_s=(0.1, 15.0),
    ),
    FaultKind.REST_LOST: FaultSpec(
        "POST calls take effect, the connection is lost before the answer",
        actions.count("lost_rest_answers"),
        (1, 2),
    ),
    FaultKind.REST_ERROR: FaultSpec(
        "REST calls get this HTTP status and the exchange's 50001, without effect",
        actions.answer_rest(
            lambda event: RestAnswer(
                int(event.code or 503), b'{"code":"50001","msg":"Service unavailable","data":[]}'
            )
        ),
        (1, 5),
        codes=("500", "502", "503", "504"),
    ),
    FaultKind.REST_DOWN: FaultSpec(
        "every REST call gets this HTTP status and an empty body, without effect",
        actions.set_switch("rest_status", lambda event: int(event.code or 503)),
        duration_s=(0.5, 10.0),
        codes=("500", "502", "503"),
    ),
    FaultKind.REST_HTML: FaultSpec(
        "REST calls get a gateway's page instead of JSON, without effect",
        actions.answer_rest(lambda event: RestAnswer(int(event.code or 502), HTML, "text/html")),
        (1, 5),
        codes=("502", "503", "504", "200"),
    ),
    FaultKind.REST_EMPTY: FaultSpec(
        "REST calls get an empty body, but take effect",
        actions.answer_rest(lambda event: RestAnswer(int(event.code or 200), executed=True)),
        (1, 3),
        codes=("200", "500"),
    ),
    FaultKind.ADL: FaultSpec(
        "auto-deleveraging takes half of the position; the code is that of hide_risk_orders",
        actions.by_risk_engine(
            lambda exchange: exchange.deleverage(actions.half_position(exchange))
        ),
        codes=HIDING,
    ),
    FaultKind.LIQUIDATION: FaultSpec(
        "the position is liquidated; the code is that of hide_risk_orders",
        actions.by_risk_engine(lambda exchange: exchange.liquidate()),
        codes=HIDING,
    ),
    FaultKind.PARTIAL_LIQUIDATION: FaultSpec(
        "half of the position is liquidated; the code is that of hide_risk_orders",
        actions.by_risk_engine(
            lambda exchange: exchange.liquidate(actions.half_position(exchange))
        ),
        codes=HIDING,
    ),
    FaultKind.FUNDING: FaultSpec(
        "a funding fee is settled at this rate",
        lambda exchange, event: exchange.fund(actions.number(event, "0.0001")),
        codes=("0.0001", "-0.0001", "0.003"),
    ),
    FaultKind.MARKET_MOVE: FaultSpec(
        "the market moves by this many percent at once, and back duration_s later",
        lambda exchange, event: exchange.move_market(
            actions.number(event, "-10"), back_after_s=event.duration_s
        ),
        duration_s=(1.0, 60.0),
        codes=("-10", "10", "-3", "3", "-0.5", "0.5"),
    ),
    FaultKind.EXTERNAL_ORDER: FaultSpec(
        "another client of the account trades `times` contracts: 'buy', 'sell', 'buy limit'",
        actions.place_external_order,
        (1, 200),
        codes=("buy", "sell", "buy limit", "sell limit"),
    ),
    FaultKind.EXTERNAL_AMEND: FaultSpec(
        "another client of the account amends an open order", actions.amend_external
    ),
    FaultKind.EXTERNAL_CANCEL: FaultSpec(
        "another client of the account cancels an open order", actions.cancel_external
    ),
}


def inject(exchange: SimulatedExchange, event: FaultEvent) -> None:
    """Let a fault happen now, whatever its ``at_s`` is.

    Raises:
        ValueError: the kind of fault cannot use this ``code``.
    """
    FAULT_SPECS[event.kind].act(exchange, event)
    exchange.injected.append(attrs.evolve(event, at_s=exchange.now_ms / 1000))
