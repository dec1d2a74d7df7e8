"""The fault menu: what can be struck, by name, at once or for a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any

import attrs

from oms_trio.core.model import Instrument, Side
from oms_trio.testing.okx_server import by_hand
from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.faults.behaviour import (
    Counter,
    Edit,
    RestAnswer,
    Switch,
    read_fields,
)
from oms_trio.testing.okx_server.faults.specs import Kind, Strike
from oms_trio.testing.okx_server.orders.admission import Refused, read_number
from oms_trio.testing.okx_server.values import ZERO, Order

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"

GARBAGE: tuple[str | bytes, ...] = (
    "",
    "{",
    "null",
    "[]",
    "pong pong",
    '{"event":"weather"}',
    '{"event":"error","code":60012}',
    '{"arg":{"channel":"orders"},"data":[{}]}',
    '{"arg":{"channel":"orders","instType":"SWAP","instId":"BTC-USDT-SWAP"},"data":"none"}',
    '{"arg":{"channel":"candles"},"data":[["1"]]}',
    '{"id":"nobody","op":"order","code":"0","msg":"","data":[]}',
    b"\xff\xfe\x00\x01",
    "x" * 100_000,
)


@attrs.frozen
class Dish:
    """What a kind does, and the ranges from which a plan draws its strikes."""

    tells: str
    do: Callable[[Exchange, Strike], object]
    times: tuple[int, int] = (1, 1)
    lasts_s: tuple[float, float] = (0.0, 0.0)
    delay_s: tuple[float, float] = (0.0, 0.0)
    codes: tuple[str, ...] = ("",)


def _count(counter: Counter) -> Callable[[Exchange, Strike], object]:
    def do(exchange: Exchange, strike: Strike) -> None:
        left: int = getattr(exchange.faults, counter)
        setattr(exchange.faults, counter, left + strike.times)

    return do


def _state(
    switch: Switch, value: Callable[[Strike], float | str] = lambda _: True
) -> Callable[[Exchange, Strike], object]:
    def do(exchange: Exchange, strike: Strike) -> None:
        exchange.faults.set_for(switch, value(strike), _until_ns(exchange, strike))

    return do


def _until_ns(exchange: Exchange, strike: Strike) -> int | None:
    return exchange.clock() + round(strike.lasts_s * 1e9) if strike.lasts_s else None


def _fields(switch: Switch, default: str) -> Callable[[Exchange, Strike], object]:
    def value(strike: Strike) -> str:
        read_fields(strike.code)
        return strike.code or default

    return _state(switch, value)


def _delay_s(strike: Strike) -> float:
    return strike.delay_s


def _delay_ms(strike: Strike) -> float:
    return round(strike.delay_s * 1000)


def _answer(*, executed: bool) -> Callable[[Exchange, Strike], object]:
    def do(exchange: Exchange, strike: Strike) -> None:
        exchange.faults.answer_submits(strike.code or "50001", strike.times, executed=executed)

    return do


def _rest(answer: Callable[[Strike], RestAnswer]) -> Callable[[Exchange, Strike], object]:
    def do(exchange: Exchange, strike: Strike) -> None:
        exchange.faults.rest_answers.extend([answer(strike)] * strike.times)

    return do


def _say_garbage(exchange: Exchange, strike: Strike) -> None:
    drawn = Random(f"{exchange.seed} {strike}")  # noqa: S311 - a simulation must be repeatable
    for _ in range(strike.times):
        exchange.faults.say(drawn.choice(GARBAGE))


def _late(counter: Counter) -> Callable[[Exchange, Strike], object]:
    count = _count(counter)

    def do(exchange: Exchange, strike: Strike) -> None:
        exchange.faults.push_delay_s = strike.delay_s or exchange.faults.push_delay_s
        count(exchange, strike)

    return do


def _edit(exchange: Exchange, strike: Strike) -> None:
    where, _, fields = (strike.code or "orders accFillSz=1e9").partition(" ")
    read_fields(fields)
    exchange.faults.edits.extend([Edit(where, fields)] * strike.times)


def _number(strike: Strike, default: str) -> Decimal:
    number = read_number(strike.code or default)
    if number is None:
        raise ValueError(f"{strike.code!r} is no number")
    return number


def _half(exchange: Exchange) -> Decimal:
    """Return half of the position, at least one lot; 0 for a flat account."""
    lot, pos = exchange.instrument.lot_sz, abs(exchange.engine.ledger.pos)
    return max(lot, pos / 2 // lot * lot) if pos else ZERO


def _by_risk_engine(
    do: Callable[[Exchange], object],
) -> Callable[[Exchange, Strike], object]:
    """Let the risk engine act on an account that holds something, as told of as the code says."""

    def quietly(exchange: Exchange, strike: Strike) -> None:
        usual = exchange.faults.quiet_risk_orders
        if exchange.engine.ledger.pos:
            exchange.faults.quiet_risk_orders = int(strike.code or usual)
            try:
                do(exchange)
            finally:
                exchange.faults.quiet_risk_orders = usual

    return quietly


def _change_instrument(exchange: Exchange, strike: Strike) -> None:
    changes = read_fields(strike.code or "tickSz=0.5")
    exchange.change_instrument(changed_instrument(exchange.instrument, changes))


def _trade_by_hand(exchange: Exchange, strike: Strike) -> None:
    """Trade ``times`` contracts; a limit order is a thousandth off the market. No margin: none."""
    side_name, _, kind = (strike.code or "buy").partition(" ")
    side, market = Side(side_name), exchange.engine.market
    px = market.on_grid(market.bid * (1 - side.sign * Decimal("0.001"))) if kind else None
    with suppress(Refused):
        by_hand.trade(exchange, side, Decimal(strike.times), px)


def _amend_by_hand(exchange: Exchange, strike: Strike) -> None:
    """Put an open order one lot higher and one tick further away."""
    if order := _drawn_order(exchange, strike):
        instrument = exchange.instrument
        px = None if order.px is None else order.px - order.side.sign * instrument.tick_sz
        with suppress(Refused):
            by_hand.amend(exchange, order.ord_id, sz=order.sz + instrument.lot_sz, px=px)


def _cancel_by_hand(exchange: Exchange, strike: Strike) -> None:
    if order := _drawn_order(exchange, strike):
        by_hand.cancel(exchange, order.ord_id)


def _drawn_order(exchange: Exchange, strike: Strike) -> Order | None:
    pending = exchange.engine.book.pending
    drawn = Random(f"{exchange.seed} {strike}")  # noqa: S311 - a simulation must be repeatable
    return drawn.choice(pending) if pending else None


def changed_instrument(instrument: Instrument, changes: Mapping[str, object]) -> Instrument:
    """Return an instrument with some fields changed, named as the exchange does.

    Raises:
        ValueError: a name that it has not, or what is no number above 0.
    """
    unknown = changes.keys() - _INSTRUMENT_FIELDS.keys()
    if unknown:
        raise ValueError(f"an instrument has no {', '.join(sorted(unknown))}")
    evolved: dict[str, Any] = {}
    for name, value in changes.items():
        number = read_number(value)
        if number is None or number <= 0:
            raise ValueError(f"{name} must be a number above 0")
        field = _INSTRUMENT_FIELDS[name]
        evolved[field] = int(number) if field == "inst_id_code" else number
    return attrs.evolve(instrument, **evolved)


_INSTRUMENT_FIELDS = {
    "tickSz": "tick_sz",
    "lotSz": "lot_sz",
    "minSz": "min_sz",
    "ctVal": "ct_val",
    "ctMult": "ct_mult",
    "instIdCode": "inst_id_code",
}


def _lag(exchange: Exchange, strike: Strike) -> None:
    until_ns = _until_ns(exchange, strike)
    exchange.faults.set_for("rest_lag_ms", _delay_ms(strike), until_ns)
    exchange.faults.set_for("rest_lag_only", strike.code, until_ns)


def _code_queries(exchange: Exchange, strike: Strike) -> None:
    code, _, only = (strike.code or "59999").partition(" ")
    until_ns = _until_ns(exchange, strike)
    exchange.faults.set_for("query_code", code, until_ns)
    exchange.faults.set_for("query_code_only", only, until_ns)


QUIET = ("", "1", "2")
UNKNOWN_OUTCOMES = ("50001", "50004", "50026", "51054", "51149", "64007")
REFUSALS = ("50011", "50013", "50061", "51008", "51030", "51149", "54109", "59113")
ROWS = ("", "state=mystery", "side=both", "ordType=iceberg", "category=rebate", "sz=0", "px=")
TIMES = ("0", "-1", "soon", "99999999999999999999", "1e300", "1790000000000.5")
ABSURD = (
    *("orders accFillSz=1e9", "orders sz=0", "orders sz=-3", "orders avgPx=", "orders fillSz=1e20"),
    *("positions pos=1e20", "positions uplRatio=NaN", "positions markPx=-1", "positions pos="),
    *("account cashBal=1e20", "account cashBal=-5", "account cashBal=nothing"),
    *("account/balance cashBal=1e20", "account/positions pos=1e20", "public/mark-price markPx=0"),
    *("trade/orders-pending accFillSz=1e9", "trade/orders-pending sz=-1", "trade/fills fillSz=-1"),
)

MENU: Mapping[Kind, Dish] = {
    Kind.CUT: Dish("lose every connection without a close frame", lambda e, _: e.faults.cut()),
    Kind.CLOSE: Dish(
        "close every WebSocket with this close code",
        lambda e, s: e.faults.close(int(s.code or 4006)),
        codes=("1009", "4002", "4004", "4005", "4006"),
    ),
    Kind.UPGRADE: Dish(
        "notice 64008, and the end of the connection delay_s later",
        lambda e, s: e.faults.announce_upgrade(s.delay_s or 60.0),
        delay_s=(60.0, 60.0),
    ),
    Kind.HALF_OPEN: Dish(
        "every WebSocket open now stays open, deaf and mute for good",
        lambda e, _: e.faults.half_open(),
    ),
    Kind.REFUSE_CONNECTIONS: Dish(
        "new connections are dropped before the handshake",
        _state("refuse_connections"),
        lasts_s=(0.5, 20.0),
    ),
    Kind.STALL: Dish(
        "frames and REST calls wait until it is over, then all go through in order",
        _state("held"),
        lasts_s=(0.2, 40.0),
    ),
    Kind.SILENCE: Dish(
        "what is sent in either direction is lost, connections stay open",
        _state("stalled"),
        lasts_s=(0.2, 40.0),
    ),
    Kind.SLOW: Dish(
        "every frame of the exchange is delay_s late, in order",
        _state("frame_delay_s", _delay_s),
        lasts_s=(1.0, 20.0),
        delay_s=(0.05, 3.0),
    ),
    Kind.GARBAGE: Dish("frames that mean nothing, or nothing good", _say_garbage, times=(1, 3)),
    Kind.LOGIN: Dish(
        "the next logins are refused with this code",
        lambda e, s: e.faults.login_codes.extend([s.code or "60009"] * s.times),
        times=(1, 2),
        codes=("60006", "60009", "63999"),
    ),
    Kind.CUT_BEFORE_OP: Dish("the socket is lost, the operation too", _count("cut_before_op")),
    Kind.CUT_AFTER_OP: Dish("the operation is done, the socket lost", _count("cut_after_op")),
    Kind.DROP_ACK: Dish("the operation is done, its answer lost", _count("drop_acks"), (1, 3)),
    Kind.LATE_ACK: Dish(
        "answers of operations are delay_s late, pushes overtake them",
        _state("ack_delay_s", _delay_s),
        lasts_s=(0.5, 10.0),
        delay_s=(0.05, 8.0),
    ),
    Kind.PUSH_BEFORE_ACK: Dish(
        "pushes come before the answer of the operation that caused them",
        _state("push_before_ack"),
        lasts_s=(1.0, 20.0),
    ),
    Kind.ANSWER: Dish(
        "submits get this code and are not executed",
        _answer(executed=False),
        (1, 3),
        codes=(*UNKNOWN_OUTCOMES, "50011", "50013"),
    ),
    Kind.ANSWER_EXECUTED: Dish(
        "submits get this code and are executed all the same",
        _answer(executed=True),
        (1, 2),
        codes=UNKNOWN_OUTCOMES,
    ),
    Kind.REFUSE: Dish(
        "orders are refused one by one with this sCode",
        lambda e, s: e.refuse_next(s.code or "51008", s.times),
        (1, 3),
        codes=REFUSALS,
    ),
    Kind.DROP_PUSH: Dish("orders pushes are lost", _count("miss_order_pushes"), (1, 3)),
    Kind.DROP_POSITION: Dish("positions events are lost", _count("miss_position_pushes"), (1, 3)),
    Kind.DROP_ACCOUNT: Dish("account events are lost", _count("miss_account_pushes"), (1, 3)),
    Kind.REPEAT_PUSH: Dish(
        "orders pushes come twice, with another uTime", _count("repeat_order_pushes"), (1, 3)
    ),
    Kind.ECHO_PUSH: Dish(
        "orders pushes come twice, the same to the letter", _count("echo_order_pushes"), (1, 3)
    ),
    Kind.LATE_PUSH: Dish(
        "orders pushes are overtaken by what comes within delay_s",
        _late("late_order_pushes"),
        (1, 3),
        delay_s=(0.05, 3.0),
    ),
    Kind.LATE_POSITION: Dish(
        "positions pushes come delay_s late, when the position may be another one",
        _late("late_position_pushes"),
        (1, 3),
        delay_s=(0.05, 6.0),
    ),
    Kind.SWAP_PUSHES: Dish(
        "an orders push changes places with the next one", _count("swap_order_pushes"), (1, 2)
    ),
    Kind.POSITIONS_FIRST: Dish(
        "positions and account are told before the orders push of the same match",
        _state("positions_first"),
        lasts_s=(1.0, 20.0),
    ),
    Kind.HANG: Dish(
        "a half-dead gateway: operations are read, never answered, and not executed",
        _state("ops_hang"),
        lasts_s=(5.0, 60.0),
    ),
    Kind.HANG_EXECUTED: Dish(
        "operations are read, executed and never answered",
        _state("ops_hang_executed"),
        lasts_s=(5.0, 60.0),
    ),
    Kind.DEAD_SUBSCRIPTIONS: Dish(
        "subscriptions end in channel-conn-count-error after the last ack",
        _state("dead_subscriptions"),
        lasts_s=(1.0, 60.0),
    ),
    Kind.ABSURD: Dish(
        "the next row of a channel or REST path has these values: 'orders sz=-1'",
        _edit,
        (1, 2),
        codes=ABSURD,
    ),
    Kind.FOREIGN_ORDER: Dish(
        "orders pushes and lists have one more row, of nobody here, with these values",
        _fields("foreign_order", "state=live"),
        lasts_s=(5.0, 60.0),
        codes=ROWS,
    ),
    Kind.FOREIGN_POSITION: Dish(
        "positions pushes and answers have one more row, of nobody here, with these values",
        _fields("foreign_position", "mgnMode=isolated"),
        lasts_s=(5.0, 60.0),
        codes=("", "mgnMode=isolated,posSide=sideways", "mgnMode=isolated,pos=", "mgnMode=quick"),
    ),
    Kind.FOREIGN_FILL: Dish(
        "lists of fills have one more row, of nobody here, with these values",
        _fields("foreign_fill", "side=buy"),
        lasts_s=(5.0, 60.0),
        codes=("", "side=both", "tradeId=", "fillSz=-1", "subType=999"),
    ),
    Kind.SUSPEND: Dish(
        "the instrument is suspended: orders get sCode 51022, REST tells its state",
        _state("suspended"),
        lasts_s=(1.0, 60.0),
    ),
    Kind.CLOCK: Dish(
        "the exchange's clock is delay_s ahead (below 0: behind)",
        _state("clock_skew_ms", _delay_ms),
        lasts_s=(1.0, 30.0),
        delay_s=(-45.0, 45.0),
    ),
    Kind.INSTRUMENT: Dish(
        "the instrument has other rules from now on: 'tickSz=0.5,lotSz=0.1'",
        _change_instrument,
        codes=("tickSz=0.5", "tickSz=0.1", "lotSz=0.1,minSz=0.1", "lotSz=0.01,minSz=0.01"),
    ),
    Kind.CLOCK_DRIFT: Dish(
        "the exchange's clock gains delay_s an hour (below 0: loses)",
        _state("clock_drift_ppm", lambda s: round(s.delay_s / 3600 * 1e6)),
        lasts_s=(60.0, 600.0),
        delay_s=(-20.0, 20.0),
    ),
    Kind.WRONG_TIME: Dish(
        "/public/time tells this instead of the time",
        _state("time_ts", lambda s: s.code or "0"),
        lasts_s=(1.0, 30.0),
        codes=TIMES,
    ),
    Kind.QUERY_CODE: Dish(
        "queries get this code: of all paths, or of one, as in '59999 public/time'",
        _code_queries,
        lasts_s=(1.0, 30.0),
        codes=("59999", "59999 public/time", "50011", "59999 trade/", "59999 account/"),
    ),
    Kind.REST_LAG: Dish(
        "REST tells of the state delay_s ago: all of it, or the paths with one of these parts",
        _lag,
        lasts_s=(1.0, 30.0),
        delay_s=(0.05, 12.0),
        codes=("", "", "trade/fills", "trade/order", "account/positions,account/bills"),
    ),
    Kind.REST_SLOW: Dish(
        "REST answers come delay_s late",
        _state("rest_delay_s", _delay_s),
        lasts_s=(1.0, 20.0),
        delay_s=(0.1, 15.0),
    ),
    Kind.REST_LOST: Dish(
        "POST calls are done, the connection is lost before the answer",
        _count("lost_rest_answers"),
        (1, 2),
    ),
    Kind.REST_ERROR: Dish(
        "REST calls get this HTTP status and the exchange's 50001, without effect",
        _rest(
            lambda s: RestAnswer(
                int(s.code or 503), b'{"code":"50001","msg":"Service unavailable","data":[]}'
            )
        ),
        (1, 5),
        codes=("500", "502", "503", "504"),
    ),
    Kind.REST_DOWN: Dish(
        "every REST call gets this HTTP status and an empty body, without effect",
        _state("rest_status", lambda s: int(s.code or 503)),
        lasts_s=(0.5, 10.0),
        codes=("500", "502", "503"),
    ),
    Kind.REST_HTML: Dish(
        "REST calls get a gateway's page instead of JSON, without effect",
        _rest(lambda s: RestAnswer(int(s.code or 502), HTML, "text/html")),
        (1, 5),
        codes=("502", "503", "504", "200"),
    ),
    Kind.REST_EMPTY: Dish(
        "REST calls get an empty body, done all the same",
        _rest(lambda s: RestAnswer(int(s.code or 200), executed=True)),
        (1, 3),
        codes=("200", "500"),
    ),
    Kind.ADL: Dish(
        "half of the position is taken by auto-deleveraging, told of as quiet_risk_orders says",
        _by_risk_engine(lambda e: e.deleverage(_half(e))),
        codes=QUIET,
    ),
    Kind.LIQUIDATION: Dish(
        "the position is liquidated, told of as quiet_risk_orders says",
        _by_risk_engine(lambda e: e.liquidate()),
        codes=QUIET,
    ),
    Kind.PARTIAL_LIQUIDATION: Dish(
        "half of the position is liquidated, told of as quiet_risk_orders says",
        _by_risk_engine(lambda e: e.liquidate(_half(e))),
        codes=QUIET,
    ),
    Kind.FUNDING: Dish(
        "a funding fee is settled at this rate",
        lambda e, s: e.fund(_number(s, "0.0001")),
        codes=("0.0001", "-0.0001", "0.003"),
    ),
    Kind.MARKET_MOVE: Dish(
        "the market moves by this many percent at once, and back lasts_s later",
        lambda e, s: e.move_market(_number(s, "-10"), back_after_s=s.lasts_s),
        lasts_s=(1.0, 60.0),
        codes=("-10", "10", "-3", "3", "-0.5", "0.5"),
    ),
    Kind.HAND_ORDER: Dish(
        "somebody else trades as many contracts as times says: 'buy', 'sell', 'buy limit'",
        _trade_by_hand,
        (1, 200),
        codes=("buy", "sell", "buy limit", "sell limit"),
    ),
    Kind.HAND_AMEND: Dish("somebody else amends an open order", _amend_by_hand),
    Kind.HAND_CANCEL: Dish("somebody else cancels an open order", _cancel_by_hand),
}


def strike(exchange: Exchange, what: Strike) -> None:
    """Let a fault happen now, whatever ``at_s`` says.

    Raises:
        ValueError: its code is not what its kind needs.
    """
    MENU[what.kind].do(exchange, what)
    exchange.struck.append(attrs.evolve(what, at_s=exchange.now_ms / 1000))
