"""What the kinds of faults do; ``catalog`` gives each its name, description and ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any

import attrs

from oms_trio.core.model import Instrument, Side
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults.kinds import FaultEvent
from oms_trio.testing.okx_server.faults.switches import (
    Counter,
    RestAnswer,
    RowEdit,
    Switch,
    read_fields,
)
from oms_trio.testing.okx_server.orders import external_orders
from oms_trio.testing.okx_server.orders.request_checks import RequestRejected, read_number
from oms_trio.testing.okx_server.values import ZERO, ExchangeOrder

Action = Callable[[SimulatedExchange, FaultEvent], object]

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

_INSTRUMENT_FIELDS = {
    "tickSz": "tick_sz",
    "lotSz": "lot_sz",
    "minSz": "min_sz",
    "ctVal": "ct_val",
    "ctMult": "ct_mult",
    "instIdCode": "inst_id_code",
}


# Switches, counters and queues of forced answers.


def count(counter: Counter) -> Action:
    """Return the action that lets a counted fault happen ``times`` more."""

    def act(exchange: SimulatedExchange, event: FaultEvent) -> None:
        left: int = getattr(exchange.faults, counter)
        setattr(exchange.faults, counter, left + event.times)

    return act


def count_late(counter: Counter) -> Action:
    """Return the action that makes the next ``times`` pushes ``delay_s`` late."""
    add = count(counter)

    def act(exchange: SimulatedExchange, event: FaultEvent) -> None:
        exchange.faults.push_delay_s = event.delay_s or exchange.faults.push_delay_s
        add(exchange, event)

    return act


def set_switch(
    switch: Switch, value: Callable[[FaultEvent], float | str] = lambda _: True
) -> Action:
    """Return the action that sets a switch for ``duration_s``."""

    def act(exchange: SimulatedExchange, event: FaultEvent) -> None:
        exchange.faults.set_for(switch, value(event), _until_ns(exchange, event))

    return act


def set_fields(switch: Switch, default: str) -> Action:
    """Return the action that sets a switch to the row fields which ``code`` lists."""

    def value(event: FaultEvent) -> str:
        read_fields(event.code)
        return event.code or default

    return set_switch(switch, value)


def set_rest_lag(exchange: SimulatedExchange, event: FaultEvent) -> None:
    """Let REST lag by ``delay_s``, on the paths that ``code`` names."""
    until_ns = _until_ns(exchange, event)
    exchange.faults.set_for("rest_lag_ms", delay_ms(event), until_ns)
    exchange.faults.set_for("rest_lag_only", event.code, until_ns)


def set_query_code(exchange: SimulatedExchange, event: FaultEvent) -> None:
    """Answer queries with the first word of ``code``, on the paths that follow it."""
    code, _, only = (event.code or "59999").partition(" ")
    until_ns = _until_ns(exchange, event)
    exchange.faults.set_for("query_code", code, until_ns)
    exchange.faults.set_for("query_code_only", only, until_ns)


def answer_submits(*, executed: bool) -> Action:
    """Return the action that forces the answer to the next ``times`` submits."""

    def act(exchange: SimulatedExchange, event: FaultEvent) -> None:
        exchange.faults.answer_submits(event.code or "50001", event.times, executed=executed)

    return act


def answer_rest(answer: Callable[[FaultEvent], RestAnswer]) -> Action:
    """Return the action that forces the answer to the next ``times`` REST calls."""

    def act(exchange: SimulatedExchange, event: FaultEvent) -> None:
        exchange.faults.rest_answers.extend([answer(event)] * event.times)

    return act


def edit_rows(exchange: SimulatedExchange, event: FaultEvent) -> None:
    """Change the next ``times`` rows of a channel or path, as in ``orders accFillSz=1e9``."""
    where, _, fields = (event.code or "orders accFillSz=1e9").partition(" ")
    read_fields(fields)
    exchange.faults.edits.extend([RowEdit(where, fields)] * event.times)


def send_garbage(exchange: SimulatedExchange, event: FaultEvent) -> None:
    """Send ``times`` frames of ``GARBAGE`` to every WebSocket."""
    random = _random(exchange, event)
    for _ in range(event.times):
        exchange.faults.send_raw(random.choice(GARBAGE))


# What happens to the account, the market and the instrument.


def by_risk_engine(act: Callable[[SimulatedExchange], object]) -> Action:
    """Return an action of the risk engine, hidden as ``code`` says; nothing happens when flat."""

    def act_hidden(exchange: SimulatedExchange, event: FaultEvent) -> None:
        usual = exchange.faults.hide_risk_orders
        if exchange.engine.ledger.pos:
            exchange.faults.hide_risk_orders = int(event.code or usual)
            try:
                act(exchange)
            finally:
                exchange.faults.hide_risk_orders = usual

    return act_hidden


def half_position(exchange: SimulatedExchange) -> Decimal:
    """Return half of the position, at least one lot; 0 when flat."""
    lot, pos = exchange.instrument.lot_sz, abs(exchange.engine.ledger.pos)
    return max(lot, pos / 2 // lot * lot) if pos else ZERO


def change_instrument(exchange: SimulatedExchange, event: FaultEvent) -> None:
    """Change the instrument's rules to those that ``code`` lists."""
    changes = read_fields(event.code or "tickSz=0.5")
    exchange.change_instrument(changed_instrument(exchange.instrument, changes))


