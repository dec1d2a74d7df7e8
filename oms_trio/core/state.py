"""Trading state and its one mutator: an event comes in, effects go out.

``TradeState.apply`` is synchronous and complete: it awaits nothing, reads no clock, draws no
random number and does no I/O. Called from one task it needs no lock, and the same events at the same
times give the same state and the same effects, bit for bit.
"""

from __future__ import annotations

from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from typing import assert_never

import attrs

from oms_trio.core import adoption, answers, fills, operator
from oms_trio.core.book import Book
from oms_trio.core.effects import (
    Alert,
    Drained,
    Effect,
    Emit,
    PublishRejection,
    Readiness,
    RequestFills,
    RequestSnapshot,
    SettleDelivery,
)
from oms_trio.core.events import (
    AccountUpdate,
    Action,
    CancelAnswer,
    Command,
    Drain,
    Event,
    ExchangeSnapshot,
    FillsAnswer,
    Listing,
    LookupAnswer,
    OrderAnswer,
    OrderUpdate,
    PositionUpdate,
    SessionDown,
    SessionUp,
    Started,
    Tick,
    Verdict,
)
from oms_trio.core.identity import ActionDeduplicator, Expired
from oms_trio.core.model import (
    NS_PER_MS,
    Cause,
    ClOrdId,
    ExchangeMs,
    OrderReport,
    OrderState,
    PositionReport,
    RejectReason,
    Rules,
    Side,
)
from oms_trio.core.orders import OrderInfo, Orders
from oms_trio.core.reconcile import Sync
from oms_trio.core.risk import Control, Risk, Trip
from oms_trio.core.sizing import Rejection, largest_order, size_order

ARITHMETIC = Context(prec=50, traps=[InvalidOperation, DivisionByZero, Overflow])
"""Sums and products of what the wire carries are exact in 50 digits; only an average rounds."""


EXPIRED_AGAIN_NS = 5_000_000_000
"""Pause between snapshots while expired actions wait for one that shows enough."""


