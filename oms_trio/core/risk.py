"""Risk controls: what may stop an order, or all of them, whatever the agent wants.

    control          trips on                                     then
    pause            the operator                                 no new orders     (paused)
    cancel-all       the operator                                 cancel all        (paused)
    kill             the operator                                 pause, cancel all (paused)
    flatten          the operator                                 kill, close position (paused)
    max order size   an order above it                            rejected: margin_cap
    max order rate   more orders in a second                      rejected: rate_limited
    price collar     a price too far from the latest mark price   rejected: price_collar
                     no recent mark price                         rejected: not_ready
    max daily loss   cash lost since the UTC day began            pause             (paused)
    max drawdown     uplRatio of the open trade                   pause             (paused)
    reject breaker   rejections by the exchange in a row          pause             (paused)
    exchange         key, permission or account rejected          pause             (paused)
    liquidation      the exchange closed (a part of) our position pause             (paused)
    adopt            the operator, after a position mismatch      pause             (paused)

A pause holds until the operator resumes: over a restart, and over midnight. It stops new orders
only, those included that wait to be sent (again); what is open is followed to its end. The daily
loss is what the cash balance lost: fees and funding count, at 100x they are most of it, and so does
a withdrawal. Its day is that of the exchange's clock. What a trade has lost and not realised is the
drawdown's to judge.

Resuming forgives what tripped: the day's loss counts again from the balance of that moment, and the
drawdown trips again only when it has been below its limit in between.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

import attrs

from oms_trio.core.effects import PlaceOrder
from oms_trio.core.model import SECOND_NS, ExchangeMs, Limits, RejectReason, Rules
from oms_trio.core.orders import OrderInfo
from oms_trio.core.sizing import Rejection

DAY_MS = 86_400_000

MARK_GRACE_NS = 10 * SECOND_NS
"""What a check may take from its question to its answer."""


def mark_age_ns(rules: Rules) -> int:
    """Return how old a mark price may be that judges an order.

    While the position does not change it comes with the checks alone; one of them may fail.
    """
    return 2 * rules.check_every_ns + MARK_GRACE_NS


class Control(Enum):
    """What can reject an order or pause trading by itself, and the operator."""

    OPERATOR = "operator"
    ORDER_SIZE = "max_order_size"
    ORDER_RATE = "max_order_rate"
    PRICE_COLLAR = "price_collar"
    DAILY_LOSS = "max_daily_loss"
    DRAWDOWN = "max_drawdown"
    REJECTS = "max_rejects"
    EXCHANGE = "exchange"
    """Not a limit of ours: the exchange rejects key, permission or account."""
    LIQUIDATION = "liquidation"
    """Not a limit of ours: the exchange has liquidated or deleveraged our position."""


@attrs.frozen
class Trip:
    """A control has seen enough: trading is to be paused, and why."""

    control: Control
    why: str


@attrs.define
class Risk:
    """What the controls remember. ``paused`` is why no order is placed, None when orders are.

    ``acted`` counts how often each control rejected an order or paused trading.
    """

    paused: str | None = None
    paused_by: Control | None = None
    acted: dict[Control, int] = attrs.Factory(dict)
    day: int = 0
    day_began_with: Decimal | None = None
    cancel_before_ns: int = 0
    """Orders created up to here are to be cancelled, whatever their age."""
    flattening: bool = False
    adopting: bool = False
    """Whether a difference to the exchange's position is to be booked."""
    command: str = ""
    """The operator's command that is being carried out on what the exchange lists; empty: none."""
    command_ns: int = 0
    cancelling: bool = False
    closing_orders: int = 0
    """How many orders the command has sent to close the position."""
    listing: int = 0
    listing_due_ns: int = 0
    drawdown_reached: bool = False
    drawdown_forgiven: bool = False
    rejects: int = 0
    sent_ns: list[int] = attrs.Factory(list)
    mark_px: Decimal | None = None
    mark_ns: int = 0
    send_generation: int = 0
    """How often the orders that wait to be sent have been withdrawn, by a pause or a cancel-all."""

    def is_withdrawn(self, order: PlaceOrder) -> bool:
        """Whether an order that waits to be sent must not be sent any more.

        Orders that only reduce the position always go out: they are what ``flatten`` is about.
        """
        return order.send_generation != self.send_generation and not order.reduce_only

    def check(self, rules: Rules, order: OrderInfo, now_ns: int) -> Rejection | None:
        """Return why this order may not be sent; None when it may, and then it counts as sent."""
        limits = rules.limits
        if self.paused is not None:
            return Rejection(RejectReason.PAUSED, self.paused)
        most = limits.max_order_contracts
        if most is not None and order.volume > most:
            self.note(Control.ORDER_SIZE)
            return Rejection(
                RejectReason.MARGIN_CAP, f"{order.volume} contracts are above the limit {most}"
            )
        if (rejection := self._outside_collar(rules, order, now_ns)) is not None:
            self.note(Control.PRICE_COLLAR)
            return rejection
        if limits.max_orders_per_second is not None:
            self.sent_ns = [sent for sent in self.sent_ns if sent > now_ns - SECOND_NS]
            if len(self.sent_ns) >= limits.max_orders_per_second:
                self.note(Control.ORDER_RATE)
                detail = f"above {limits.max_orders_per_second} orders in a second"
                return Rejection(RejectReason.RATE_LIMITED, detail)
            self.sent_ns.append(now_ns)
        return None

    def withholds(self, created_ns: int) -> str | None:
        """Return why an order created then, and never sent, must not be sent now; None when it may."""
        if self.paused is not None:
            return self.paused
        return "cancelled by the operator" if created_ns <= self.cancel_before_ns else None

    def note(self, control: Control) -> None:
        """Count that a control acted."""
        self.acted[control] = self.acted.get(control, 0) + 1

    def _outside_collar(self, rules: Rules, order: OrderInfo, now_ns: int) -> Rejection | None:
        collar, mark, px = rules.limits.price_collar, self.mark_px, order.ref_px
        if collar is None:
            return None
        age_ns = mark_age_ns(rules)
        if mark is None or now_ns > self.mark_ns + age_ns:
            # A collar that judges nothing would be a control that is off without anybody knowing.
            why = f"no mark price of the last {age_ns // SECOND_NS} s to hold the price {px} to"
            return Rejection(RejectReason.NOT_READY, why)
        if abs(px - mark) <= collar * mark:
            return None
        why = f"the price {px} is more than {collar} of the mark price {mark} away from it"
        return Rejection(RejectReason.PRICE_COLLAR, why)

    def note_mark(self, mark_px: Decimal | None, now_ns: int) -> None:
        """Keep the latest mark price."""
        if mark_px is not None and mark_px > 0:
            self.mark_px, self.mark_ns = mark_px, now_ns

    def note_balance(
        self, limits: Limits, balance: Decimal, exchange_ms: ExchangeMs
    ) -> Trip | None:
        """Hold the cash balance against the first of the exchange's day; returns why to pause."""
        today = exchange_ms // DAY_MS
        if today != self.day or self.day_began_with is None:
            self.day, self.day_began_with = today, balance
        lost = self.day_began_with - balance
        most = limits.max_daily_loss
        if most is not None and lost >= most:
            why = f"today's loss of {lost} USDT has reached the limit {most}"
            return Trip(Control.DAILY_LOSS, why)
        return None

    def note_drawdown(self, limits: Limits, upl_ratio: float | None) -> Trip | None:
        """Judge the open trade's latest ``uplRatio``; returns why to pause."""
        most = limits.max_drawdown
        self.drawdown_reached = most is not None and upl_ratio is not None and -upl_ratio >= most
        self.drawdown_forgiven = self.drawdown_forgiven and self.drawdown_reached
        if upl_ratio is None or not self.drawdown_reached or self.drawdown_forgiven:
            return None
        return Trip(Control.DRAWDOWN, f"drawdown {-upl_ratio} has reached the limit {most}")

    def note_answer(self, limits: Limits, *, rejected: bool) -> Trip | None:
        """Count rejections by the exchange in a row; returns why to pause."""
        self.rejects = self.rejects + 1 if rejected else 0
        most = limits.max_rejects
        if most is not None and self.rejects >= most:
            why = f"{self.rejects} orders in a row were rejected by the exchange"
            return Trip(Control.REJECTS, why)
        return None
