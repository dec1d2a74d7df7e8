"""A random exchange around the core, for properties: it answers late, seldom, or not as hoped."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import attrs

from oms_trio.core.effects import (
    CancelOrders,
    Effect,
    LookUpOrder,
    PlaceOrder,
    RequestFills,
    RequestListing,
    RequestSnapshot,
)
from oms_trio.core.events import (
    CancelAnswer,
    FillsAnswer,
    LookupAnswer,
    OrderAnswer,
    OrderUpdate,
    SessionDown,
    SessionUp,
    Verdict,
)
from oms_trio.core.model import OrderState, OrdId, PositionReport, TradeId
from tests.core.desk import Desk, VenueOrder


@attrs.define
class Venue:
    """An exchange that answers when it likes, and is sometimes unkind."""

    random: Random
    desk: Desk = attrs.Factory(Desk)
    kind: bool = False
    waiting: list[Effect] = attrs.Factory(list)
    seen: int = 0
    asked_ns: int = 0

    def begin(self) -> None:
        self.desk.start("1000000")
        self.seen = len(self.desk.effects)

    @property
    def open(self) -> list[VenueOrder]:
        states = {OrderState.LIVE, OrderState.PARTIALLY_FILLED}
        return [order for order in self.desk.orders.values() if order.state in states]

    @property
    def held(self) -> Decimal:
        return sum((order.side.sign * order.acc for order in self.desk.orders.values()), Decimal(0))

    def step(self) -> None:
        """Do one thing: answer, fill, act, lose the link, or let time pass."""
        self.waiting += self.desk.effects[self.seen :]
        self.seen = len(self.desk.effects)
        what = self.random.randrange(10)
        if what < 5 and self.waiting:
            self.answer(
                self.waiting.pop(0 if self.kind else self.random.randrange(len(self.waiting)))
            )
        elif what < 7 and self.open and not self.kind:
            self.fill(self.random.choice(self.open))
        elif what == 7 and not self.kind:
            self.desk.act(self.random.randrange(1, 99), price=self.random.choice(["-0.1", "0.1"]))
        elif what == 8 and not self.kind and self.random.random() < 0.2:
            self.lose_the_link()
        else:
            self.desk.tick()

    def fill(self, order: VenueOrder) -> None:
        left = order.sz - order.acc
        part = self.random.choice([left, left, Decimal("0.1")])
        self.desk.feed(OrderUpdate(self.desk.match(order, min(left, part), "67000")))

    def lose_the_link(self) -> None:
        self.desk.feed(SessionDown("gone"))
        self.desk.feed(SessionUp())

    def answer(self, effect: Effect) -> None:
        now = self.desk.now
        match effect:
            case PlaceOrder():
                self.place(effect)
            case CancelOrders(orders=orders):
                for _, ord_id in orders:
                    self.cancel(ord_id)
            case LookUpOrder(cl_ord_id=name):
                found = self.find(name)
                report = None if found is None else found.report()
                self.desk.feed(LookupAnswer(now, name, report))
            case RequestFills(ord_id=ord_id):
                fills = tuple(self.desk.orders[ord_id].fills)
                self.desk.feed(FillsAnswer(ord_id, fills))
            case RequestSnapshot():
                if effect.request == self.desk.last(RequestSnapshot).request:
                    self.desk.snapshot(
                        balance="1000000",
                        position=PositionReport(
                            self.held, None, None, TradeId(self.desk.trade_id), 0
                        ),
                        orders=tuple(order.report() for order in self.desk.orders.values()),
                        fills=tuple(f for order in self.desk.orders.values() for f in order.fills),
                    )
            case RequestListing():
                desk = self.desk
                if effect.request == desk.last(RequestListing).request:
                    desk.answer_listing()
            case _:
                pass

    def find(self, name: str) -> VenueOrder | None:
        orders = self.desk.orders.values()
        return next((order for order in orders if order.cl_ord_id == name), None)

    def place(self, effect: PlaceOrder) -> None:
        now, name = self.desk.now, effect.cl_ord_id
        outcome = (
            "accepted"
            if self.kind
            else self.random.choice(["accepted"] * 6 + ["refused", "retry", "lost", "unknown"])
        )
        if self.find(name) is not None:
            outcome = "refused"
        if outcome in {"refused", "retry"} or now >= effect.expires_at_ns:
            verdict = Verdict.RETRY if outcome == "retry" else Verdict.REJECTED
            self.desk.feed(OrderAnswer(name, verdict))
            return
        if outcome == "lost":
            self.desk.feed(OrderAnswer(name, Verdict.UNKNOWN))
            return
        ord_id = OrdId(f"o{len(self.desk.orders)}")
        order = VenueOrder(ord_id, name, effect.side, effect.sz, effect.px)
        room = max(Decimal(0), -effect.side.sign * self.held)
        if effect.reduce_only and room < order.sz:
            order.sz = room
        self.desk.orders[ord_id] = order
        verdict = Verdict.UNKNOWN if outcome == "unknown" else Verdict.ACCEPTED
        known = None if outcome == "unknown" else ord_id
        self.desk.feed(OrderAnswer(name, verdict, known))
        if effect.px is None:
            self.fill_at_market(order, whole=self.kind)

    def fill_at_market(self, order: VenueOrder, *, whole: bool) -> None:
        """A market order never rests: what finds no counterpart is cancelled."""
        if order.sz:
            part = order.sz if whole else min(order.sz, Decimal("0.1"))
            self.desk.feed(OrderUpdate(self.desk.match(order, part, "67000")))
        if order.state is not OrderState.FILLED:
            order.state = OrderState.CANCELED
            self.desk.feed(OrderUpdate(order.report()))

    def cancel(self, ord_id: OrdId) -> None:
        order = self.desk.orders[ord_id]
        if order not in self.open:
            self.desk.feed(CancelAnswer(order.cl_ord_id, Verdict.GONE))
        elif not self.kind and self.random.random() < 0.3:
            verdict = self.random.choice([Verdict.RETRY, Verdict.UNKNOWN, Verdict.REJECTED])
            self.desk.feed(CancelAnswer(order.cl_ord_id, verdict))
        else:
            self.desk.feed(CancelAnswer(order.cl_ord_id, Verdict.ACCEPTED))
            order.state = OrderState.CANCELED
            self.desk.feed(OrderUpdate(order.report()))
