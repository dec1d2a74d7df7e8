"""Mistakes on the path of data: from action to order, from fill to message, to the disk and back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import count
from typing import Any, Final

import attrs
import msgspec
import structlog

from oms_trio.amqp.model import Broker, BrokerUnavailable, Outgoing
from oms_trio.core.events import (
    Action,
    Event,
    ExchangeSnapshot,
    OrderAnswer,
    OrderUpdate,
    PositionUpdate,
    Tick,
    Verdict,
)
from oms_trio.core.identity import order_name
from oms_trio.core.model import ClOrdId, Fill, OrderReport, Side, StateId
from oms_trio.core.orders import OrderInfo, Orders, in_execution_order
from oms_trio.core.reconcile import Sync
from oms_trio.core.state import TradeState
from oms_trio.core.trade import Trade
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Message
from oms_trio.service.channels import Commit
from oms_trio.testing.simulation.machine.process import SlowBroker
from oms_trio.testing.simulation.mutants.mutant import Mutant

log = structlog.get_logger()


def _ack_before_commit(sound: Any) -> Any:  # noqa: ANN401 - any function, here and below
    async def broken(
        group: list[Commit],
        durable: Any,  # noqa: ANN401
        disk: Any,  # noqa: ANN401
        broker: Broker,
        *more: Any,  # noqa: ANN401
    ) -> None:
        broker.ack([done.delivery for part in group for done in part.settle])
        await sound(group, durable, disk, broker, *more)

    return broken


def _new_name_each_time(_sound: Any) -> Any:  # noqa: ANN401
    numbers = count()

    def broken(state_id: StateId, _identity: bytes) -> ClOrdId:
        return order_name(state_id, b"%d" % next(numbers))

    return broken


def _redelivery_believed_new(sound: Any) -> Any:  # noqa: ANN401
    def broken(self: TradeState, action: Action, *args: Any) -> None:  # noqa: ANN401
        sound(self, attrs.evolve(action, redelivered=False), *args)

    return broken


def _repeats_counted(_sound: Any) -> Any:  # noqa: ANN401
    def broken(self: Orders, order: OrderInfo, fill: Fill) -> None:
        if fill.trade_id is not None:
            order.held[fill.trade_id] = fill
            self.waiting[order.cl_ord_id] = None

    return broken


def _gap_not_held(_sound: Any) -> Any:  # noqa: ANN401
    def broken(orders: Orders) -> list[Fill]:
        found: list[Fill] = []
        for order in orders:
            found.extend(order.held.values())
            order.held.clear()
        return in_execution_order(found)

    return broken


def _snapshot_overwrites(sound: Any) -> Any:  # noqa: ANN401
    def broken(self: TradeState, snapshot: ExchangeSnapshot, *args: Any) -> None:  # noqa: ANN401
        for report in snapshot.orders:
            order = self.orders.find(report.cl_ord_id, report.ord_id)
            if order is not None:
                order.filled_size = max(order.filled_size, report.acc_fill_sz)
        sound(self, snapshot, *args)

    return broken


def _open_orders_ignored(sound: Any) -> Any:  # noqa: ANN401
    def broken(action: Action, **terms: Any) -> Any:  # noqa: ANN401
        return sound(action, **{**terms, "open_same_side": dict.fromkeys(Side, Decimal(0))})

    return broken


def _outbox_not_read(_sound: Any) -> Any:  # noqa: ANN401
    def broken(_self: Journal, *_range: int) -> list[tuple[int, Message]]:
        return []

    return broken


def _confirm_not_awaited(sound: Any) -> Any:  # noqa: ANN401
    async def broken(self: SlowBroker, messages: Sequence[Outgoing]) -> None:
        with suppress(BrokerUnavailable):
            await sound(self, messages)

    return broken


def _unknown_is_rejected(sound: Any) -> Any:  # noqa: ANN401
    def broken(orders: Orders, answer: OrderAnswer, now_ns: int, **more: Any) -> None:  # noqa: ANN401
        if answer.verdict is Verdict.UNKNOWN:
            answer = attrs.evolve(answer, verdict=Verdict.REJECTED)
        sound(orders, answer, now_ns, **more)

    return broken


def _without_expiry(sound: Any) -> Any:  # noqa: ANN401
    def broken(*args: Any, **more: Any) -> str:  # noqa: ANN401
        request = msgspec.json.decode(sound(*args, **more))
        request.pop("expTime")
        return msgspec.json.encode(request).decode()

    return broken


def _absence_believed_at_once(sound: Any) -> Any:  # noqa: ANN401
    def broken(
        orders: Orders,
        order: OrderInfo,
        answer: Any,  # noqa: ANN401
        now_ns: int,
        **more: Any,  # noqa: ANN401
    ) -> None:
        late = attrs.evolve(answer, asked_at_ns=answer.asked_at_ns + 3_600_000_000_000)
        sound(orders, order, late, now_ns, **more)

    return broken


def _foreign_orders_adopted(sound: Any) -> Any:  # noqa: ANN401
    def broken(self: TradeState, report: OrderReport) -> OrderInfo | None:
        name = ClOrdId(f"oms00000000{int(report.ord_id) % 10**20:020x}")
        ours = attrs.evolve(report, tag=self.rules.tag, cl_ord_id=report.cl_ord_id or name)
        found: OrderInfo | None = sound(self, ours)
        return found

    return broken


def _nothing_kept_aside(_sound: Any) -> Any:  # noqa: ANN401
    def broken(_self: Sync, _update: OrderUpdate | PositionUpdate, _now_ns: int) -> bool:
        return False

    return broken


def _any_drawdown(_sound: Any) -> Any:  # noqa: ANN401
    def broken(self: Trade, report: Any) -> bool:  # noqa: ANN401
        return bool(report.pos) and self.size > 0

    return broken


def _unrecorded_change(sound: Any) -> Any:  # noqa: ANN401
    def broken(self: TradeState, event: Event, now_ns: int) -> Any:  # noqa: ANN401
        if isinstance(event, Tick):
            self.foreign_reports += 1
        return sound(self, event, now_ns)

    return broken


def _secret_logged(sound: Any) -> Any:  # noqa: ANN401
    def broken(*args: Any) -> str:  # noqa: ANN401
        frame = str(sound(*args))
        log.debug("logging_in", frame=frame)
        return frame

    return broken


MUTANTS: Final[dict[str, Mutant]] = {
    "acknowledged before the commit": Mutant("oms_trio.tasks.commit:_commit", _ack_before_commit),
    "a new clOrdId at every try": Mutant("oms_trio.core.identity:order_name", _new_name_each_time),
    "a redelivery counts as new": Mutant(
        "oms_trio.core.state:TradeState._take_action", _redelivery_believed_new
    ),
    "repeats of a tradeId counted": Mutant("oms_trio.core.orders:Orders.hold", _repeats_counted),
    "fills booked over a gap": Mutant("oms_trio.core.fills:release", _gap_not_held),
    "a snapshot overwrites fills": Mutant(
        "oms_trio.core.state:TradeState._merge", _snapshot_overwrites
    ),
    "the cap ignores open orders": Mutant("oms_trio.core.state:size_order", _open_orders_ignored),
    "the outbox is lost at a restart": Mutant(
        "oms_trio.journal.journal:Journal.outbox", _outbox_not_read
    ),
    "a missing confirm is ignored": Mutant(
        "oms_trio.testing.simulation.machine.process:SlowBroker.publish", _confirm_not_awaited
    ),
    "an unknown outcome counts as rejected": Mutant(
        "oms_trio.core.answers:take_order_answer", _unknown_is_rejected
    ),
    "orders without expTime": Mutant("oms_trio.tasks.sender:encode_order", _without_expiry),
    "one absence proves that there is no order": Mutant(
        "oms_trio.core.answers:take_absence", _absence_believed_at_once
    ),
    "orders without our tag adopted": Mutant(
        "oms_trio.core.state:TradeState._adopt", _foreign_orders_adopted
    ),
    "pushes before the snapshot lost": Mutant(
        "oms_trio.core.reconcile:Sync.buffer", _nothing_kept_aside
    ),
    "drawdowns of other trades counted": Mutant("oms_trio.core.trade:Trade.owns", _any_drawdown),
    "a state change without a record": Mutant(
        "oms_trio.core.state:TradeState.apply", _unrecorded_change
    ),
    "the login written to the log": Mutant("oms_trio.okx.session:encode_login", _secret_logged),
}
