"""A trade state with a scripted exchange around it, for tests of the core."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

import attrs

from oms_trio.core.effects import (
    Effect,
    PlaceOrder,
    PublishClosure,
    PublishExecution,
    RequestFills,
    RequestListing,
    RequestSnapshot,
)
from oms_trio.core.events import (
    Action,
    Event,
    ExchangeSnapshot,
    FillsAnswer,
    Listing,
    LookupAnswer,
    OrderAnswer,
    OrderUpdate,
    PositionUpdate,
    SessionUp,
    Started,
    Tick,
    Verdict,
)
from oms_trio.core.model import (
    ClOrdId,
    ExchangeMs,
    Fill,
    Funding,
    Instrument,
    OrderReport,
    OrderState,
    OrderType,
    OrdId,
    PositionReport,
    RewardUnit,
    Rules,
    Side,
    StateId,
    TradeId,
)
from oms_trio.core.state import TradeState
from oms_trio.testing.simulation.invariants.oracle import MessageSummary

EffectT = TypeVar("EffectT", bound=Effect)

SECOND = 1_000_000_000
START_NS = 1_790_000_000 * SECOND

BTC = Instrument(
    inst_id="BTC-USDT-SWAP",
    inst_id_code=10459,
    ct_val=Decimal("0.01"),
    ct_mult=Decimal(1),
    tick_sz=Decimal("0.1"),
    lot_sz=Decimal("0.01"),
    min_sz=Decimal("0.01"),
)
RULES = Rules(
    leverage=Decimal(100),
    step=Decimal("0.1"),
    max_margin_fraction=Decimal("0.2"),
    max_open_orders=300,
    max_order_age_ns=None,
    max_action_age_ns=5 * SECOND,
    reward_unit=RewardUnit.USDT,
    tag="omstrio",
)


@attrs.define
class VenueOrder:
    """An order as the scripted exchange knows it."""

    ord_id: OrdId
    cl_ord_id: ClOrdId
    side: Side
    sz: Decimal
    px: Decimal | None
    acc: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    state: OrderState = OrderState.LIVE
    fills: list[Fill] = attrs.Factory(list)

    def report(self, fill: Fill | None = None, *, u_time_ms: int = 0) -> OrderReport:
        """What a push says now; its time is that of the fill."""
        return OrderReport(
            ord_id=self.ord_id,
            cl_ord_id=self.cl_ord_id,
            tag=RULES.tag,
            side=self.side,
            ord_type="limit",
            state=self.state,
            px=self.px,
            sz=self.sz,
            acc_fill_sz=self.acc,
            avg_px=self.cost / self.acc if self.acc else None,
            c_time_ms=START_NS // 1_000_000,
            u_time_ms=u_time_ms or (fill.time_ms if fill else START_NS // 1_000_000),
            fill=fill,
        )


@attrs.define
class Desk:
    """Feeds inputs with a growing time and keeps all effects."""

    state: TradeState = attrs.Factory(lambda: TradeState(RULES))
    now: int = START_NS
    effects: list[Effect] = attrs.Factory(list)
    trade_id: int = 1000
    by_hand: Decimal = Decimal(0)
    """Contracts that somebody else holds on the account."""
    orders: dict[OrdId, VenueOrder] = attrs.Factory(dict)

    def feed(self, event: Event) -> list[Effect]:
        """Apply one input."""
        effects = list(self.state.apply(event, self.now))
        self.effects += effects
        return effects

    def start(self, balance: str = "1000000000") -> None:
        """Bring the state to where actions are taken."""
        self.feed(Started(self.state.rules))
        self.feed(SessionUp())
        self.snapshot(balance=balance)
        assert self.state.ready

    def snapshot(
        self,
        *,
        balance: str = "10000",
        position: PositionReport | None = None,
        orders: tuple[OrderReport, ...] = (),
        fills: tuple[Fill, ...] = (),
        funding: tuple[Funding, ...] = (),
        asked_at_ns: int | None = None,
        newest_trade_id: TradeId | None = None,
        seen_ms: int = 0,
    ) -> list[Effect]:
        """Answer the last request for a snapshot."""
        return self.feed(
            ExchangeSnapshot(
                asked_at_ns=self.now if asked_at_ns is None else asked_at_ns,
                request=self.last(RequestSnapshot).request,
                instrument=BTC,
                cash_bal=Decimal(balance),
                cash_u_time_ms=1,
                position=position,
                orders=orders,
                newest_trade_id=newest_trade_id
                or max((fill.trade_id for fill in fills if fill.trade_id), default=None),
                seen_ms=ExchangeMs(seen_ms),
                offset_ns=self.state.sync.offset_ns,
                fills=fills,
                funding=funding,
            )
        )

    def answer_listing(self) -> list[Effect]:
        """Answer the last request for a listing, truthfully."""
        pending = (OrderState.LIVE, OrderState.PARTIALLY_FILLED)
        orders = [order for order in self.orders.values() if order.state in pending]
        return self.feed(
            Listing(
                asked_at_ns=self.now,
                request=self.last(RequestListing).request,
                orders=tuple(order.report() for order in orders),
                position=self.held,
            )
        )

    @property
    def held(self) -> PositionReport:
        """The exchange's position."""
        pos = sum((order.side.sign * order.acc for order in self.orders.values()), self.by_hand)
        at_ms = START_NS // 1_000_000 + self.trade_id
        px = Decimal(67000) if pos else None
        return PositionReport(pos, px, None, TradeId(self.trade_id), at_ms, Decimal(67000))

    def report_position(self, report: PositionReport | None = None) -> list[Effect]:
        """Push the exchange's position, or what it was before."""
        return self.feed(PositionUpdate(self.held if report is None else report))

    def accept(self, ord_id: str) -> VenueOrder:
        """Have the latest order accepted and pushed as live."""
        sent = self.last(PlaceOrder)
        order = VenueOrder(OrdId(ord_id), sent.cl_ord_id, sent.side, sent.sz, sent.px)
        self.orders[order.ord_id] = order
        self.feed(OrderAnswer(sent.cl_ord_id, Verdict.ACCEPTED, order.ord_id))
        self.feed(OrderUpdate(order.report()))
        return order

    def refuse(self, code: str = "51169") -> list[Effect]:
        """Have the latest order refused by the exchange."""
        name = self.last(PlaceOrder).cl_ord_id
        return self.feed(OrderAnswer(name, Verdict.REJECTED, code=code))

    def carry_on(self, seconds: int = 10) -> None:
        """Let time pass, and answer what is asked for: snapshots, and listings of a command."""
        for _ in range(seconds):
            self.tick(1)
            if self.state.sync.snapshot_requested:
                fills = tuple(fill for order in self.orders.values() for fill in order.fills)
                reports = tuple(order.report() for order in self.orders.values())
                newest = TradeId(self.trade_id)
                self.snapshot(
                    orders=reports, fills=fills, position=self.held, newest_trade_id=newest
                )
            if self.state.risk.command:
                self.answer_listing()

    def show_that_reads_are_not_behind(self) -> None:
        """Let a look-up show somebody's order that has changed just now."""
        stranger = VenueOrder(OrdId("S"), ClOrdId(""), Side.BUY, Decimal(1), Decimal(67000))
        report = stranger.report(u_time_ms=self.now // 1_000_000)
        report = attrs.evolve(report, tag="")
        self.feed(LookupAnswer(self.now, ClOrdId("stranger"), report))

    def last(self, kind: type[EffectT]) -> EffectT:
        """The latest effect of a kind."""
        return self.all(kind)[-1]

    def all(self, kind: type[EffectT]) -> list[EffectT]:
        """All effects of a kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def tick(self, seconds: float = 0.25) -> list[Effect]:
        """Let time pass."""
        self.now += round(seconds * SECOND)
        return self.feed(Tick())

    def act(
        self,
        state_id: int = 1,
        *,
        price: str = "-0.25",
        volume: str = "3",
        mid: str = "67000",
        order_type: OrderType = OrderType.LIMIT,
        message_id: str | None = None,
        redelivered: bool = False,
        received_ns: int | None = None,
        known: bool = False,
        expired: bool = False,
        body: bytes | None = None,
    ) -> list[Effect]:
        """Take in an action."""
        return self.feed(
            Action(
                received_ns=self.now if received_ns is None else received_ns,
                state_id=StateId(state_id),
                order_type=order_type,
                price=Decimal(price),
                volume=Decimal(volume),
                mid=Decimal(mid),
                body=body if body is not None else b"%d %d" % (state_id, self.now),
                message_id=message_id,
                redelivered=redelivered,
                delivery=len(self.effects),
                known=known,
                expired=expired,
            )
        )

    def place(self, ord_id: str, side: Side, sz: str, px: str = "67000") -> VenueOrder:
        """Have an order of this side and size accepted, whatever the sizing would say."""
        self.now += 1
        self.act(len(self.orders) + 1, price="-0.5" if side is Side.BUY else "0.5", volume="1e-9")
        sent = self.last(PlaceOrder)
        order = VenueOrder(OrdId(ord_id), sent.cl_ord_id, side, Decimal(sz), Decimal(px))
        self.orders[order.ord_id] = order
        self.feed(OrderAnswer(sent.cl_ord_id, Verdict.ACCEPTED, order.ord_id))
        self.feed(OrderUpdate(order.report()))
        return order

    def match(self, order: VenueOrder, sz: str | Decimal, px: str | Decimal) -> OrderReport:
        """Fill an order on the exchange and return the push that tells it."""
        self.trade_id += 3
        fill = Fill(
            ord_id=order.ord_id,
            trade_id=TradeId(self.trade_id),
            px=Decimal(px),
            sz=Decimal(sz),
            time_ms=START_NS // 1_000_000 + self.trade_id,
        )
        order.acc += fill.sz
        order.cost += fill.sz * fill.px
        if order.state is not OrderState.CANCELED:
            done = order.acc == order.sz
            order.state = OrderState.FILLED if done else OrderState.PARTIALLY_FILLED
        order.fills.append(fill)
        return order.report(fill)

    def fill(self, order: VenueOrder, sz: str, px: str) -> list[Effect]:
        """Fill an order and tell it at once."""
        return self.feed(OrderUpdate(self.match(order, sz, px)))

    def answer_fills(self) -> list[Effect]:
        """Answer every question for fills that has been asked so far, truthfully."""
        asked = {effect.ord_id for effect in self.all(RequestFills)}
        effects: list[Effect] = []
        for ord_id in sorted(asked):
            order = self.orders[ord_id]
            effects += self.feed(FillsAnswer(ord_id, tuple(order.fills)))
        return effects

    def position(
        self, pos: str, upl_ratio: float | None = None, trade_id: int | None = None, u_time: int = 0
    ) -> list[Effect]:
        """Push a position."""
        report = PositionReport(
            pos=Decimal(pos),
            avg_px=None,
            upl_ratio=upl_ratio,
            trade_id=TradeId(self.trade_id if trade_id is None else trade_id),
            u_time_ms=u_time or START_NS // 1_000_000 + self.trade_id,
        )
        return self.feed(PositionUpdate(report))

    @property
    def told(self) -> list[MessageSummary]:
        """The executions and closures published so far, as the oracle writes them."""
        return messages(self.effects)


def messages(effects: list[Effect]) -> list[MessageSummary]:
    """Write publications as the oracle does."""
    told: list[MessageSummary] = []
    for effect in effects:
        if isinstance(effect, PublishExecution):
            told.append(("execution", effect.ord_id, (), 0.0))
        elif isinstance(effect, PublishClosure):
            told.append(("closure", effect.ord_id, effect.portions, effect.reward))
    return told
