"""Control calls under ``/sim/``: a test, or a person, drives an exchange in another process.

They are answered on loopback only, need no signature, and are never struck by faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qsl, urlsplit

import attrs
import msgspec

from oms_trio.sim.exchange import Exchange, Mode
from oms_trio.sim.menu import MENU, strike
from oms_trio.sim.pushes import JsonObject
from oms_trio.sim.rest import Response
from oms_trio.sim.strikes import Strike
from oms_trio.sim.values import text

PREFIX = "/sim/"


class BadCallError(Exception):
    """A control call that says something that can not be done; the text says what."""


Arguments = Mapping[str, object]


def handle(
    exchange: Exchange, method: str, target: str, body: bytes, *, is_local: bool
) -> Response:
    """Answer one control call: JSON, or the truth as JSON lines; 400 says what is wrong."""
    split = urlsplit(target)
    do = CALLS.get((method, split.path.removeprefix(PREFIX)))
    if not is_local:
        return _answer({"error": "control calls are for this machine only"}, 403)
    if do is None:
        calls = [f"{name} {PREFIX}{path}" for name, path in CALLS]
        return _answer({"error": "no such call", "calls": calls}, 404)
    try:
        arguments: Arguments = dict(parse_qsl(split.query))
        if method == "POST" and body:
            arguments = msgspec.json.decode(body, type=dict[str, object])
        done = do(exchange, arguments)
    except (BadCallError, LookupError, ValueError) as error:
        return _answer({"error": str(error)}, 400)
    if isinstance(done, bytes):
        return Response(200, done, "application/x-ndjson")
    return _answer({"done": True} if done is None else done, 200)


def state(exchange: Exchange, _arguments: Arguments) -> JsonObject:
    """``GET state``: the exchange at a glance."""
    engine = exchange.engine
    account, market = engine.account_view(), engine.market
    return {
        "now": exchange.now_ms,
        "mode": exchange.mode.value,
        "seed": exchange.seed,
        "bid": text(market.bid),
        "ask": text(market.ask),
        "markPx": text(market.mark_px),
        "pos": text(engine.ledger.pos),
        "cashBal": text(account.cash_bal),
        "eq": text(account.eq),
        "lever": text(engine.ledger.lever),
        "posMode": exchange.pos_mode,
        "pending": [order.ord_id for order in engine.book.pending],
        "connections": len(exchange.faults.connections),
        "channels": dict(exchange.channel_connections),
        "truth": len(exchange.truth),
    }


def truth(exchange: Exchange, arguments: Arguments) -> bytes:
    """``GET truth``: every change of every order as JSON lines, from line ``start`` on."""
    return exchange.truth.dump(_whole(arguments, "start", 0))


def faults(exchange: Exchange, _arguments: Arguments) -> JsonObject:
    """``GET faults``: the menu, the switches that are not off, and what was struck so far."""
    return {
        "menu": {kind.value: dish.tells for kind, dish in MENU.items()},
        "on": {name: value for name, value in exchange.faults.switches().items() if value},
        "struck": [attrs.asdict(each) for each in exchange.struck],
    }


def strike_now(exchange: Exchange, arguments: Arguments) -> None:
    """``POST faults``: one strike, ``{"kind": "stall", "lasts_s": 5}``."""
    try:
        what = msgspec.convert(arguments, Strike)
    except msgspec.ValidationError as error:
        raise BadCallError(str(error)) from None
    strike(exchange, what)


def calm(exchange: Exchange, _arguments: Arguments) -> None:
    """``DELETE faults``: every switch off."""
    exchange.faults.calm()


def fill(exchange: Exchange, arguments: Arguments) -> None:
    """``POST fill``: match ``sz`` contracts of ``order`` (ordId or clOrdId) at ``px``."""
    name = str(arguments.get("order", ""))
    exchange.fill(name, _decimal(arguments, "sz"), _decimal(arguments, "px"))


def price(exchange: Exchange, arguments: Arguments) -> None:
    """``POST price``: put the market at ``px``; in auto mode what it reaches fills."""
    exchange.set_price(_decimal(arguments, "px"))


def position(exchange: Exchange, arguments: Arguments) -> None:
    """``POST position``: mark the position to this ``uplRatio`` and push it at once."""
    exchange.push_position(_decimal(arguments, "uplRatio"))


def mode(exchange: Exchange, arguments: Arguments) -> None:
    """``POST mode``: ``auto`` lets the market move and fill, ``manual`` waits for calls."""
    exchange.mode = Mode(str(arguments.get("mode", "")))


def adl(exchange: Exchange, arguments: Arguments) -> None:
    """``POST adl``: take ``sz`` contracts of the position by auto-deleveraging."""
    exchange.deleverage(_decimal(arguments, "sz"))


def liquidation(exchange: Exchange, _arguments: Arguments) -> None:
    """``POST liquidation``: close the position by the risk engine."""
    exchange.liquidate()


def funding(exchange: Exchange, arguments: Arguments) -> None:
    """``POST funding``: settle a funding fee at this ``rate``."""
    exchange.fund(_decimal(arguments, "rate"))


CALLS: Mapping[tuple[str, str], Callable[[Exchange, Arguments], JsonObject | bytes | None]] = {
    ("GET", "state"): state,
    ("GET", "truth"): truth,
    ("GET", "faults"): faults,
    ("POST", "faults"): strike_now,
    ("DELETE", "faults"): calm,
    ("POST", "fill"): fill,
    ("POST", "price"): price,
    ("POST", "position"): position,
    ("POST", "mode"): mode,
    ("POST", "adl"): adl,
    ("POST", "liquidation"): liquidation,
    ("POST", "funding"): funding,
}


def _answer(answer: JsonObject, status: int) -> Response:
    return Response(status, msgspec.json.encode(answer))


def _decimal(arguments: Arguments, name: str) -> Decimal:
    try:
        number = Decimal(str(arguments.get(name, "")))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > 15:
        raise BadCallError(f"{name} must be a number")
    return number


def _whole(arguments: Arguments, name: str, default: int) -> int:
    value = str(arguments.get(name, default))
    if not value.isdecimal():
        raise BadCallError(f"{name} must be a whole number")
    return int(value)