@attrs.define
class TradeState:
    """All that trading decisions depend on. Built with its rules; changed by ``apply`` alone."""

    rules: Rules
    balance: Decimal | None = None
    balance_ms: int = 0
    orders: Orders = attrs.Factory(Orders)
    book: Book = attrs.Factory(Book)
    deduplicator: ActionDeduplicator = attrs.Factory(ActionDeduplicator)
    sync: Sync = attrs.Factory(Sync)
    expired: dict[ClOrdId, Expired] = attrs.Factory(dict)
    """Actions that may be orders of an earlier process, and are rejected when they are not: what
    expired in the queue, or was redelivered and may not be sent. The broker's prefetch bounds both."""
    clock_known: bool = False
    """Whether this process has measured the exchange's clock."""
    started_ns: int = 0
    """When this process started; after a clean stop, when the one before it did. A process that stops
    cleanly leaves no order that is not on record, one that is killed may."""
    risk: Risk = attrs.Factory(Risk)
    draining: bool = False
    reported_reason: str = "starting"
    """Why no action is taken, as last reported; empty while actions are taken."""
    foreign_reports: int = 0
    """Order reports without our tag: placed by hand, liquidation, ADL. Counted in no trade."""

    def apply(self, event: Event, now_ns: int) -> tuple[Effect, ...]:
        """Take one event in, at a time of the service's clock; return what is to be done, in order."""
        effects: list[Effect] = []
        with localcontext(ARITHMETIC):
            if isinstance(event, Action):
                # Time may have run out since the last event: no order goes out before that is seen.
                self._judge_position(now_ns, effects.append)
            self._dispatch(event, now_ns, effects.append)
            self._judge_position(now_ns, effects.append)
            why = "" if self.sync.in_sync else self.sync.why
            if why != self.reported_reason:
                self.reported_reason = why
                effects.append(Readiness(not why, why))
            if self.draining and not any(order.awaiting_ack for order in self.orders):
                effects.append(Drained())
        return tuple(effects)

    @property
    def ready(self) -> bool:
        """Whether actions may be taken: session up, state reconciled, position explained."""
        return self.sync.in_sync

    def quiet_until(self, at_ns: int) -> bool:
        """Return whether a tick up to then changes nothing, if nothing else comes before it.

        The counterpart of ``_tick``: what that does with time has to be known here.
        """
        rules, before = self.rules, self.risk.cancel_before_ns
        return not (
            self.orders.waiting
            or operator.due(self.risk, at_ns)
            or self.sync.check_due(at_ns)
            or self.sync.judgement_due(at_ns)
            or len(self.orders) > rules.max_open_orders
            or any(
                answers.may_act(order, rules, at_ns, cancel_before_ns=before)
                for order in self.orders
            )
        )

    def _dispatch(  # noqa: C901, PLR0912, PLR0915 - the table of events
        self, event: Event, now_ns: int, emit: Emit
    ) -> None:
        match event:
            case OrderUpdate():
                if not self.sync.buffer(event, now_ns):
                    self._take_report(event.report)
                    self._book(now_ns, emit)
            case PositionUpdate():
                if not self.sync.buffer(event, now_ns):
                    self._take_position(event.report, now_ns, emit)
                elif event.report.trade_id is not None:
                    # Its trade id says whose drawdown it is; what is buffered may be lost.
                    self.book.note_position(event.report)
            case Action():
                self._take_action(event, now_ns, emit)
            case OrderAnswer():
                self._take_order_answer(event, now_ns, emit)
            case CancelAnswer():
                answers.take_cancel_answer(self.orders, event, now_ns, emit)
            case AccountUpdate():
                self._take_balance(event.cash_bal, event.u_time_ms, now_ns, emit)
            case Tick():
                self._tick(now_ns, emit)
            case LookupAnswer():
                self._take_lookup(event, now_ns, emit)
            case FillsAnswer():
                self._take_fills(event, now_ns, emit)
            case ExchangeSnapshot():
                self._take_snapshot(event, now_ns, emit)
            case Listing():
                self._take_listing(event, now_ns, emit)
            case SessionUp():
                self.clock_known = True
                self.sync.session_up(event.offset_ns)
                self._request_snapshot(now_ns, emit)
            case SessionDown():
                self.sync.session_down(event.why)
            case Started():
                if not self.draining:
                    self.started_ns = now_ns
                self.clock_known = False
                self.rules = event.rules
                self.sync.reader_lag_ms = event.rules.reader_lag_ms
                self.draining, self.reported_reason = False, "starting"
                self.risk.listing_due_ns = 0
                for name, expired in self.expired.items():
                    self.expired[name] = attrs.evolve(expired, delivery=None)
                self.sync.session_down("just started")
                for order in self.orders:
                    # What was to be sent again may have been: just before the end, unrecorded.
                    if order.awaiting_ack or order.retry_due_ns is not None:
                        order.outcome_unknown = True
                    order.awaiting_ack, order.retry_due_ns = False, None
            case Command():
                operator.take_command(self.risk, event, now_ns, emit)
                self._enforce(now_ns, emit)
            case Drain():
                self.draining = True
            case _:
                assert_never(event)

    # Actions

    def _take_action(self, action: Action, now_ns: int, emit: Emit) -> None:
        expires_ns = action.received_ns + self.rules.max_action_age_ns
        name, new = self.deduplicator.identify(
            action,
            action.received_ns + self.sync.offset_ns if self.clock_known else None,
            self.rules.max_action_age_ns,
            lambda name: self.orders.find(name) is not None,
        )
        if name in self.expired or (action.expired and new and not action.known):
            before = self.expired.get(name)
            if before is not None and before.delivery is not None:
                emit(SettleDelivery(before.delivery))
            self.expired[name] = Expired(action.state_id, action.delivery, action)
            self._decide_expired(now_ns, emit)
            return
        if action.known or not new:
            emit(SettleDelivery(action.delivery))
            return
        if now_ns >= expires_ns:
            emit(SettleDelivery(action.delivery, dead_letter="expired"))
            detail = "the action waited too long"
            self._reject(name, action, RejectReason.STALE, detail, now_ns, emit)
            return
        instrument = self.sync.instrument
        if not self.ready or instrument is None or self.draining:
            emit(SettleDelivery(action.delivery))
            why = "the service is stopping" if self.draining else self.sync.why
            self._reject(name, action, RejectReason.NOT_READY, why, now_ns, emit)
            return
        order = size_order(
            action,
            name=name,
            now_ns=now_ns,
            balance=self.balance,
            instrument=instrument,
            rules=self.rules,
            position=self.book.position,
            open_same_side=self._exposure(),
            mark_px=self.risk.mark_px,
        )
        if isinstance(order, OrderInfo):
            order = self.risk.check(self.rules, order, now_ns) or order
        # Whatever becomes of the order: a delivery that waited for that (a redelivered one for minutes)
        # would fill the prefetch. So an action that turns stale from here on is no dead letter.
        emit(SettleDelivery(action.delivery))
        if isinstance(order, Rejection):
            self._reject(name, action, order.reason, order.detail, now_ns, emit)
            return
        self.orders.add(order)
        if action.redelivered:
            order.verify_before_send = True
            answers.look_up(order, now_ns, emit)
        else:
            answers.place(order, self.risk, self.sync, emit)
        if len(self.orders) > self.rules.max_open_orders:
            self._cancel_excess(now_ns, emit)

    def _exposure(self) -> dict[Side, Decimal]:
        """Return the contracts per side by which orders may still change the position.

        An undecided expired action may be an order already, which lagging reads do not show yet: it
        counts in full until a snapshot decides.
        """
        exposure = dict(self.orders.exposure)
        instrument = self.sync.instrument
        if instrument is not None and self.balance is not None:
            for name, expired in self.expired.items():
                if expired.action is not None and self.orders.find(name) is None:
                    side, size = largest_order(expired.action, self.balance, instrument, self.rules)
                    exposure[side] += size
        return exposure

    def _cancel_excess(self, now_ns: int, emit: Emit) -> None:
        answers.cancel_excess(
            self.orders,
            self.rules,
            now_ns,
            emit,
            inst_id_code=self.sync.inst_id_code,
            cancel_before_ns=self.risk.cancel_before_ns,
        )

    def _reject(
        self,
        name: ClOrdId,
        action: Action,
        reason: RejectReason,
        detail: str,
        now_ns: int,
        emit: Emit,
    ) -> None:
        """Reject an action of which no order is made here.

        A redelivered one may be an order of an earlier process all the same, so it waits as if it had
        expired in the queue until that is known. By then it is stale, whatever the reason was.
        """
        if action.redelivered and not self._knows_earlier_orders():
            self.expired[name] = Expired(action.state_id, None, action)
            self._decide_expired(now_ns, emit)
        else:
            emit(PublishRejection(f"{name}.r", action.state_id, reason, detail))

    def _knows_earlier_orders(self) -> bool:
        """Whether a snapshot has been applied that must show whatever an earlier process has sent."""
        gone_ms = self.sync.exchange_ms(self._gone_ns)
        known_ms = ExchangeMs(self.sync.known_ns // NS_PER_MS)
        return (
            self.sync.snapshot_applied
            and known_ms >= gone_ms
            and self.sync.has_shown(gone_ms, known_ms)
        )

    @property
    def _copies_expired_ns(self) -> int:
        """When the last action expires of which an earlier process can have sent an order."""
        return self.started_ns + self.rules.max_action_age_ns

    @property
    def _gone_ns(self) -> int:
        """From when on nothing that an earlier process has sent can come alive."""
        return self._copies_expired_ns + answers.GRACE_NS

    def _decide_expired(self, now_ns: int, emit: Emit) -> None:
        """Reject what expired in the queue, unless an earlier process made an order of it.

        A process sends an order before it has its action on disk. If it dies in between, the action
        returns to the queue and expires there; its order is found by reconciliation. So nothing is
        rejected before a snapshot that must show whatever that process has sent.
        """
        if not self.expired:
            return
        if self._knows_earlier_orders():
            for name, expired in self.expired.items():
                if expired.delivery is not None:
                    emit(SettleDelivery(expired.delivery))
                if self.orders.find(name) is None:
                    detail = "the action expired in the queue"
                    emit(
                        PublishRejection(f"{name}.r", expired.state_id, RejectReason.STALE, detail)
                    )
            self.expired.clear()
            return
        soon_ns = max(now_ns + EXPIRED_AGAIN_NS, self._gone_ns)
        self.sync.check_due_ns = min(self.sync.check_due_ns, soon_ns)

    # Reports

    def _take_report(self, report: OrderReport) -> OrderInfo | None:
        order = self.orders.find(report.cl_ord_id or None, report.ord_id)
        if order is None:
            order = self._adopt(report)
        if order is None or not self.orders.bind(order, report.ord_id):
            self.foreign_reports += 1
            return None
        fills.take_report(self.orders, order, report)
        return order

    def _adopt(self, report: OrderReport) -> OrderInfo | None:
        """Take in an order that this state does not know and whose fills are ours.

        It was sent just before a crash, or it is the exchange's own (liquidation, ADL).
        """
        if report.u_time_ms <= self.orders.forgotten_ms:
            return None  # known, ended, booked and forgotten: its fills must not count again
        created_ns = self.sync.service_ns(report.c_time_ms)
        order = adoption.order_of_report(report, self.rules.tag, created_ns)
        if order is None:
            return None
        self.deduplicator.names[order.cl_ord_id] = None
        self.orders.add(order)
        return order

    def _take_position(self, report: PositionReport, at_ns: int, emit: Emit) -> None:
        self.sync.note_position(report, at_ns)
        self.book.note_position(report)
        self.sync.compare(self.book, at_ns)
        self.risk.note_mark(report.mark_px, at_ns)
        why = self.risk.note_drawdown(self.rules.limits, report.upl_ratio)
        operator.trip(self.risk, why, emit)

    def _take_order_answer(self, answer: OrderAnswer, now_ns: int, emit: Emit) -> None:
        answers.take_order_answer(
            self.orders, answer, now_ns, has_session=self.sync.has_session, emit=emit
        )
        rejected = answer.verdict is Verdict.REJECTED and answer.reason is RejectReason.EXCHANGE
        if rejected or answer.verdict is Verdict.ACCEPTED:
            why = self.risk.note_answer(self.rules.limits, rejected=rejected)
            if answer.fatal:
                # Sending more of them risks the account, and the agent would learn from noise.
                why = Trip(Control.EXCHANGE, f"{answer.code} {answer.detail}".strip())
            operator.trip(self.risk, why, emit)

    def _take_balance(self, cash_bal: Decimal, u_time_ms: int, now_ns: int, emit: Emit) -> None:
        if u_time_ms >= self.balance_ms:
            self.balance, self.balance_ms = cash_bal, u_time_ms
            exchange_ms = self.sync.exchange_ms(now_ns)
            why = self.risk.note_balance(self.rules.limits, cash_bal, exchange_ms)
            operator.trip(self.risk, why, emit)

    def _book(self, now_ns: int, emit: Emit) -> None:
        """Book what may be booked, and request the fills that are missing."""
        instrument = self.sync.instrument
        if self.orders.waiting and instrument is not None:
            for fill in fills.release(self.orders):
                order = self.orders.find(None, fill.ord_id)
                assert order is not None
                self.orders.book(order, fill)
                for effect in self.book.take(order, fill, instrument.multiplier, self.rules):
                    emit(effect)
                if order.cause in {Cause.LIQUIDATION, Cause.ADL}:
                    why = f"the exchange closed {fill.sz} contracts ({order.cause.value})"
                    operator.trip(self.risk, Trip(Control.LIQUIDATION, why), emit)
                if self.sync.snapshot_requested:
                    self.sync.positions.append(self.book.position)
            for order in fills.gaps(self.orders, now_ns):
                assert order.okx_order_id is not None
                emit(RequestFills(order.okx_order_id))
            self.sync.compare(self.book, now_ns)
        self.orders.settle()

    def _take_lookup(self, answer: LookupAnswer, now_ns: int, emit: Emit) -> None:
        order = self.orders.find(answer.cl_ord_id)
        if answer.report is not None:
            self.sync.note_read(answer.report.u_time_ms)
            if order is not None and answer.report.acc_fill_sz > order.acc_fill_sz:
                # This query has overtaken the pushes, perhaps those of other orders as well.
                # Only a snapshot shows what came before what.
                answers.note_existence(self.orders, order, answer.report)
                if self.sync.has_session and not self.sync.snapshot_requested:
                    self._request_snapshot(now_ns, emit)
                return
            self._take_report(answer.report)
            self._book(now_ns, emit)
        elif order is not None:
            answers.take_absence(
                self.orders,
                order,
                answer,
                now_ns,
                sync=self.sync,
                copies_expired_ns=self._copies_expired_ns,
                risk=self.risk,
                emit=emit,
            )

    def _take_fills(self, answer: FillsAnswer, now_ns: int, emit: Emit) -> None:
        order = self.orders.find(None, answer.ord_id)
        if order is None:
            return
        overdue = self.sync.exchange_ms(now_ns) >= order.u_time_ms + self.sync.reader_lag_ms
        fills.take_fills_answer(self.orders, order, answer.fills, now_ns, overdue=overdue)
        self._book(now_ns, emit)

    # Reconciliation and time

    def _request_snapshot(self, now_ns: int, emit: Emit) -> None:
        sync = self.sync
        known_ns = sync.known_ns or self.started_ns + sync.offset_ns
        sync.note_request(now_ns, self.book.position, known_ns, self.rules.check_every_ns)
        emit(RequestSnapshot(sync.request, sync.since_ms, check_account=not sync.snapshot_applied))

    def _take_snapshot(self, snapshot: ExchangeSnapshot, now_ns: int, emit: Emit) -> None:
        if snapshot.request != self.sync.request or not self.sync.has_session:
            return
        self.sync.note_read(snapshot.seen_ms)
        self.sync.newest_trade_id = snapshot.newest_trade_id
        if self.sync.lagging(snapshot, self.book, now_ns):
            return
        self.sync.offset_ns = snapshot.offset_ns
        self._merge(snapshot, now_ns, emit)
        for kept in self.sync.take_buffered():
            if kept.order is not None:
                self._take_report(kept.order)
                self._book(now_ns, emit)
            elif kept.position is not None:
                self._take_position(kept.position, kept.at_ns, emit)
        self.book.settle_funding(complete=not self.orders.waiting)
        self.sync.conclude(snapshot, self.book, now_ns)
        self._decide_expired(now_ns, emit)
        if self.sync.position_matches and snapshot.position is not None:
            self.book.note_position(snapshot.position)
        listed = {report.ord_id for report in snapshot.orders}
        for order in self.orders:
            unlisted = order.has_okx_id and order.okx_order_id not in listed
            if (
                order.outcome_unknown
                or order.verify_before_send
                or (unlisted and order.created_ns < snapshot.asked_at_ns)
            ):
                answers.look_up(order, now_ns, emit)

    def _merge(self, snapshot: ExchangeSnapshot, now_ns: int, emit: Emit) -> None:
        """Add what the snapshot shows and we do not know; nothing is taken back."""
        self.sync.instrument = snapshot.instrument
        if snapshot.cash_bal is not None:
            self._take_balance(snapshot.cash_bal, snapshot.cash_u_time_ms, now_ns, emit)
        self.risk.note_mark(snapshot.mark_px, now_ns)
        asked_ms = self.sync.exchange_ms(snapshot.asked_at_ns)
        for funding in sorted(snapshot.funding, key=lambda funding: funding.bill_id):
            self.book.note_funding(funding)
        for report in snapshot.orders:
            order = self._take_report(report)
            if order is not None and not order.ended:
                order.seen_ms = max(order.seen_ms, asked_ms)
        fills.take_all_fills(self.orders, snapshot.fills)
        self._book(now_ns, emit)

    def _enforce(self, now_ns: int, emit: Emit) -> None:
        """Send, look up and cancel what is due; an operator's command waits for no session."""
        if self.sync.has_session and self.sync.snapshot_applied:
            answers.retry(self.orders, self.risk, self.sync, now_ns, emit)
        if (self.sync.has_session and self.sync.snapshot_applied) or self.risk.command:
            self._cancel_excess(now_ns, emit)
        operator.request_listing(self.risk, now_ns, emit)

    def _judge_position(self, now_ns: int, emit: Emit) -> None:
        unexplained = self.sync.judge(self.book, now_ns)
        if unexplained is not None:
            emit(Alert("position_mismatch", unexplained))

    def _take_listing(self, listing: Listing, now_ns: int, emit: Emit) -> None:
        position = self.sync.note_listed(listing.position, listing.asked_at_ns, now_ns)
        self.sync.compare(self.book, now_ns)
        operator.carry_out(
            self.risk,
            listing,
            now_ns,
            self.orders,
            self.sync,
            self.rules,
            position=position,
            waiting_for_fills=bool(self.orders.waiting),
            adopt=lambda position: self._adopt_position(position, now_ns, emit),
            emit=emit,
        )

    def _adopt_position(self, position: PositionReport, now_ns: int, emit: Emit) -> None:
        """Book the difference between the exchange's position and ours as a fill by hand."""
        ours = self.book.position_at(position.trade_id)
        difference = position.pos - (self.book.position if ours is None else ours)
        px = position.avg_px or self.risk.mark_px
        if px is None and self.book.trade is not None:
            px = self.book.trade.entry_px
        if not difference or px is None:
            return
        order = adoption.order_by_hand(
            position, difference, px, now_ns, self.sync.exchange_ms(now_ns)
        )
        self.orders.add(order)
        self.orders.move(order, OrderState.FILLED)
        self.orders.waiting[order.cl_ord_id] = None
        emit(Alert("position_adopted", f"{difference} contracts at {px}"))
        self._book(now_ns, emit)

    def _tick(self, now_ns: int, emit: Emit) -> None:
        if self.orders.waiting:
            self._book(now_ns, emit)
        self._enforce(now_ns, emit)
        if self.sync.check_due(now_ns):
            self._request_snapshot(now_ns, emit)
