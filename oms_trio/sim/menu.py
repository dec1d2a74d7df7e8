"""The fault menu: what can be struck, by name, at once or for a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import attrs

from oms_trio.sim.exchange import Exchange
from oms_trio.sim.faults import Counter, RestAnswer, Switch
from oms_trio.sim.strikes import Kind, Strike

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
    switch: Switch, value: Callable[[Strike], float] = lambda _: True
) -> Callable[[Exchange, Strike], object]:
    def do(exchange: Exchange, strike: Strike) -> None:
        until_ns = exchange.clock() + round(strike.lasts_s * 1e9) if strike.lasts_s else None
        exchange.faults.set_for(switch, value(strike), until_ns)

    return do


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


def _deleverage(exchange: Exchange, _strike: Strike) -> None:
    """Take half of the position, at least one lot; nothing happens to a flat account."""
    lot = exchange.instrument.lot_sz
    pos = abs(exchange.engine.ledger.pos)
    if pos:
        exchange.deleverage(max(lot, pos / 2 // lot * lot))


def _liquidate(exchange: Exchange, _strike: Strike) -> None:
    if exchange.engine.ledger.pos:
        exchange.liquidate()


UNKNOWN_OUTCOMES = ("50001", "50004", "50026", "51054", "51149", "64007")
REFUSALS = ("50011", "50013", "50061", "51008", "51030", "51149")

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
    Kind.REST_LAG: Dish(
        "REST tells of the state delay_s ago",
        _state("rest_lag_ms", _delay_ms),
        lasts_s=(1.0, 30.0),
        delay_s=(0.05, 5.0),
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
    Kind.ADL: Dish("half of the position is taken by auto-deleveraging", _deleverage),
    Kind.LIQUIDATION: Dish("the position is liquidated", _liquidate),
}


def strike(exchange: Exchange, what: Strike) -> None:
    """Let a fault happen now, whatever ``at_s`` says.

    Raises:
        ValueError: its code is no number where one is needed.
    """
    MENU[what.kind].do(exchange, what)
    exchange.struck.append(attrs.evolve(what, at_s=exchange.now_ms / 1000))
