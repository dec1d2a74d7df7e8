"""Unreadable rows are ignored when they are not ours, and an error that names the order when they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from oms_trio.okx.errors import ProtocolError
from oms_trio.okx.wire import bodies
from oms_trio.okx.wire.codec import decode_frame
from oms_trio.okx.wire.frames import AccountPush, OrdersPush, PositionsPush
from oms_trio.okx.wire.row_reader import KINDS, IgnoredRows
from tests.okx.samples import (
    ACCOUNT,
    INST_ID,
    POSITION,
    fill_row,
    order_row,
    orders_push,
    positions_push,
    rest_body,
)

NAME = f"oms{7:08x}{'ab' * 10}"
FOREIGN = {"tag": "", "clOrdId": "byHand1", "ordId": "66"}

UNREADABLE: list[dict[str, Any]] = [
    {"state": "frozen"},
    {"side": "sideways"},
    {"sz": "0"},
    {"sz": 5},
    {"px": {"deep": 1}},
    {"accFillSz": "many"},
    {"ordId": ""},
]


@pytest.mark.parametrize("changes", UNREADABLE)
def test_an_unreadable_order_of_somebody_else_is_ignored(
    changes: dict[str, Any],
) -> None:
    ignored = IgnoredRows()
    row = order_row(**(FOREIGN | changes))
    frame = decode_frame(orders_push(row, order_row()), INST_ID, "rl", ignored)
    assert isinstance(frame, OrdersPush)
    assert [report.tag for report in frame.reports] == ["rl"]
    page = rest_body(order_row(), row)
    (report,) = bodies.orders(page, INST_ID, tag="rl", on_ignored=ignored)
    assert report.tag == "rl"
    assert ignored.count == 2


@pytest.mark.parametrize("changes", UNREADABLE)
@pytest.mark.parametrize(
    "whose",
    [
        {"tag": "rl", "clOrdId": "anything"},
        {"tag": "", "clOrdId": NAME},
        {"tag": "", "clOrdId": "", "category": "full_liquidation"},
    ],
)
def test_an_unreadable_order_of_ours_is_an_error_that_names_it(
    changes: dict[str, Any], whose: dict[str, str]
) -> None:
    row = order_row(**(whose | changes))
    name = next(iter(changes))
    for read in (
        lambda: decode_frame(orders_push(order_row(), row), INST_ID, "rl"),
        lambda: bodies.orders(rest_body(order_row(), row), INST_ID, tag="rl"),
    ):
        with pytest.raises(ProtocolError) as caught:
            read()
        assert caught.value.path == f"$.data[1].{name}"
        named = row["ordId"] or row["clOrdId"]
        assert str(named) in str(caught.value)


def test_a_record_is_read_as_its_frame_was_when_it_arrived() -> None:
    """A record is only written of what was read, so what cannot be read was not ours then."""
    frame = decode_frame(orders_push(order_row(state="frozen"), order_row()), INST_ID)
    assert isinstance(frame, OrdersPush)
    assert len(frame.reports) == 1


def test_unknown_types_and_categories_do_not_make_a_row_unreadable() -> None:
    row = order_row(ordType="brand_new", category="brand_new", tag="", clOrdId="x")
    frame = decode_frame(orders_push(row), INST_ID, "rl")
    assert isinstance(frame, OrdersPush)
    (report,) = frame.reports
    assert (report.ord_type, report.category) == ("brand_new", "brand_new")


def test_a_row_without_an_owner_may_be_ours() -> None:
    for row in ("row", 7, [1]):
        with pytest.raises(ProtocolError) as caught:
            decode_frame(orders_push(order_row(), row), INST_ID, "rl")
        assert caught.value.path == "$.data[1]"


@pytest.mark.parametrize(
    "other",
    [
        {"instId": "ETH-USDT-SWAP", "pos": "?", "uTime": ""},
        {"instId": "ETH-USDT-SWAP", "pos": 5},
        {"mgnMode": "brand_new", "pos": "?"},
        {"mgnMode": "isolated", "pos": 5},
        {"mgnMode": None},
    ],
)
def test_a_position_that_is_not_ours_may_be_anything(other: dict[str, Any]) -> None:
    row = json.loads(POSITION)["data"][0]
    body = rest_body({**row, **other}, row)
    report = bodies.position(body, INST_ID)
    assert report is not None
    assert report.pos == 3.5
    frame = decode_frame(positions_push(**other), INST_ID, "rl")
    assert isinstance(frame, PositionsPush)
    assert frame.reports == ()


def test_our_position_must_be_readable() -> None:
    for changes in ({"pos": 5}, {"pos": "?"}):
        with pytest.raises(ProtocolError) as caught:
            decode_frame(positions_push(**changes), INST_ID)
        assert caught.value.path == "$.data[0].pos"


def test_another_currency_may_be_anything() -> None:
    frame = json.loads(ACCOUNT)
    frame["data"][0]["details"].insert(0, {"ccy": "NEW", "cashBal": 5})
    decoded = decode_frame(json.dumps(frame), INST_ID)
    assert isinstance(decoded, AccountPush)
    assert decoded.balance is not None


def test_an_unreadable_fill_is_ignored_unless_it_is_ours() -> None:
    row = fill_row(tag="", clOrdId="x", fillPx="-1")
    assert len(bodies.fills(rest_body(row, fill_row()), INST_ID, tag="rl")) == 1
    for ours in ({"tag": "rl"}, {"clOrdId": NAME}, {"subType": "126"}):
        with pytest.raises(ProtocolError):
            bodies.fills(rest_body({**row, **ours}), INST_ID, tag="rl")


def test_paging_continues_after_unreadable_rows() -> None:
    rows = [{"ordId": str(number), "billId": str(number), "sz": 5} for number in range(100)]
    assert bodies.orders_cursor(rest_body(*rows)) == "99"
    assert bodies.bills_cursor(rest_body(*rows)) == "99"
    with pytest.raises(ProtocolError):
        bodies.orders_cursor(rest_body(*rows[1:], {"ordId": 7}))


def test_each_kind_is_logged_once_and_every_row_is_counted() -> None:
    ignored = IgnoredRows()
    with capture_logs() as logs:
        for number in range(50):
            ignored(ProtocolError(f"$.data[{number}].state", "unknown value 'frozen'"))
        ignored(ProtocolError("$.data[0].state", "unknown value 'other'"))
    assert ignored.count == 51
    assert [line["why"] for line in logs] == ["unknown value 'frozen'", "unknown value 'other'"]
    with capture_logs() as logs:
        for number in range(10 * KINDS):
            ignored(ProtocolError("$.data[0].state", f"unknown value '{number}'"))
    assert len(logs) < KINDS
