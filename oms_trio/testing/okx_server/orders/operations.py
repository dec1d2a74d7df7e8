"""Trade operations as both transports carry them out: whole-request checks, then every element."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from oms_trio.testing.okx_server.events import OperationResult
from oms_trio.testing.okx_server.exchange import CheckInstrument, Exchange
from oms_trio.testing.okx_server.orders.admission import Args, Refused, read_whole
from oms_trio.testing.okx_server.rate_limits import Quota
from oms_trio.testing.okx_server.rest.trade_rows import amended, canceled, placed
from oms_trio.testing.okx_server.ws.pushes import JsonObject

MAX_BATCH = 20
SINGLES = Quota(60)
BATCHED = Quota(300)
"""Counted in orders; a batch of one counts as a single operation."""


class Op(StrEnum):
    """What is done to orders; the value names its rate limit."""

    PLACE = "place"
    CANCEL = "cancel"
    AMEND = "amend"


_RENDER = {Op.PLACE: placed, Op.CANCEL: canceled, Op.AMEND: amended}


def carry_out(
    exchange: Exchange,
    op: Op,
    elements: Sequence[Args],
    check_instrument: CheckInstrument,
    *,
    exp_time: object = None,
) -> list[OperationResult]:
    """Carry out one request of 1 to 20 elements and return their outcomes in order.

    Raises:
        Refused: the whole request was refused: rate limit, time of expiry, or a forced answer.
    """
    count = len(elements)
    key, quota = (op.value, SINGLES) if count == 1 else (f"batch-{op.value}", BATCHED)
    if not exchange.limits.admit(key, quota, exchange.steady_ms, 1 if count == 1 else count):
        refused = Refused("50011", "Rate limit reached. Please refer to API documentation.")
        if exchange.faults.rate_limit_in_data:
            return [
                OperationResult.of_refusal(refused, exchange.now_ms, element)
                for element in elements
            ]
        raise refused
    if op is not Op.CANCEL:
        _check_exp_time(exp_time, exchange.now_ms)
    forced = exchange.faults.next_submit_answer() if op is Op.PLACE else None
    if forced is not None and not forced.executed:
        raise Refused(forced.code, "Forced by a fault switch.")
    outcomes = [
        _repeated(op, elements, index, exchange.now_ms)
        or _one(exchange, op, element, check_instrument)
        for index, element in enumerate(elements)
    ]
    if forced is not None:
        raise Refused(forced.code, "Forced by a fault switch.")
    return outcomes


def not_in_this_mode() -> Refused:
    """Return the refusal of what only other account modes have."""
    return Refused("51010", "Operation is not supported under the current account mode.")


def summary(outcomes: Sequence[OperationResult]) -> str:
    """Return the outer code: 0 every element succeeded, 1 every element failed, 2 mixed."""
    failed = sum(outcome.code != "0" for outcome in outcomes)
    if not failed:
        return "0"
    return "1" if failed == len(outcomes) else "2"


def render(op: Op, outcomes: Sequence[OperationResult]) -> list[JsonObject]:
    """Return the ``data`` of an answer."""
    return [_RENDER[op](outcome) for outcome in outcomes]


def _one(
    exchange: Exchange, op: Op, element: Args, check_instrument: CheckInstrument
) -> OperationResult:
    match op:
        case Op.PLACE:
            return exchange.place(element, check_instrument)
        case Op.CANCEL:
            return exchange.cancel(element, check_instrument)
        case Op.AMEND:
            return exchange.amend(element, check_instrument)


def _repeated(op: Op, elements: Sequence[Args], index: int, now_ms: int) -> OperationResult | None:
    """Refuse a name used before in the same batch, even if that order is filled already."""
    if op is Op.CANCEL:
        return None
    code, keys = ("51016", ("clOrdId",)) if op is Op.PLACE else ("51512", ("ordId", "clOrdId"))
    element = elements[index]
    for key in keys:
        name = element.get(key)
        if name and any(earlier.get(key) == name for earlier in elements[:index]):
            refused = Refused(code, "The same order is named twice in one batch.")
            return OperationResult.of_refusal(refused, now_ms, element)
    return None


def _check_exp_time(exp_time: object, now_ms: int) -> None:
    if exp_time in (None, ""):
        return
    expires_ms = read_whole(exp_time)
    if expires_ms is None:
        raise Refused("51000", "Parameter expTime error")
    if expires_ms < now_ms:
        raise Refused("50036", "The expTime can't be earlier than the current system time.")
