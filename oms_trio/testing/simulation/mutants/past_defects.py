"""Mistakes that show only in certain situations; most were once in this service.

For each defect of the first release that adversarial tests found, at least one mutant restores it.
The others survived ten harsh runs of the first version of this simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import attrs
import trio

from oms_trio.core import answers
from oms_trio.core.effects import Effect, LookUpOrder
from oms_trio.core.events import Action, Listing, LookupAnswer
from oms_trio.core.model import NS_PER_MS, Cause, ExchangeMs, RewardUnit
from oms_trio.core.orders import OrderInfo
from oms_trio.core.reconcile import Sync
from oms_trio.core.risk import Risk
from oms_trio.core.state import TradeState
from oms_trio.journal.journal import Journal
from oms_trio.okx.rate_limits import Limiter
from oms_trio.testing.simulation.mutants.mutant import Mutant, getter, value


def _sent_at_once(sound: Any) -> Any:  # noqa: ANN401 - any function, here and below
    def broken(self: TradeState, action: Action, now_ns: int, do: Callable[[Effect], None]) -> None:
        def send(effect: Effect) -> None:
            order = self.orders.find(effect.cl_ord_id) if isinstance(effect, LookUpOrder) else None
            if order is not None and order.verify_before_send:
                order.verify_before_send = False
                answers.place(order, self.risk, self.sync, do)
            else:
                do(effect)

        sound(self, action, now_ns, send)

    return broken


def _subtracted(sound: Any) -> Any:  # noqa: ANN401
    async def broken(self: Any) -> int:  # noqa: ANN401
        self._offset_ns = -await sound(self)
        return int(self._offset_ns)

    return broken


def _one_page(sound: Any) -> Any:  # noqa: ANN401
    async def broken(self: Any, *args: Any) -> tuple[str, ...]:  # noqa: ANN401
        whole: tuple[str, ...] = await sound(self, *args)
        return whole[:1]

    return broken


def _compacted_past_snapshots(_sound: Any) -> Any:  # noqa: ANN401
    def broken(self: Journal, keep_from_ns: int, limit: int = 10_000) -> int:
        del limit
        with self._transaction(durable=False) as connection:
            return connection.execute(
                "DELETE FROM records WHERE at_ns < ?", (keep_from_ns,)
            ).rowcount

    return broken


def _no_rate_limit(_sound: Any) -> Any:  # noqa: ANN401
    async def broken(_self: Limiter, _n: int = 1) -> None:
        await trio.lowlevel.checkpoint()

    return broken


def _pause_only(_sound: Any) -> Any:  # noqa: ANN401
    def broken(self: Risk, _created_ns: int) -> str | None:
        return self.paused

    return broken


def _absence_of_the_named(sound: Any) -> Any:  # noqa: ANN401
    def broken(
        orders: Any,  # noqa: ANN401
        order: OrderInfo,
        answer: LookupAnswer,
        now_ns: int,
        *,
        sync: Sync,
        **more: Any,  # noqa: ANN401
    ) -> None:
        late = attrs.evolve(answer, asked_at_ns=answer.asked_at_ns + 86_400_000_000_000)
        named = order.has_okx_id and not order.verify_before_send and not order.outcome_unknown
        sound(orders, order, late if named else answer, now_ns, sync=sync, **more)

    return broken


def _landing_fills_excuse(sound: Any) -> Any:  # noqa: ANN401
    """Restart the time of a difference with every fill, as if a fill could explain it."""

    def broken(self: TradeState, now_ns: int, do: Callable[[Effect], None]) -> None:
        before = self.book.fills
        sound(self, now_ns, do)
        if self.book.fills != before:
            self.sync.differs_since_ns = None
            self.sync.position_matches = True

    return broken


def _flat_by_the_book(sound: Any) -> Any:  # noqa: ANN401
    def broken(risk: Risk, listing: Listing, *args: Any, **more: Any) -> None:  # noqa: ANN401
        listed = listing.position
        if listed is not None:
            listing = attrs.evolve(listing, position=attrs.evolve(listed, pos=Decimal(0)))
        sound(risk, listing, *args, **more)

    return broken


def _wall_clock(_sound: Any) -> Any:  # noqa: ANN401
    def broken(_not_before_ns: int, *, wall: Callable[[], int], elapsed: object) -> Any:  # noqa: ANN401
        del elapsed
        return wall

    return broken


def _ours_for_theirs(_sound: Any) -> Any:  # noqa: ANN401
    def broken(_self: Sync, at_ns: int) -> ExchangeMs:
        return ExchangeMs(at_ns // NS_PER_MS)

    return broken


def _theirs_for_ours(_sound: Any) -> Any:  # noqa: ANN401
    def broken(_self: Sync, at_ms: int) -> int:
        return at_ms * NS_PER_MS

    return broken


def _mid_believed(sound: Any) -> Any:  # noqa: ANN401
    def broken(action: Action, **terms: Any) -> Any:  # noqa: ANN401
        return sound(action, **{**terms, "mark_px": None})

    return broken


def _quotients_summed(_sound: Any) -> Any:  # noqa: ANN401
    def broken(self: Any, rules: Any) -> Decimal:  # noqa: ANN401
        money: Decimal = self.pnl + (self.fees + self.funding if rules.reward_net else 0)
        if rules.reward_unit is RewardUnit.USDT or not self.reduced_notional:
            return money
        # As many times as orders took part: what more fills make of a sum of quotients.
        part: Decimal = money * len(self.parts) / self.reduced_notional
        return part * rules.leverage * 100 if rules.reward_unit is RewardUnit.ROE else part

    return broken


def _funding_forgotten(_sound: Any) -> Any:  # noqa: ANN401
    def broken(*_args: Any) -> None:  # noqa: ANN401
        pass

    return broken


def _saturated_taken(_sound: Any) -> Any:  # noqa: ANN401
    def broken(bits: int, _wire: Any) -> Decimal:  # noqa: ANN401
        fraction = Decimal(bits & (2**63 - 1)) / Decimal(2**63 - 1)
        return round(-fraction if bits >> 63 else fraction, 15)

    return broken


def _silently_expired(sound: Any) -> Any:  # noqa: ANN401
    def broken(self: TradeState, action: Action, *args: Any) -> None:  # noqa: ANN401
        sound(self, attrs.evolve(action, known=action.known or action.expired), *args)

    return broken


def _all_rows_ours(_sound: Any) -> Any:  # noqa: ANN401
    """Treat every row as ours, as the first release did; records were read before."""

    def broken(row: Any, inst_id: str, tag: str | None) -> bool:  # noqa: ANN401
        return tag is not None and bool(row.inst_id == inst_id)

    return broken


MUTANTS: Final[dict[str, Mutant]] = {
    # Found by a review.
    "a position mismatch never stops orders": Mutant(
        "oms_trio.core.reconcile:Sync.in_sync",
        getter(lambda self: self.has_session and self.snapshot_applied),
    ),
    "a redelivery is sent at once": Mutant(
        "oms_trio.core.state:TradeState._take_action", _sent_at_once
    ),
    "the clock's offset is subtracted": Mutant(
        "oms_trio.okx.rest_client:RestClient.measure_offset", _subtracted
    ),
    "one page of REST is read": Mutant("oms_trio.okx.rest:Rest._pages", _one_page),
    "compaction goes past snapshots": Mutant(
        "oms_trio.journal.journal:Journal.compact", _compacted_past_snapshots
    ),
    "withdrawn orders are sent": Mutant(
        "oms_trio.core.risk:Risk.is_withdrawn", value(lambda _self, _order: False)
    ),
    "no rate limit is kept": Mutant("oms_trio.okx.rate_limits:Limiter.acquire", _no_rate_limit),
    "cancel-all does not hold back later orders": Mutant(
        "oms_trio.core.risk:Risk.withholds", _pause_only
    ),
    "no overlap in the watermark": Mutant("oms_trio.core.reconcile:OVERLAP_MS", value(0)),
    "one absence ends a live order": Mutant(
        "oms_trio.core.answers:take_absence", _absence_of_the_named
    ),
    # Found by adversarial tests of the first release.
    "a fill excuses a difference of positions": Mutant(
        "oms_trio.core.state:TradeState._book", _landing_fills_excuse
    ),
    "orders are looked up one by one": Mutant("oms_trio.tasks.reconciler:LOOK_UPS", value(1)),
    "flatten trusts our own position": Mutant(
        "oms_trio.core.operator:carry_out", _flat_by_the_book
    ),
    "a foreign row stops reconciliation": Mutant(
        "oms_trio.okx.wire.row_reader:_is_ours", _all_rows_ours
    ),
    "fills of a liquidation are ignored": Mutant(
        "oms_trio.core.adoption:CAUSE_OF_CATEGORY", value(dict[str, Cause]())
    ),
    "a running process follows the wall clock": Mutant(
        "oms_trio.testing.simulation.machine.process:service_clock", _wall_clock
    ),
    "our clock is used as the exchange's": Mutant(
        "oms_trio.core.reconcile:Sync.exchange_ms", _ours_for_theirs
    ),
    "the exchange's clock is used as ours": Mutant(
        "oms_trio.core.reconcile:Sync.service_ns", _theirs_for_ours
    ),
    "a lagging read counts as current": Mutant(
        "oms_trio.core.reconcile:Sync.has_shown", value(lambda _self, _until, _asked: True)
    ),
    "the cap uses the agent's mid price": Mutant("oms_trio.core.state:size_order", _mid_believed),
    "a session is kept though it answers nothing": Mutant(
        "oms_trio.okx.pending_requests:PendingRequests.hangs", value(lambda _self, _overdue: False)
    ),
    "a saturated price is taken": Mutant("oms_trio.amqp.codec:_decode_price", _saturated_taken),
    "a pause is not noticed": Mutant("oms_trio.amqp.memory:HELD_S", value(1e9)),
    "a return grows with the fills": Mutant("oms_trio.core.trade:Trade.gained", _quotients_summed),
    "funding is forgotten": Mutant("oms_trio.core.book:Book.note_funding", _funding_forgotten),
    "expired actions are not rejected": Mutant(
        "oms_trio.core.state:TradeState._take_action", _silently_expired
    ),
}
