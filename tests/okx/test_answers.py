"""Answers of ops matched to their orders, and pushes as the core's inputs."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest

from oms_trio.core.events import (
    AccountUpdate,
    CancelAnswer,
    OrderAnswer,
    OrderUpdate,
    PositionUpdate,
    Verdict,
)
from oms_trio.core.model import ClOrdId, OrdId, RejectReason
from oms_trio.okx.wire.answers import cancel_answers, order_answers, updates
from oms_trio.okx.wire.codec import decode_frame
from oms_trio.okx.wire.frames import (
    AccountPush,
    ErrorEvent,
    OpResponse,
    OpResult,
    OrdersPush,
    PositionsPush,
)
from tests.okx.samples import (
    ACCOUNT,
    INST_ID,
    ORDER_OK,
    ORDER_REJECTED,
    PARTIAL_FILL,
    POSITION,
    REQUEST_REFUSED,
)

A, B, C = ClOrdId("a"), ClOrdId("b"), ClOrdId("c")


def response(text: str) -> OpResponse:
    frame = decode_frame(text, INST_ID)
    assert isinstance(frame, OpResponse)
    return frame


def batch(code: str, *results: OpResult) -> OpResponse:
    return OpResponse("1", "batch-cancel-orders", code, "", results)


def result(cl_ord_id: str, s_code: str) -> OpResult:
    return OpResult(ClOrdId(cl_ord_id), None, s_code, "")


def test_an_accepted_order() -> None:
    """A success may have a message, which is not a sign of failure."""
    (answer,) = order_answers(response(ORDER_OK), [ClOrdId("oms7f3a01")])
    assert answer == OrderAnswer(
        ClOrdId("oms7f3a01"),
        Verdict.ACCEPTED,
        OrdId("3967288020668928111"),
        "0",
        "Order placed",
    )


def test_a_rejected_order_has_the_reason_of_its_element() -> None:
    """nautilus_trader#3576: the outer code and message do not contain the reason."""
    (answer,) = order_answers(response(ORDER_REJECTED), [ClOrdId("oms7f3a02")])
    assert answer == OrderAnswer(
        ClOrdId("oms7f3a02"),
        Verdict.REJECTED,
        None,
        "51008",
        "51008_1001 Insufficient margin",
        RejectReason.EXCHANGE,
    )


def test_the_rejection_of_a_whole_request_answers_every_order() -> None:
    answers = order_answers(response(REQUEST_REFUSED), [A, B])
    assert [(answer.cl_ord_id, answer.verdict, answer.code) for answer in answers] == [
        (A, Verdict.REJECTED, "60013"),
        (B, Verdict.REJECTED, "60013"),
    ]


@pytest.mark.parametrize("as_element", [True, False])
def test_a_rate_limit_is_understood_in_either_form(as_element: bool) -> None:  # noqa: FBT001 - a parameter of the test
    frame = batch("1", result("a", "50011")) if as_element else batch("50011")
    (answer,) = order_answers(frame, [A])
    assert (answer.verdict, answer.reason) == (Verdict.RETRY, RejectReason.RATE_LIMITED)


@pytest.mark.parametrize("code", ["0", "1", "2", "", "64007", "50004", "77777"])
def test_a_whole_answer_that_proves_nothing_leaves_the_order_unknown(code: str) -> None:
    for frame in (batch(code), ErrorEvent(code, "failed", "1")):
        (answer,) = order_answers(frame, [A])
        assert answer.verdict is Verdict.UNKNOWN


def test_an_order_missing_from_the_answer_is_unknown_and_the_others_are_not() -> None:
    answers = order_answers(batch("2", result("c", "51008"), result("a", "0")), [A, B, C])
    assert [(answer.cl_ord_id, answer.verdict) for answer in answers] == [
        (A, Verdict.ACCEPTED),
        (B, Verdict.UNKNOWN),
        (C, Verdict.REJECTED),
    ]


def test_an_element_that_names_another_order_is_not_matched_by_position() -> None:
    (answer,) = order_answers(batch("0", result("b", "0")), [A])
    assert answer.verdict is Verdict.UNKNOWN


def test_elements_without_names_are_matched_by_position() -> None:
    answers = cancel_answers(batch("2", result("", "0"), result("", "51400")), [A, B])
    assert answers == (
        CancelAnswer(A, Verdict.ACCEPTED, "0"),
        CancelAnswer(B, Verdict.GONE, "51400"),
    )


def test_one_bad_element_of_a_batch_does_not_drop_the_rest() -> None:
    frame = batch("2", result("a", "51400"), result("b", "50001"), result("c", "0"))
    answers = cancel_answers(frame, [A, B, C])
    assert [answer.verdict for answer in answers] == [
        Verdict.GONE,
        Verdict.UNKNOWN,
        Verdict.ACCEPTED,
    ]


def test_pushes_become_inputs_element_by_element() -> None:
    orders = decode_frame(PARTIAL_FILL, INST_ID)
    assert isinstance(orders, OrdersPush)
    first, second = orders.reports[0], attrs.evolve(orders.reports[0], ord_id=OrdId("2"))
    assert updates(OrdersPush((first, second))) == (
        OrderUpdate(first),
        OrderUpdate(second),
    )
    positions = decode_frame(POSITION, INST_ID)
    assert isinstance(positions, PositionsPush)
    assert updates(positions) == (PositionUpdate(positions.reports[0]),)
    account = decode_frame(ACCOUNT, INST_ID)
    assert isinstance(account, AccountPush)
    assert updates(account) == (AccountUpdate(Decimal("999.4119993"), 1790000006990),)
    assert updates(AccountPush(None)) == ()
