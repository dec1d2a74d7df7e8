"""Control calls under ``/sim/``: a test, or a person, drives an exchange in another process.

They are answered on loopback only, need no signature, and are never struck by faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit

import attrs
import msgspec

from oms_trio.core.model import Side
from oms_trio.testing.okx_server import by_hand
from oms_trio.testing.okx_server.exchange import Exchange, Mode
from oms_trio.testing.okx_server.faults.catalog import MENU, changed_instrument, strike
from oms_trio.testing.okx_server.faults.specs import Strike
from oms_trio.testing.okx_server.orders.admission import Refused, read_number
from oms_trio.testing.okx_server.rest.router import Response
from oms_trio.testing.okx_server.values import text
from oms_trio.testing.okx_server.ws.pushes import JsonObject

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
    except Refused as refused:
        return _answer({"error": f"{refused.code} {refused.msg}"}, 400)
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
        "mgnRatio": "" if account.mgn_ratio is None else text(account.mgn_ratio),
        "uid": exchange.account.uid,
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


def account(exchange: Exchange, arguments: Arguments) -> JsonObject:
    """``GET account``: position, cash and mark at a true time (``at``, ms), or now."""
    at_ns = _whole(arguments, "at", exchange.steady_ms) * 1_000_000
    moment = exchange.truth.at(at_ns) if "at" in arguments else exchange.engine.moment()
    if moment is None:
        raise BadCallError("nothing had happened by then")
    return {
        "pos": text(moment.pos),
        "avgPx": "" if moment.avg_px is None else text(moment.avg_px),
        "cashBal": text(moment.cash_bal),
        "markPx": text(moment.mark_px),
    }


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


def liquidation(exchange: Exchange, arguments: Arguments) -> None:
    """``POST liquidation``: close the position, or ``sz`` contracts, by the risk engine."""
    exchange.liquidate(_optional(arguments, "sz"))


def funding(exchange: Exchange, arguments: Arguments) -> None:
    """``POST funding``: settle a funding fee now, at this ``rate`` or the one that is set."""
    exchange.fund(_optional(arguments, "rate"))


def funding_schedule(exchange: Exchange, arguments: Arguments) -> None:
    """``POST funding-schedule``: settle at this ``rate`` every ``everyS`` seconds from now on."""
    rate, every_s = _decimal(arguments, "rate"), _optional(arguments, "everyS")
    if every_s is not None and every_s <= 0:
        raise BadCallError("everyS must be above 0")
    exchange.funding_rate = rate
    if every_s is not None:
        exchange.funding_every_ms = round(every_s * 1000)


def move(exchange: Exchange, arguments: Arguments) -> None:
    """``POST move``: move the market by ``percent`` at once, and back ``backS`` seconds later."""
    back_s = _optional(arguments, "backS") or Decimal(0)
    exchange.move_market(_decimal(arguments, "percent"), back_after_s=float(back_s))


def instrument(exchange: Exchange, arguments: Arguments) -> None:
    """``POST instrument``: other ``tickSz``, ``lotSz``, ``ctVal``, ... from now on."""
    exchange.change_instrument(changed_instrument(exchange.instrument, arguments))


def order(exchange: Exchange, arguments: Arguments) -> JsonObject:
    """``POST order``: somebody else's order of this ``side`` and ``sz``, at ``px`` or market."""
    side = Side(str(arguments.get("side", "")))
    placed = by_hand.trade(exchange, side, _decimal(arguments, "sz"), _optional(arguments, "px"))
    return {"ordId": placed.ord_id}


def amend(exchange: Exchange, arguments: Arguments) -> None:
    """``POST amend``: somebody else amends ``order`` to a new ``sz``, ``px`` or both."""
    name = str(arguments.get("order", ""))
    new_sz, new_px = _optional(arguments, "sz"), _optional(arguments, "px")
    if new_sz is None and new_px is None:
        raise BadCallError("sz or px must be given")
    by_hand.amend(exchange, name, sz=new_sz, px=new_px)


def cancel(exchange: Exchange, arguments: Arguments) -> None:
    """``POST cancel``: somebody else cancels ``order``."""
    by_hand.cancel(exchange, str(arguments.get("order", "")))


CALLS: Mapping[tuple[str, str], Callable[[Exchange, Arguments], JsonObject | bytes | None]] = {
    ("GET", "state"): state,
    ("GET", "truth"): truth,
    ("GET", "account"): account,
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
    ("POST", "funding-schedule"): funding_schedule,
    ("POST", "move"): move,
    ("POST", "instrument"): instrument,
    ("POST", "order"): order,
    ("POST", "amend"): amend,
    ("POST", "cancel"): cancel,
}


def _answer(answer: JsonObject, status: int) -> Response:
    return Response(status, msgspec.json.encode(answer))


def _decimal(arguments: Arguments, name: str) -> Decimal:
    number = read_number(arguments.get(name))
    if number is None:
        raise BadCallError(f"{name} must be a number")
    return number


def _optional(arguments: Arguments, name: str) -> Decimal | None:
    return _decimal(arguments, name) if arguments.get(name) is not None else None


def _whole(arguments: Arguments, name: str, default: int) -> int:
    value = str(arguments.get(name, default))
    if not value.isdecimal():
        raise BadCallError(f"{name} must be a whole number")
    return int(value)
