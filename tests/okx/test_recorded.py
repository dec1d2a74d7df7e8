"""Bodies of REST, and the inputs decoded from recorded ones."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.core.events import ExchangeSnapshot, FillsAnswer, LookupAnswer
from oms_trio.core.model import ClOrdId, Instrument, OrdId
from oms_trio.okx.errors import InstrumentNotTradableError, ProtocolError
from oms_trio.okx.wire import bodies
from oms_trio.okx.wire.bodies import PAGE, AccountConfig
from oms_trio.okx.wire.frames import Balance
from oms_trio.okx.wire.recorded import (
    FillsBodies,
    LookupBody,
    SnapshotBodies,
    decode_fills,
    decode_lookup,
    decode_snapshot,
)
from tests.okx.samples import (
    ACCOUNT,
    CONFIG,
    FILLS,
    INST_ID,
    INSTRUMENT,
    LEVERAGE,
    NO_SUCH_ORDER,
    POSITION,
    fill_row,
    order_row,
    rest_body,
)

BTC = Instrument(
    INST_ID,
    10459,
    Decimal("0.01"),
    Decimal(1),
    Decimal("0.1"),
    Decimal("0.01"),
    Decimal("0.01"),
)

BALANCE_BODY = rest_body(*json.loads(ACCOUNT)["data"])
POSITION_BODY = rest_body(*json.loads(POSITION)["data"])


def test_the_instrument() -> None:
    assert bodies.instrument(INSTRUMENT, INST_ID) == BTC


def test_the_code_of_demo_trading_is_over_32_bit() -> None:
    body = INSTRUMENT.replace("10459", "2021032601102993")
    assert bodies.instrument(body, INST_ID).inst_id_code == 2021032601102993


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"live"', '"suspend"'),
        ('"live"', '"post_only"'),
        ('"linear"', '"inverse"'),
        ('"settleCcy":"USDT"', '"settleCcy":"BTC"'),
        ("10459", "null"),
    ],
)
def test_an_instrument_that_cannot_be_traded_is_an_error(old: str, new: str) -> None:
    with pytest.raises(InstrumentNotTradableError):
        bodies.instrument(INSTRUMENT.replace(old, new), INST_ID)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (rest_body(), "$.data"),
        (INSTRUMENT.replace('"tickSz":"0.1"', '"tickSz":"0"'), "$.data[0].tickSz"),
        (INSTRUMENT.replace('"ctVal":"0.01"', '"ctVal":""'), "$.data[0].ctVal"),
        (INSTRUMENT.replace('"ctVal":"0.01"', '"ctVal":0.01'), "$.data[0].ctVal"),
        ('{"code":"0","msg":""}', "$.data"),
        ('{"code":"50001","msg":"down","data":[]}', "$.code"),
        ("<html>", "$"),
        ("", "$"),
    ],
)
def test_a_bad_body_is_named_by_its_path(body: str, path: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        bodies.instrument(body, INST_ID)
    assert caught.value.path == path


def test_the_account_config() -> None:
    config = bodies.account_config(CONFIG)
    assert config == AccountConfig(
        "2", "net_mode", frozenset({"read_only", "trade"}), "55001122334455667"
    )
    assert config.net_mode
    assert config.may_trade
    assert not bodies.account_config(CONFIG.replace("net_mode", "long_short_mode")).net_mode
    assert not bodies.account_config(CONFIG.replace("read_only,trade", "read_only")).may_trade
    assert not bodies.account_config(CONFIG.replace('"acctLv":"2"', '"acctLv":"1"')).may_trade


def test_leverage_and_time() -> None:
    assert bodies.leverage(LEVERAGE) == 100
    assert bodies.leverage(LEVERAGE.replace('"100"', '"3.0"')) == 3
    assert bodies.server_time(rest_body({"ts": "1790000000123"})) == 1790000000123


def test_balance_of_an_account_that_never_held_usdt() -> None:
    assert bodies.balance(BALANCE_BODY) == Balance(Decimal("999.4119993"), 1790000006990)
    assert bodies.balance(rest_body({"details": [], "totalEq": "0"})) is None


def test_a_flat_position_is_no_row_or_a_row_of_zero() -> None:
    assert bodies.position(rest_body(), INST_ID) is None
    row = {**json.loads(POSITION)["data"][0], "pos": "0", "avgPx": "", "uplRatio": ""}
    position = bodies.position(rest_body(row), INST_ID)
    assert position is not None
    assert position.pos == 0


def test_a_rejection_is_never_read_as_flat_or_empty() -> None:
    """nautilus_trader#4617: a failed query was taken for "nothing there"."""
    rejected = '{"code":"50001","msg":"Service unavailable","data":[]}'
    for read in (bodies.position, bodies.orders, bodies.fills, bodies.order):
        with pytest.raises(ProtocolError):
            read(rejected, INST_ID)


def test_the_last_fill_of_a_queried_order_is_not_reported_again() -> None:
    order = bodies.order(rest_body(order_row()), INST_ID)
    assert order is not None
    assert order.acc_fill_sz == Decimal("1.2")
    assert order.fill is None


def test_an_order_that_the_exchange_does_not_know() -> None:
    assert bodies.order(NO_SUCH_ORDER, INST_ID) is None
    with pytest.raises(ProtocolError):
        bodies.order(rest_body(), INST_ID)