def changed_instrument(instrument: Instrument, changes: Mapping[str, object]) -> Instrument:
    """Return an instrument with some fields changed; ``changes`` has the exchange's names.

    Raises:
        ValueError: an unknown name, or a value that is not a number above 0.
    """
    unknown = changes.keys() - _INSTRUMENT_FIELDS.keys()
    if unknown:
        names = ", ".join(_INSTRUMENT_FIELDS)
        raise ValueError(f"unknown instrument field {min(unknown)}: expected one of {names}")
    evolved: dict[str, Any] = {}
    for name, value in changes.items():
        number = read_number(value)
        if number is None or number <= 0:
            raise ValueError(f"{name} must be a number above 0, not {value!r}")
        field = _INSTRUMENT_FIELDS[name]
        evolved[field] = int(number) if field == "inst_id_code" else number
    return attrs.evolve(instrument, **evolved)


def place_external_order(exchange: SimulatedExchange, event: FaultEvent) -> None:
    """Trade ``times`` contracts; a limit order is 0.1 % off the market.

    Nothing happens when the margin does not suffice.
    """
    side_name, _, ord_type = (event.code or "buy").partition(" ")
    side, market = Side(side_name), exchange.engine.market
    px = market.on_grid(market.bid * (1 - side.sign * Decimal("0.001"))) if ord_type else None
    with suppress(RequestRejected):
        external_orders.trade(exchange, side, Decimal(event.times), px)


def amend_external(exchange: SimulatedExchange, event: FaultEvent) -> None:
    """Make an open order one lot larger and its price one tick less aggressive."""
    if order := _draw_order(exchange, event):
        instrument = exchange.instrument
        px = None if order.px is None else order.px - order.side.sign * instrument.tick_sz
        with suppress(RequestRejected):
            external_orders.amend(exchange, order.ord_id, sz=order.sz + instrument.lot_sz, px=px)


def cancel_external(exchange: SimulatedExchange, event: FaultEvent) -> None:
    """Cancel an open order."""
    if order := _draw_order(exchange, event):
        external_orders.cancel(exchange, order.ord_id)


# Values that events carry.


def delay_s(event: FaultEvent) -> float:
    """Return the delay in seconds."""
    return event.delay_s


def delay_ms(event: FaultEvent) -> float:
    """Return the delay in whole milliseconds."""
    return round(event.delay_s * 1000)


def number(event: FaultEvent, default: str) -> Decimal:
    """Read ``code`` as a number.

    Raises:
        ValueError: it is something else.
    """
    value = read_number(event.code or default)
    if value is None:
        raise ValueError(f"code must be a number, not {event.code!r}")
    return value


def _until_ns(exchange: SimulatedExchange, event: FaultEvent) -> int | None:
    return exchange.clock() + round(event.duration_s * 1e9) if event.duration_s else None


def _draw_order(exchange: SimulatedExchange, event: FaultEvent) -> ExchangeOrder | None:
    pending = exchange.engine.book.pending
    return _random(exchange, event).choice(pending) if pending else None


def _random(exchange: SimulatedExchange, event: FaultEvent) -> Random:
    return Random(f"{exchange.seed} {event}")  # noqa: S311 - a simulation must be repeatable
