"""Frames of the private WebSocket, good and bad."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core.model import ClOrdId, Fill, OrderReport, OrderState, OrdId, Side, TradeId
from oms_trio.okx.errors import ProtocolError
from oms_trio.okx.wire.codec import decode_frame
from oms_trio.okx.wire.frames import (
    AccountPush,
    Balance,
    ChannelCount,
    ChannelCountExceeded,
    ErrorEvent,
    Frame,
    LoggedIn,
    Notice,
    OpResponse,
    OpResult,
    OrdersPush,
    Pong,
    PositionsPush,
    Subscribed,
    UnknownFrame,
    Unsubscribed,
)
from tests.okx.samples import (
    ACCOUNT,
    INST_ID,
    LOGIN_OK,
    ORDER_OK,
    ORDER_REJECTED,
    PARTIAL_FILL,
    POSITION,
    REQUEST_REFUSED,
    live_row,
    order_row,
    orders_push,
    positions_push,
)

ORD_ID = OrdId("3967288020668928111")


def decode(text: str | bytes) -> Frame:
    return decode_frame(text, INST_ID, "rl")


def only_report(text: str) -> OrderReport:
    frame = decode(text)
    assert isinstance(frame, OrdersPush)
    (report,) = frame.reports
    return report


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("pong", Pong()),
        (b"pong", Pong()),
        (LOGIN_OK, LoggedIn("7c1d90ab")),
        (
            '{"event":"error","code":"60009","msg":"Login failed.","connId":"7c1d90ab"}',
            ErrorEvent("60009", "Login failed."),
        ),
        (
            '{"id":"s1","event":"error","code":"60012","msg":"Invalid request: {...}"}',
            ErrorEvent("60012", "Invalid request: {...}", "s1"),
        ),
        (
            '{"id":"s1","event":"subscribe","arg":{"channel":"orders","instType":"SWAP"}}',
            Subscribed("orders"),
        ),
        ('{"event":"unsubscribe","arg":{"channel":"account"}}', Unsubscribed("account")),
        (
            '{"event":"channel-conn-count","channel":"orders","connCount":"2","connId":"7c"}',
            ChannelCount("orders"),
        ),
        (
            '{"event":"channel-conn-count-error","channel":"orders","connCount":"30"}',
            ChannelCountExceeded("orders"),
        ),
        (
            '{"event":"notice","code":"64008","msg":"upgrade","connId":"7c1d90ab"}',
            Notice("64008", "upgrade"),
        ),
        ('{"event":"something-new","level":7}', UnknownFrame("something-new")),
        ('{"arg":{"channel":"fills"},"data":[{"px":1}]}', UnknownFrame("fills")),
        ("{}", UnknownFrame("")),
    ],
)
def test_events(text: str | bytes, frame: Frame) -> None:
    assert decode(text) == frame


def test_a_login_event_without_success_is_an_error() -> None:
    assert decode('{"event":"login","code":"60009","msg":"no"}') == ErrorEvent("60009", "no")


def test_op_responses() -> None:
    assert decode(ORDER_OK) == OpResponse(
        "p7f3a01",
        "order",
        "0",
        "",
        (OpResult(ClOrdId("oms7f3a01"), ORD_ID, "0", "Order placed"),),
        1790000000440021,
        1790000000442310,
    )
    rejected = decode(ORDER_REJECTED)
    assert isinstance(rejected, OpResponse)
    assert rejected.results == (
        OpResult(ClOrdId("oms7f3a02"), None, "51008", "Insufficient margin", "51008_1001"),
    )
    whole = decode(REQUEST_REFUSED)
    assert isinstance(whole, OpResponse)
    assert (whole.code, whole.msg, whole.results) == ("60013", "Invalid args", ())


def test_an_op_response_may_lack_everything_but_its_op() -> None:
    assert decode('{"op":"order"}') == OpResponse("", "order", "", "", ())


def test_a_fill_is_decoded_exactly() -> None:
    assert only_report(PARTIAL_FILL) == OrderReport(
        ord_id=ORD_ID,
        cl_ord_id=ClOrdId("oms7f3a01"),
        tag="rl",
        side=Side.BUY,
        ord_type="limit",
        state=OrderState.PARTIALLY_FILLED,
        px=Decimal("84000.1"),
        sz=Decimal("3.5"),
        acc_fill_sz=Decimal("1.2"),
        avg_px=Decimal("84000.1"),
        c_time_ms=1790000000441,
        u_time_ms=1790000004212,
        fill=Fill(
            ord_id=ORD_ID,
            trade_id=TradeId(1640211907),
            px=Decimal("84000.1"),
            sz=Decimal("1.2"),
            time_ms=1790000004211,
            pnl=Decimal(0),
            fee=Decimal("-0.20160024"),
        ),
        category="normal",
    )


def test_an_order_before_its_first_fill_has_no_fill_and_no_average_price() -> None:
    report = only_report(orders_push(live_row()))
    assert report.state is OrderState.LIVE
    assert report.avg_px is None
    assert report.fill is None
    assert report.acc_fill_sz == 0


def test_a_market_order_has_no_price() -> None:
    assert only_report(orders_push(live_row(ordType="market", px=""))).px is None


def test_fractional_contracts_stay_exact() -> None:
    """hummingbot#8248: int("0.01")."""
    report = only_report(orders_push(order_row(sz="0.03", accFillSz="0.01", fillSz="0.01")))
    assert report.fill is not None
    assert (report.sz, report.acc_fill_sz, report.fill.sz) == (
        Decimal("0.03"),
        Decimal("0.01"),
        Decimal("0.01"),
    )


