"""Control calls under ``/sim/``: they drive an exchange in another process.

They are answered on loopback only, need no signature, and are not subject to faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit

import attrs
import msgspec

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.faults.actions import changed_instrument
from oms_trio.testing.okx_server.faults.catalog import FAULT_SPECS, inject
from oms_trio.testing.okx_server.faults.kinds import FaultEvent
from oms_trio.testing.okx_server.orders import external_orders
from oms_trio.testing.okx_server.orders.request_checks import RequestRejected, read_number
from oms_trio.testing.okx_server.rest.router import RestResponse
from oms_trio.testing.okx_server.values import JsonObject, text

PREFIX = "/sim/"


class ControlCallError(Exception):
    """A control call cannot be executed; the message says why."""


Arguments = Mapping[str, object]


def handle(
    exchange: SimulatedExchange, method: str, target: str, body: bytes, *, is_local: bool
) -> RestResponse:
    """Execute one control call: JSON, or the ground truth as JSON lines; errors have status 400."""
    split = urlsplit(target)
    do = CALLS.get((method, split.path.removeprefix(PREFIX)))
    if not is_local:
        return _answer({"error": "control calls are accepted from this machine only"}, 403)
    if do is None:
        calls = [f"{name} {PREFIX}{path}" for name, path in CALLS]
        return _answer({"error": "unknown control call", "calls": calls}, 404)
    try:
        arguments: Arguments = dict(parse_qsl(split.query))
        if method == "POST" and body:
            arguments = msgspec.json.decode(body, type=dict[str, object])
        done = do(exchange, arguments)
    except (ControlCallError, LookupError, ValueError) as error:
        return _answer({"error": str(error)}, 400)
    except RequestRejected as rejected:
        return _answer({"error": f"{rejected.code} {rejected.msg}"}, 400)
    if isinstance(done, bytes):
        return RestResponse(200, done, "application/x-ndjson")
    return _answer({"done": True} if done is None else done, 200)


def state(exchange: SimulatedExchange, _arguments: Arguments) -> JsonObject:
    """``GET state``: market, account, settings and connections."""
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
        "groundTruthLines": len(exchange.ground_truth),
    }


def ground_truth(exchange: SimulatedExchange, arguments: Arguments) -> bytes:
    """``GET ground-truth``: every change of every order as JSON lines, from line ``start`` on."""
    return exchange.ground_truth.dump(_whole(arguments, "start", 0))


def account(exchange: SimulatedExchange, arguments: Arguments) -> JsonObject:
    """``GET account``: position, cash and mark at a true time (``at``, ms), or now."""
    at_ns = _whole(arguments, "at", exchange.true_ms) * 1_000_000
    moment = exchange.ground_truth.at(at_ns) if "at" in arguments else exchange.engine.account_now()
    if moment is None:
        raise ControlCallError("at is before the first entry of the ground truth")
    return {
        "pos": text(moment.pos),
        "avgPx": "" if moment.avg_px is None else text(moment.avg_px),
        "cashBal": text(moment.cash_bal),
        "markPx": text(moment.mark_px),
    }


def faults(exchange: SimulatedExchange, _arguments: Arguments) -> JsonObject:
    """``GET faults``: the catalog, the switches that are on, and the faults injected so far."""
    return {
        "catalog": {kind.value: spec.description for kind, spec in FAULT_SPECS.items()},
        "on": {name: value for name, value in exchange.faults.switches().items() if value},
        "injected": [attrs.asdict(each) for each in exchange.injected],
    }


def inject_fault(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST faults``: inject one fault, such as ``{"kind": "stall", "duration_s": 5}``."""
    try:
        what = msgspec.convert(arguments, FaultEvent)
    except msgspec.ValidationError as error:
        raise ControlCallError(str(error)) from None
    inject(exchange, what)


def clear_faults(exchange: SimulatedExchange, _arguments: Arguments) -> None:
    """``DELETE faults``: reset every switch."""
    exchange.faults.clear()