def test_a_page_that_is_not_full_is_the_last() -> None:
    full = [fill_row(billId=str(1000 - number), ordId=str(number)) for number in range(PAGE)]
    assert bodies.bills_cursor(rest_body(*full)) == "901"
    assert bodies.orders_cursor(rest_body(*full)) == "99"
    assert bodies.bills_cursor(rest_body(*full[1:])) is None
    assert bodies.bills_cursor(rest_body()) is None


def record(**changes: object) -> SnapshotBodies:
    whole = SnapshotBodies(
        request=3,
        asked_at_ns=5,
        instrument=INSTRUMENT,
        balance=BALANCE_BODY,
        pending=(rest_body(order_row()),),
        history=(rest_body(),),
        looked_up={},
        position=POSITION_BODY,
        fills=(FILLS,),
    )
    return msgspec.structs.replace(whole, **changes)


def snapshot(**changes: object) -> ExchangeSnapshot:
    return decode_snapshot(record(**changes), inst_id=INST_ID, tag="rl")


def test_a_snapshot_is_read_from_its_record() -> None:
    read = snapshot()
    assert (read.asked_at_ns, read.request) == (5, 3)
    assert read.instrument == BTC
    assert (read.cash_bal, read.cash_u_time_ms) == (Decimal("999.4119993"), 1790000006990)
    assert read.position is not None
    assert read.position.pos == Decimal("3.5")
    assert [report.cl_ord_id for report in read.orders] == ["oms7f3a01"]
    assert [fill.trade_id for fill in read.fills] == [1640211907]


def test_a_mark_price_is_optional_as_older_records_have_none() -> None:
    assert snapshot().mark_px is None
    body = rest_body({"instId": "ETH", "markPx": "2"}, {"instId": INST_ID, "markPx": "84003.2"})
    assert snapshot(mark_price=body).mark_px == Decimal("84003.2")
    with pytest.raises(ProtocolError):
        snapshot(mark_price=rest_body())


def test_a_record_is_the_same_after_encoding_and_decoding() -> None:
    whole = record(looked_up={"gone": NO_SUCH_ORDER})
    stored = msgspec.json.encode(whole)
    assert msgspec.json.decode(stored, type=SnapshotBodies) == whole


def test_orders_and_fills_of_others_are_left_out() -> None:
    """A person may trade the same account: krypto-trading-bot#500."""
    read = snapshot(
        pending=(rest_body(order_row(tag=""), order_row(ordId="2")),),
        history=(rest_body(order_row(ordId="3", tag="by-hand")),),
        fills=(
            rest_body(fill_row(tag=""), fill_row(tradeId="9"), fill_row(tradeId="8", instId="ETH")),
        ),
    )
    assert [report.ord_id for report in read.orders] == ["2"]
    assert [fill.trade_id for fill in read.fills] == [9]


def test_fills_of_all_pages_come_in_execution_order_and_once() -> None:
    pages = (
        rest_body(
            fill_row(tradeId="12", fillTime="1790000004300"),
            fill_row(tradeId="11", fillTime="1790000004211"),
        ),
        rest_body(
            fill_row(tradeId="11", fillTime="1790000004211"),
            fill_row(tradeId="10", fillTime="1790000004211"),
        ),
    )
    assert [fill.trade_id for fill in snapshot(fills=pages).fills] == [10, 11, 12]


def test_looked_up_orders_of_the_first_release_are_read() -> None:
    read = snapshot(
        pending=(rest_body(),),
        looked_up={
            "found": rest_body(order_row(clOrdId="found", state="filled")),
            "lost": NO_SUCH_ORDER,
        },
    )
    assert [report.cl_ord_id for report in read.orders] == ["found"]


def test_the_last_report_of_an_order_that_is_listed_twice_counts() -> None:
    read = snapshot(history=(rest_body(order_row(state="filled", accFillSz="3.5")),))
    (report,) = read.orders
    assert report.acc_fill_sz == Decimal("3.5")


def test_a_looked_up_order_of_our_name_is_ours_whatever_its_tag() -> None:
    """Else a changed tag would make the order missing, and its action would be sent again."""
    body = rest_body(order_row(clOrdId="ours", tag="old"))
    read = snapshot(pending=(rest_body(),), looked_up={"ours": body})
    assert [report.cl_ord_id for report in read.orders] == ["ours"]
    answer = decode_lookup(LookupBody("ours", 5, body), inst_id=INST_ID)
    assert answer.report == read.orders[0]


def test_a_lookup() -> None:
    lost = decode_lookup(LookupBody("lost", 5, NO_SUCH_ORDER), inst_id=INST_ID)
    assert lost == LookupAnswer(5, ClOrdId("lost"), None)


def test_fills_of_one_order() -> None:
    pages = (rest_body(fill_row(), fill_row(ordId="other", tradeId="5")),)
    answer = decode_fills(FillsBodies("3967288020668928111", pages), inst_id=INST_ID)
    assert isinstance(answer, FillsAnswer)
    assert answer.ord_id == OrdId("3967288020668928111")
    (fill,) = answer.fills
    assert (fill.trade_id, fill.sz, fill.px, fill.pnl, fill.time_ms) == (
        1640211907,
        Decimal("1.2"),
        Decimal("84000.1"),
        Decimal(0),
        1790000004211,
    )


@given(st.sampled_from(["instrument", "balance", "position"]), st.text(max_size=80))
def test_garbage_in_a_record_raises_only_a_protocol_error(field: str, body: str) -> None:
    with pytest.raises(ProtocolError):
        snapshot(**{field: body})
