"""Orders told whole: gathered over many steps, handed on when they have ended."""

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
from oms_trio.replay.recordings.model import Moment


@attrs.define
class OrderStory:
    """The life of one order: when what happened, by our clock. ``info`` is as it is now.

    ``received_ns`` is when its action came from the broker; None for an order that was found on
    the exchange.
    """

    info: OrderInfo
    received_ns: int | None = None
    acked_ns: int | None = None
    first_fill_ns: int | None = None
    ended_ns: int | None = None


def untold(_story: OrderStory) -> None:
    """Nobody wants to know."""


@attrs.define
class Orders:
    """Follows orders; ``tell`` gets each one that has ended and is wholly booked.

    ``acked`` and ``first_filled`` get those that have just come so far. What is kept: the open
    orders, and the names of as many ended ones as the trade state itself still finds.
    """

    tell: Callable[[OrderStory], object] = untold
    acked: Callable[[OrderStory], object] = untold
    first_filled: Callable[[OrderStory], object] = untold
    open: dict[ClOrdId, OrderStory] = attrs.Factory(dict)
    _told: dict[ClOrdId, None] = attrs.Factory(dict)

    def __call__(self, moment: Moment) -> None:
        """See ``Watcher``."""
        state, at_ns = moment.state, moment.step.at_ns
        touched = {
            order.cl_ord_id: order
            for event in moment.step.arrival.events
            for order in self._touched(event, state, at_ns)
        }
        touched.update((booked.order.cl_ord_id, booked.order) for booked in moment.booked)
        for name, order in touched.items():
            if name not in self.open and (name in state.orders.open or name not in self._told):
                self.open[name] = OrderStory(order)
        for event in moment.step.arrival.events:
            self._note(event, at_ns)
        for booked in moment.booked:
            self._note_fill(booked.order.cl_ord_id, at_ns)
        for name in touched:
            if name in self.open and name not in state.orders.open:
                self._end(name, at_ns)

    def _touched(self, event: Event, state: TradeState, now_ns: int) -> Iterator[OrderInfo]:
        """Find the orders that an input may have changed."""
        orders = state.orders
        found: Iterable[OrderInfo | None]
        match event:
            case PositionUpdate() | AccountUpdate():
                found = ()
            case OrderUpdate(report=report):
                found = (orders.find(report.cl_ord_id or None, report.ord_id),)
            case OrderAnswer(cl_ord_id=name) | CancelAnswer(cl_ord_id=name):
                found = (orders.find(name),)
            case LookupAnswer(cl_ord_id=name):
                found = (orders.find(name),)
            case Action():
                newest = next(reversed(orders.open.values()), None)
                found = (newest,) if newest and newest.created_ns == now_ns else ()
            case ExchangeSnapshot():
                named = (orders.find(one.cl_ord_id or None, one.ord_id) for one in event.orders)
                found = (*orders, *(story.info for story in self.open.values()), *named)
            case _:
                found = [story.info for story in self.open.values()]
        return (order for order in found if order is not None)

    def _note(self, event: Event, now_ns: int) -> None:
        match event:
            case Action():
                story = next(reversed(self.open.values()), None)
                if story is not None and story.info.created_ns == now_ns:
                    story.received_ns = event.received_ns
            case OrderAnswer(verdict=Verdict.ACCEPTED):
                story = self.open.get(event.cl_ord_id)
                if story is not None and story.acked_ns is None:
                    story.acked_ns = now_ns
                    self.acked(story)
            case _:
                pass

    def _note_fill(self, name: ClOrdId, at_ns: int) -> None:
        story = self.open.get(name)
        if story is not None and story.first_fill_ns is None:
            story.first_fill_ns = at_ns
            self.first_filled(story)

    def _end(self, name: ClOrdId, at_ns: int) -> None:
        story = self.open.pop(name)
        story.ended_ns = at_ns
        self._told[name] = None
        if len(self._told) > ENDED_KEPT:
            del self._told[next(iter(self._told))]
        self.tell(story)