def fill(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST fill``: match ``sz`` contracts of ``order`` (ordId or clOrdId) at ``px``."""
    name = str(arguments.get("order", ""))
    exchange.fill(name, _decimal(arguments, "sz"), _decimal(arguments, "px"))


def price(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST price``: set the market to ``px``; in auto mode the orders that it reaches fill."""
    exchange.set_price(_decimal(arguments, "px"))


def position(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST position``: mark the position to this ``uplRatio`` and push it at once."""
    exchange.push_position(_decimal(arguments, "uplRatio"))


def mode(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST mode``: ``auto`` lets the market move and fill, ``manual`` leaves both to calls."""
    exchange.mode = MatchingMode(str(arguments.get("mode", "")))


def adl(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST adl``: close ``sz`` contracts of the position by auto-deleveraging."""
    exchange.deleverage(_decimal(arguments, "sz"))


def liquidation(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST liquidation``: close the position, or ``sz`` contracts, by the risk engine."""
    exchange.liquidate(_optional(arguments, "sz"))


def funding(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST funding``: settle a funding fee now, at this ``rate`` or the scheduled one."""
    exchange.fund(_optional(arguments, "rate"))


def funding_schedule(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST funding-schedule``: settle at this ``rate`` every ``everyS`` seconds from now on."""
    rate, every_s = _decimal(arguments, "rate"), _optional(arguments, "everyS")
    if every_s is not None and every_s <= 0:
        raise ControlCallError(f"everyS must be above 0, not {every_s}")
    exchange.funding_rate = rate
    if every_s is not None:
        exchange.funding_every_ms = round(every_s * 1000)


def move(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST move``: move the market by ``percent`` at once, and back ``backS`` seconds later."""
    back_s = _optional(arguments, "backS") or Decimal(0)
    exchange.move_market(_decimal(arguments, "percent"), back_after_s=float(back_s))


def instrument(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST instrument``: change ``tickSz``, ``lotSz``, ``ctVal``, ... from now on."""
    exchange.change_instrument(changed_instrument(exchange.instrument, arguments))


def order(exchange: SimulatedExchange, arguments: Arguments) -> JsonObject:
    """``POST order``: place an order of another client, at ``px`` or at market."""
    side = Side(str(arguments.get("side", "")))
    placed = external_orders.trade(
        exchange, side, _decimal(arguments, "sz"), _optional(arguments, "px")
    )
    return {"ordId": placed.ord_id}


def amend(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST amend``: amend ``order`` as another client, to a new ``sz``, ``px`` or both."""
    name = str(arguments.get("order", ""))
    new_sz, new_px = _optional(arguments, "sz"), _optional(arguments, "px")
    if new_sz is None and new_px is None:
        raise ControlCallError("sz or px is required")
    external_orders.amend(exchange, name, sz=new_sz, px=new_px)


def cancel(exchange: SimulatedExchange, arguments: Arguments) -> None:
    """``POST cancel``: cancel ``order`` as another client."""
    external_orders.cancel(exchange, str(arguments.get("order", "")))


CALLS: Mapping[
    tuple[str, str], Callable[[SimulatedExchange, Arguments], JsonObject | bytes | None]
] = {
    ("GET", "state"): state,
    ("GET", "ground-truth"): ground_truth,
    ("GET", "account"): account,
    ("GET", "faults"): faults,
    ("POST", "faults"): inject_fault,
    ("DELETE", "faults"): clear_faults,
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


def _answer(answer: JsonObject, status: int) -> RestResponse:
    return RestResponse(status, msgspec.json.encode(answer))


def _decimal(arguments: Arguments, name: str) -> Decimal:
    number = read_number(arguments.get(name))
    if number is None:
        raise ControlCallError(f"{name} must be a number, not {arguments.get(name)!r}")
    return number


def _optional(arguments: Arguments, name: str) -> Decimal | None:
    return _decimal(arguments, name) if arguments.get(name) is not None else None


def _whole(arguments: Arguments, name: str, default: int) -> int:
    value = str(arguments.get(name, default))
    if not value.isdecimal():
        raise ControlCallError(f"{name} must be a whole number, not {value!r}")
    return int(value)
