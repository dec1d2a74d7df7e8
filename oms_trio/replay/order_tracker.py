"""Whole orders, put together over many steps and reported when they end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from oms_trio.core.events import (
    AccountUpdate,
    Action,
    CancelAnswer,
    Event,
    ExchangeSnapshot,
    LookupAnswer,
    OrderAnswer,
    OrderUpdate,
    PositionUpdate,
    Verdict,
)
from oms_trio.core.model import ClOrdId
from oms_trio.core.orders import ENDED_KEPT, OrderInfo
from oms_trio.core.state import TradeState
from oms_trio.replay.recordings.recording import PlayedStep


@attrs.define
class OrderHistory:
    """When what happened to one order, by our clock; ``info`` is its present state.

    ``received_ns`` is when the broker delivered its action; None for an order that was found on the
    exchange.
    """

    info: OrderInfo
    received_ns: int | None = None
    acked_ns: int | None = None
    first_fill_ns: int | None = None
    ended_ns: int | None = None


def ignore(_history: OrderHistory) -> None:
    """Do nothing."""


@attrs.define
class OrderTracker:
    """Follows orders; each callback is called once per order.

    ``on_ended`` is called when an order has ended and all its fills are booked. Kept are the open
    orders, and the names of as many ended ones as the trade state itself keeps.
    """

    on_ended: Callable[[OrderHistory], object] = ignore
    on_ack: Callable[[OrderHistory], object] = ignore
    on_first_fill: Callable[[OrderHistory], object] = ignore
    open: dict[ClOrdId, OrderHistory] = attrs.Factory(dict)
    _ended: dict[ClOrdId, None] = attrs.Factory(dict)

    def __call__(self, played: PlayedStep) -> None:
        """See ``Watcher``."""
        state, at_ns = played.state, played.step.at_ns
        touched = {
            order.cl_ord_id: order
            for event in played.step.journaled_input.events
            for order in self._touched(event, state, at_ns)
        }
        for booked in played.booked:
            if (order := state.orders.find(booked.cl_ord_id)) is not None:
                touched[booked.cl_ord_id] = order
        for name, order in touched.items():
            if name not in self.open and (name in state.orders.open or name not in self._ended):
                self.open[name] = OrderHistory(order)
        for event in played.step.journaled_input.events:
            self._note(event, at_ns)
        for booked in played.booked:
            self._note_fill(booked.cl_ord_id, at_ns)
        for name in touched:
            if name in self.open and name not in state.orders.open:
                self._end(name, at_ns)

    def _touched(self, event: Event, state: TradeState, now_ns: int) -> Iterator[OrderInfo]:
        """Return the orders that an input may have changed."""
        orders = state.orders
        found: Iterable[OrderInfo | None]
        match event:
            case PositionUpdate() | AccountUpdate():
                found = ()
            case OrderUpdate(report=report):
                found = (orders.find(report.cl_ord_id or None, report.ord_id),)
            case (
                OrderAnswer(cl_ord_id=name)
                | CancelAnswer(cl_ord_id=name)
                | LookupAnswer(cl_ord_id=name)
            ):
                found = (orders.find(name),)
            case Action():
                newest = next(reversed(orders.open.values()), None)
                found = (newest,) if newest and newest.created_ns == now_ns else ()
            case ExchangeSnapshot():
                named = (orders.find(one.cl_ord_id or None, one.ord_id) for one in event.orders)
                found = (*orders, *(history.info for history in self.open.values()), *named)
            case _:
                found = [history.info for history in self.open.values()]
        return (order for order in found if order is not None)

    def _note(self, event: Event, now_ns: int) -> None:
        match event:
            case Action():
                history = next(reversed(self.open.values()), None)
                if history is not None and history.info.created_ns == now_ns:
                    history.received_ns = event.received_ns
            case OrderAnswer(verdict=Verdict.ACCEPTED):
                history = self.open.get(event.cl_ord_id)
                if history is not None and history.acked_ns is None:
                    history.acked_ns = now_ns
                    self.on_ack(history)
            case _:
                pass

    def _note_fill(self, name: ClOrdId, at_ns: int) -> None:
        history = self.open.get(name)
        if history is not None and history.first_fill_ns is None:
            history.first_fill_ns = at_ns
            self.on_first_fill(history)

    def _end(self, name: ClOrdId, at_ns: int) -> None:
        history = self.open.pop(name)
        history.ended_ns = at_ns
        self._ended[name] = None
        if len(self._ended) > ENDED_KEPT:
            del self._ended[next(iter(self._ended))]
        self.on_ended(history)
