"""Trade operations of both transports: checks of the whole request, then each of its elements."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from oms_trio.testing.okx_server.events import OperationResult
from oms_trio.testing.okx_server.exchange import CheckInstrument, SimulatedExchange
from oms_trio.testing.okx_server.orders.request_checks import Args, RequestRejected, read_whole
from oms_trio.testing.okx_server.rate_limits import Quota
from oms_trio.testing.okx_server.values import JsonObject

MAX_BATCH = 20
SINGLES = Quota(60)
BATCHED = Quota(300)
"""Counts orders; a batch of one order counts as a single operation."""


class TradeOperation(StrEnum):
    """The operations on orders; the value is the key of its rate limit."""

    PLACE = "place"
    CANCEL = "cancel"
    AMEND = "amend"


def execute(
    exchange: SimulatedExchange,
    operation: TradeOperation,
    elements: Sequence[Args],
    check_instrument: CheckInstrument,
    *,
    exp_time: object = None,
) -> list[OperationResult]:
    """Execute one request of 1 to 20 elements, and return their results in order.

    Raises:
        RequestRejected: the whole request was rejected, by a rate limit, its ``expTime`` or a fault.
    """
    count = len(elements)
    key, quota = (operation.value, SINGLES) if count == 1 else (f"batch-{operation.value}", BATCHED)
    if not exchange.limits.admit(key, quota, exchange.true_ms, 1 if count == 1 else count):
        rejected = RequestRejected(
            "50011", "Rate limit reached. Please refer to API documentation."
        )
        if exchange.faults.rate_limit_in_data:
            return [
                OperationResult.rejection(rejected, exchange.now_ms, element)
                for element in elements
            ]
        raise rejected
    if operation is not TradeOperation.CANCEL:
        _check_exp_time(exp_time, exchange.now_ms)
    forced = exchange.faults.next_submit_answer() if operation is TradeOperation.PLACE else None
    if forced is not None and not forced.executed:
        raise RequestRejected(forced.code, "Forced by a fault.")
    results = [
        _repeated(operation, elements, index, exchange.now_ms)
        or _one(exchange, operation, element, check_instrument)
        for index, element in enumerate(elements)
    ]
    if forced is not None:
        raise RequestRejected(forced.code, "Forced by a fault.")
    return results


def unsupported_in_this_mode() -> RequestRejected:
    """Return the rejection of what only other account modes support."""
    return RequestRejected("51010", "Operation is not supported under the current account mode.")


def summary(results: Sequence[OperationResult]) -> str:
    """Return the outer code: 0 if every element succeeded, 1 if every one failed, 2 if some did."""
    failed = sum(result.code != "0" for result in results)
    if not failed:
        return "0"
    return "1" if failed == len(results) else "2"


def render(operation: TradeOperation, results: Sequence[OperationResult]) -> list[JsonObject]:
    """Return the ``data`` of an answer."""
    return [_row(operation, result) for result in results]


def _one(
    exchange: SimulatedExchange,
    operation: TradeOperation,
    element: Args,
    check_instrument: CheckInstrument,
) -> OperationResult:
    match operation:
        case TradeOperation.PLACE:
            return exchange.place(element, check_instrument)
        case TradeOperation.CANCEL:
            return exchange.cancel(element, check_instrument)
        case TradeOperation.AMEND:
            return exchange.amend(element, check_instrument)


def _repeated(
    operation: TradeOperation, elements: Sequence[Args], index: int, now_ms: int
) -> OperationResult | None:
    """Reject an id used before in the same batch, even if that order is already filled."""
    if operation is TradeOperation.CANCEL:
        return None
    code, keys = (
        ("51016", ("clOrdId",))
        if operation is TradeOperation.PLACE
        else ("51512", ("ordId", "clOrdId"))
    )
    element = elements[index]
    for key in keys:
        name = element.get(key)
        if name and any(earlier.get(key) == name for earlier in elements[:index]):
            rejected = RequestRejected(code, "The batch names the same order twice.")
            return OperationResult.rejection(rejected, now_ms, element)
    return None


def _check_exp_time(exp_time: object, now_ms: int) -> None:
    if exp_time in (None, ""):
        return
    expires_ms = read_whole(exp_time)
    if expires_ms is None:
        raise RequestRejected("51000", "Parameter expTime error")
    if expires_ms < now_ms:
        raise RequestRejected("50036", "The expTime can't be earlier than the current system time.")


def _row(operation: TradeOperation, result: OperationResult) -> JsonObject:
    row: JsonObject = {"clOrdId": result.cl_ord_id, "ordId": result.ord_id}
    if operation is TradeOperation.PLACE:
        row["tag"] = result.tag
    row["ts"] = str(result.ts_ms)
    if operation is TradeOperation.AMEND:
        row["reqId"] = result.req_id
    row |= {"sCode": result.code, "sMsg": result.msg}
    if operation is not TradeOperation.CANCEL:
        row["subCode"] = result.sub_code
    return row