def test_an_empty_string_is_not_a_number() -> None:
    """nautilus_trader#3772, ccxt#9682."""
    report = only_report(orders_push(order_row(fillPnl="", avgPx="", px="")))
    assert report.fill is not None
    assert (report.fill.pnl, report.avg_px, report.px) == (None, None, None)
    frame = decode(positions_push(pos="0", avgPx="", uplRatio="", markPx="", tradeId=""))
    assert isinstance(frame, PositionsPush)
    (position,) = frame.reports
    assert position.pos == 0
    assert (position.avg_px, position.upl_ratio, position.mark_px, position.trade_id) == (
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("trade_id", ["", "0"])
def test_without_a_trade_id_there_is_no_fill(trade_id: str) -> None:
    assert only_report(orders_push(order_row(tradeId=trade_id))).fill is None


def test_a_trade_id_without_a_size_is_not_a_fill() -> None:
    assert only_report(orders_push(order_row(fillSz="0", fillPx=""))).fill is None


def test_a_trade_id_may_be_negative() -> None:
    fill = only_report(orders_push(order_row(tradeId="-17"))).fill
    assert fill is not None
    assert fill.trade_id == -17


def test_one_row_that_is_not_ours_does_not_drop_the_rest_of_its_batch() -> None:
    other = {"instType": "SPOT", "instId": "ETH-USDT", "state": "never_seen"}
    frame = decode(orders_push(other, order_row(), other, live_row(ordId="2")))
    assert isinstance(frame, OrdersPush)
    assert [report.ord_id for report in frame.reports] == [ORD_ID, "2"]


def test_every_cancelled_state_ends_an_order() -> None:
    for state in ("canceled", "mmp_canceled"):
        report = only_report(orders_push(live_row(state=state, cancelSource="31")))
        assert (report.state, report.cancel_source) == (OrderState.CANCELED, "31")


def test_a_position() -> None:
    frame = decode(POSITION)
    assert isinstance(frame, PositionsPush)
    assert (frame.event_type, frame.cur_page, frame.last_page) == ("event_update", None, None)
    (position,) = frame.reports
    assert position.pos == Decimal("3.5")
    assert position.avg_px == Decimal("84000.1")
    assert position.upl_ratio == 0.012142842687092
    assert position.trade_id == 1640211944
    assert position.u_time_ms == 1790000006990
    assert position.mark_px == Decimal("84010.3")


def test_a_page_of_a_position_snapshot() -> None:
    text = json.dumps(
        {**json.loads(POSITION), "eventType": "snapshot", "curPage": 1, "lastPage": True}
    )
    frame = decode(text)
    assert isinstance(frame, PositionsPush)
    assert (frame.event_type, frame.cur_page, frame.last_page) == ("snapshot", 1, True)


def test_positions_of_other_instruments_and_of_isolated_margin_are_left_out() -> None:
    for changes in ({"instId": "ETH-USDT-SWAP"}, {"mgnMode": "isolated"}):
        frame = decode(positions_push(**changes))
        assert isinstance(frame, PositionsPush)
        assert frame.reports == ()


def test_the_usdt_balance() -> None:
    assert decode(ACCOUNT) == AccountPush(Balance(Decimal("999.4119993"), 1790000006990))


def test_a_push_without_usdt_has_no_balance() -> None:
    empty = '{"arg":{"channel":"account"},"data":[{"details":[],"totalEq":"0"}]}'
    assert decode(empty) == AccountPush(None)
    assert decode(ACCOUNT.replace('"USDT"', '"BTC"')) == AccountPush(None)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (orders_push(order_row(fillSz=1.2)), "$.data[0].fillSz"),
        (orders_push(live_row(), order_row(fillSz="1,2")), "$.data[1].fillSz"),
        (orders_push(order_row(fillPx="")), "$.data[0].fillPx"),
        (orders_push(order_row(sz="NaN")), "$.data[0].sz"),
        (orders_push(order_row(sz="Infinity")), "$.data[0].sz"),
        (orders_push(order_row(sz="")), "$.data[0].sz"),
        (orders_push(order_row(accFillSz="-1")), "$.data[0].accFillSz"),
        (orders_push(order_row(px="1E+999999")), "$.data[0].px"),
        (orders_push(order_row(tradeId="1_0")), "$.data[0].tradeId"),
        (orders_push(order_row(uTime="١")), "$.data[0].uTime"),  # noqa: RUF001 - int() takes it
        (orders_push(order_row(state="never_seen")), "$.data[0].state"),
        (orders_push(order_row(side="")), "$.data[0].side"),
        (orders_push(order_row(ordId="")), "$.data[0].ordId"),
        (orders_push("row"), "$.data[0]"),
        ('{"arg":{"channel":"orders"}}', "$.data"),
        ('{"arg":{"channel":"orders"},"data":{}}', "$.data"),
        ('{"arg":{"channel":7},"data":[]}', "$.arg.channel"),
        (positions_push(pos=""), "$.data[0].pos"),
        (ACCOUNT.replace('"999.4119993"', '"?"'), "$.data[0].details[0].cashBal"),
        (ORDER_OK.replace('"sCode":"0"', '"sCode":0'), "$.data[0].sCode"),
        (ORDER_OK.replace('"1790000000440021"', '"soon"'), "$.inTime"),
        ('{"event":"subscribe"}', "$.arg"),
        ('{"event":"error","code":60009}', "$.code"),
        ("[]", "$"),
        ("", "$"),
        ("pong ", "$"),
        (b"\xff", "$"),
        ('{"data":' + "[" * 5000, "$"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(text: str | bytes, path: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(text)
    assert caught.value.path == path


def decodes_or_complains(text: str | bytes) -> None:
    try:
        frame = decode(text)
    except ProtocolError:
        return
    assert isinstance(frame, Frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
VALUES = st.sampled_from(["", "0", "-1", "1.5", "NaN", "orders", "live", "buy"]) | JSON


@given(st.text() | st.binary())
def test_garbage_raises_only_a_protocol_error(garbage: str | bytes) -> None:
    decodes_or_complains(garbage)


@given(st.sampled_from([PARTIAL_FILL, POSITION, ACCOUNT, ORDER_OK, LOGIN_OK]), st.data())
def test_frames_with_a_wrong_field_raise_only_a_protocol_error(
    text: str, data: st.DataObject
) -> None:
    frame: dict[str, Any] = json.loads(text)
    places: list[dict[str, Any]] = [frame]
    places += [row for row in frame.get("data", []) if isinstance(row, dict)]
    place = data.draw(st.sampled_from(places))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(VALUES)
    decodes_or_complains(json.dumps(frame))


@given(st.sampled_from([PARTIAL_FILL, POSITION, ACCOUNT, ORDER_OK]), st.integers(0, 2000))
def test_a_truncated_frame_is_never_accepted(text: str, length: int) -> None:
    whole = text.strip()
    if length < len(whole):
        with pytest.raises(ProtocolError):
            decode(whole[:length])


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=1, max_value=10**9, places=8))
def test_sizes_pass_through_exactly(sz: Decimal) -> None:
    assert only_report(orders_push(live_row(sz=format(sz, "f")))).sz == sz


def test_unknown_fields_are_ignored() -> None:
    text = msgspec.json.encode({**json.loads(LOGIN_OK), "brandNew": {"deep": [1, None]}})
    assert decode(text) == LoggedIn("7c1d90ab")
