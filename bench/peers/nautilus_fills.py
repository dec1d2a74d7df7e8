"""NautilusTrader: the same fills (a buy that opens, a sell that closes) on decoded values.

engine    ``ExecutionEngine.process(OrderFilled)``: cache, order, position, portfolio messages
objects   ``order.apply`` and ``Position`` alone, the least that keeps both right

The argument is the number of fills. Prints nanoseconds, one for each.
"""

from __future__ import annotations

import json
import sys
import time

from nautilus_trader.common.component import MessageBus, TestClock
from nautilus_trader.execution.engine import ExecutionEngine
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import PositionId
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.model.position import Position
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.test_kit.stubs.component import TestComponentStubs
from nautilus_trader.test_kit.stubs.events import TestEventStubs
from nautilus_trader.test_kit.stubs.execution import TestExecStubs
from nautilus_trader.test_kit.stubs.identifiers import TestIdStubs

INSTRUMENT = TestInstrumentProvider.btcusdt_perp_binance()
SZ = Quantity.from_str("0.100")


def prepared(number: int) -> object:
    """Make an accepted order."""
    order = TestExecStubs.limit_order(
        instrument=INSTRUMENT,
        order_side=OrderSide.BUY if number % 2 == 0 else OrderSide.SELL,
        price=Price.from_str("67000.0" if number % 2 == 0 else "67010.5"),
        quantity=SZ,
        client_order_id=TestIdStubs.client_order_id(number + 1),
    )
    order.apply(TestEventStubs.order_submitted(order))
    order.apply(TestEventStubs.order_accepted(order, venue_order_id=TestIdStubs.venue_order_id()))
    return order


def filled(order: object) -> object:
    """Make its fill."""
    return TestEventStubs.order_filled(
        order,
        INSTRUMENT,
        last_px=order.price,  # type: ignore[attr-defined]
        last_qty=SZ,
        position_id=PositionId("P-1"),
    )


def engine(count: int) -> list[int]:
    """Process fills."""
    clock = TestClock()
    bus = MessageBus(trader_id=TestIdStubs.trader_id(), clock=clock)
    cache = TestComponentStubs.cache()
    cache.add_instrument(INSTRUMENT)
    cache.add_account(TestExecStubs.margin_account())
    executing = ExecutionEngine(msgbus=bus, cache=cache, clock=clock)
    executing.start()
    costs = []
    for number in range(count):
        order = prepared(number)
        cache.add_order(order, PositionId("P-1"))
        fill = filled(order)
        began = time.perf_counter_ns()
        executing.process(fill)
        costs.append(time.perf_counter_ns() - began)
    assert cache.positions_total_count() == 1
    return costs


def objects(count: int) -> list[int]:
    """Apply fills to an order and its position."""
    costs = []
    position: Position | None = None
    for number in range(count):
        order = prepared(number)
        fill = filled(order)
        began = time.perf_counter_ns()
        order.apply(fill)  # type: ignore[attr-defined]
        if position is None or position.is_closed:
            position = Position(INSTRUMENT, fill)
        else:
            position.apply(fill)
        costs.append(time.perf_counter_ns() - began)
    return costs


def main() -> None:
    """Run both."""
    count = int(sys.argv[1])
    print(json.dumps({"engine": engine(count), "objects": objects(count)}))  # noqa: T201


if __name__ == "__main__":
    main()
