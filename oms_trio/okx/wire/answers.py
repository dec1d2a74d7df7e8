"""Translates frames into the core's inputs: answers of ops, matched to orders, and pushes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from oms_trio.core.events import (
    AccountUpdate,
    CancelAnswer,
    OrderAnswer,
    OrderUpdate,
    PositionUpdate,
)
from oms_trio.core.model import ClOrdId
from oms_trio.okx.wire.codes import cancel_verdict, is_fatal, submit_verdict
from oms_trio.okx.wire.frames import (
    AccountPush,
    ErrorEvent,
    OpResponse,
    OpResult,
    OrdersPush,
    PositionsPush,
    Push,
)

_NOT_MENTIONED: Final = ErrorEvent(code="", msg="the answer does not name this order")


def order_answers(
    frame: OpResponse | ErrorEvent, cl_ord_ids: Sequence[ClOrdId]
) -> tuple[OrderAnswer, ...]:
    """Translate the answer to ``order`` or ``batch-orders`` for each order of the request.

    There is exactly one answer per order, in the sequence of the request: the outcome of an order that
    the response does not mention is unknown.
    """
    return tuple(
        _order_answer(result, cl_ord_id) for cl_ord_id, result in _matched(frame, cl_ord_ids)
    )


def cancel_answers(
    frame: OpResponse | ErrorEvent, cl_ord_ids: Sequence[ClOrdId]
) -> tuple[CancelAnswer, ...]:
    """Translate the answer to ``cancel-order`` or ``batch-cancel-orders`` for each order."""
    return tuple(
        CancelAnswer(cl_ord_id, cancel_verdict(code), code, detail)
        for cl_ord_id, result in _matched(frame, cl_ord_ids)
        for code, detail in [_code_and_detail(result)]
    )


def updates(push: Push) -> tuple[OrderUpdate | PositionUpdate | AccountUpdate, ...]:
    """Translate a push, element by element."""
    match push:
        case OrdersPush(reports=orders):
            return tuple(OrderUpdate(report) for report in orders)
        case PositionsPush(reports=positions):
            return tuple(PositionUpdate(report) for report in positions)
        case AccountPush(balance=balance):
            if balance is None:
                return ()
            return (AccountUpdate(balance.cash_bal, balance.u_time_ms),)


def _matched(
    frame: OpResponse | ErrorEvent, cl_ord_ids: Sequence[ClOrdId]
) -> list[tuple[ClOrdId, OpResult | OpResponse | ErrorEvent]]:
    """Pair each order with its element, or with the answer to the whole request.

    Elements are in the sequence of the request. A name in an element takes precedence, since an answer
    that is matched to the wrong order could turn one order into two.
    """
    if isinstance(frame, ErrorEvent) or not frame.results:
        return [(cl_ord_id, frame) for cl_ord_id in cl_ord_ids]
    named = {result.cl_ord_id: result for result in frame.results if result.cl_ord_id}
    pairs: list[tuple[ClOrdId, OpResult | OpResponse | ErrorEvent]] = []
    for index, cl_ord_id in enumerate(cl_ord_ids):
        result = named.get(cl_ord_id)
        if result is None and index < len(frame.results) and not frame.results[index].cl_ord_id:
            result = frame.results[index]
        pairs.append((cl_ord_id, _NOT_MENTIONED if result is None else result))
    return pairs


def _order_answer(result: OpResult | OpResponse | ErrorEvent, cl_ord_id: ClOrdId) -> OrderAnswer:
    code, detail = _code_and_detail(result)
    fatal = is_fatal(code)
    if isinstance(result, OpResult):
        verdict, reason = submit_verdict(code)
        return OrderAnswer(cl_ord_id, verdict, result.ord_id, code, detail, reason, fatal)
    # "0" without an element: the gateway does not name what it accepted, perhaps nothing.
    verdict, reason = submit_verdict("" if code == "0" else code, of_element=False)
    return OrderAnswer(cl_ord_id, verdict, None, code, detail, reason, fatal)


def _code_and_detail(result: OpResult | OpResponse | ErrorEvent) -> tuple[str, str]:
    if isinstance(result, OpResult):
        return result.s_code, f"{result.sub_code} {result.s_msg}".strip()
    return result.code, result.msg
