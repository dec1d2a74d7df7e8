"""Liquidation, ADL and funding: reported by orders, fills or bills, and counted once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oms_trio.core.events import ExchangeSnapshot
from oms_trio.core.model import Fill, Funding, OrderState, OrdId, Side, TradeId
from oms_trio.okx.wire.codec import decode_frame
from oms_trio.okx.wire.frames import OrdersPush
from oms_trio.okx.wire.recorded import FillsBodies, decode_fills, decode_snapshot
from tests.okx.samples import INST_ID, fill_row, order_row, orders_push, rest_body
from tests.okx.test_recorded import record


def read(
    *, fills: tuple[Any, ...] = (), bills: tuple[Any, ...] = (), **more: object
) -> ExchangeSnapshot:
    changes = {"pending": (), "history": (), **more}
    whole = record(fills=(rest_body(*fills),), bills=(rest_body(*bills),), **changes)
    return decode_snapshot(whole, inst_id=INST_ID, tag="rl")


def forced(sub_type: str = "104", **changes: object) -> dict[str, Any]:
    """A fill of the exchange's own order: no tag, no name."""
    row = fill_row(ordId="77", clOrdId="", tag="", subType=sub_type, billId="501", tradeId="9")
    return {**row, "fillSz": "2", "fillPx": "83000", "fee": "-0.8", "fillPnl": "-20", **changes}


def bill(**changes: object) -> dict[str, Any]:
    """The same by its bill."""
    row = {
        "instId": INST_ID,
        "instType": "SWAP",
        "ccy": "USDT",
        "billId": "501",
        "type": "5",
        "subType": "104",
        "ts": "1790000004214",
        "fillTime": "1790000004211",
        "balChg": "-20.8",
        "sz": "2",
        "px": "83000",
        "pnl": "-20",
        "fee": "-0.8",
        "ordId": "77",
        "tradeId": "9",
    }
    return {**row, **changes}


FILL = Fill(
    OrdId("77"),
    TradeId(9),
    Decimal(83_000),
    Decimal(2),
    1790000004211,
    Decimal(-20),
    Decimal("-0.8"),
)


def test_the_exchanges_own_order_is_constructed_from_its_fills() -> None:
    decoded = read(fills=(forced(tradeId="10", billId="502", fillSz="1", fillPx="82700"), forced()))
    (report,) = decoded.orders
    assert (report.ord_id, report.cl_ord_id, report.tag) == ("77", "", "")
    assert (report.category, report.side) == ("full_liquidation", Side.SELL)
    assert report.state is OrderState.FILLED
    assert report.sz == report.acc_fill_sz == 3
    assert report.avg_px == 82_900
    assert [fill.trade_id for fill in decoded.fills] == [9, 10]


@pytest.mark.parametrize(
    ("sub_type", "category", "side"),
    [
        ("100", "partial_liquidation", Side.SELL),
        ("101", "partial_liquidation", Side.BUY),
        ("102", "partial_liquidation", Side.BUY),
        ("103", "partial_liquidation", Side.SELL),
        ("105", "full_liquidation", Side.BUY),
        ("106", "full_liquidation", Side.BUY),
        ("107", "full_liquidation", Side.SELL),
        ("125", "adl", Side.SELL),
        ("126", "adl", Side.BUY),
        ("127", "adl", Side.BUY),
        ("128", "adl", Side.SELL),
    ],
)
def test_every_kind_of_close(sub_type: str, category: str, side: Side) -> None:
    by_fill = read(fills=(forced(sub_type, tradeId="-3"),))
    by_bill = read(bills=(bill(subType=sub_type, type="9", tradeId="-3"),))
    for decoded in (by_fill, by_bill):
        (report,) = decoded.orders
        assert (report.category, report.side) == (category, side)
        (fill,) = decoded.fills
        assert fill.trade_id == -3


def test_a_bill_replaces_a_missing_order_and_fill() -> None:
    decoded = read(bills=(bill(),))
    assert decoded.fills == (FILL,)
    (report,) = decoded.orders
    assert (report.ord_id, report.category) == ("77", "full_liquidation")
    assert report.acc_fill_sz == 2


def test_a_bill_without_order_and_trade_ids_replaces_both() -> None:
    decoded = read(bills=(bill(ordId="", tradeId="0"), bill(ordId="", tradeId="", billId="502")))
    assert [(fill.ord_id, fill.trade_id) for fill in decoded.fills] == [
        ("501", None),
        ("502", None),
    ]
    assert {report.ord_id for report in decoded.orders} == {"501", "502"}


@pytest.mark.parametrize("changes", [{}, {"ordId": ""}, {"billId": "999"}, {"tradeId": "0"}])
def test_a_fill_is_not_repeated_by_its_bill(changes: dict[str, str]) -> None:
    decoded = read(fills=(forced(),), bills=(bill(**changes),))
    assert decoded.fills == (FILL,)
    assert len(decoded.orders) == 1


def test_a_bill_of_a_transfer_is_not_a_fill() -> None:
    decoded = read(
        bills=(bill(subType="110"), bill(px="", billId="502"), bill(sz="0", billId="503"))
    )
    assert decoded.fills == ()
    assert decoded.orders == ()


def test_an_order_of_the_exchange_counts_although_it_has_no_tag() -> None:
    row = order_row(ordId="77", clOrdId="", tag="", category="adl", state="filled", tradeId="0")
    row |= {"sz": "2", "accFillSz": "2"}
    decoded = read(history=(rest_body(row),), bills=(bill(),))
    (report,) = decoded.orders
    assert (report.category, report.state) == ("adl", OrderState.FILLED)
    assert report.cl_ord_id == ""
    assert decoded.fills == (FILL,)


def test_a_listed_order_takes_precedence_over_a_constructed_one() -> None:
    row = order_row(ordId="77", clOrdId="", tag="", category="full_liquidation", state="filled")
    row |= {"sz": "5", "accFillSz": "5"}
    decoded = read(history=(rest_body(row),), fills=(forced(),))
    (report,) = decoded.orders
    assert report.acc_fill_sz == 5


def test_fills_of_the_exchanges_orders_count_even_without_a_trade_id() -> None:
    rows = (forced(tradeId="0"), forced(tradeId="0", billId="502"), forced(tradeId="0"))
    answer = decode_fills(FillsBodies("77", (rest_body(*rows),)), inst_id=INST_ID)
    assert [(fill.trade_id, fill.sz) for fill in answer.fills] == [(None, Decimal(2))] * 2


def test_a_push_of_the_exchanges_own_order_has_its_category_and_its_fee() -> None:
    row = order_row(clOrdId="", tag="", category="partial_liquidation")
    frame = decode_frame(orders_push(row), INST_ID, "rl")
    assert isinstance(frame, OrdersPush)
    (report,) = frame.reports
    assert report.category == "partial_liquidation"
    assert report.fill is not None
    assert report.fill.fee == Decimal("-0.20160024")


def test_a_fee_in_another_currency_counts_as_0_and_is_reported() -> None:
    noted: list[Exception] = []
    row = order_row(fillFeeCcy="OKB")
    frame = decode_frame(orders_push(row), INST_ID, "rl", noted.append)
    assert isinstance(frame, OrdersPush)
    (report,) = frame.reports
    assert report.fill is not None
    assert report.fill.fee == 0
    assert len(noted) == 1


def test_funding_is_listed_once_in_order_with_its_sign() -> None:
    paid = bill(type="8", subType="173", billId="601", balChg="-0.42", px="84000", sz="2")
    received = bill(type="8", subType="174", billId="600", balChg="0.1", ts="1790000000000")
    other = bill(type="8", billId="602", instId="ETH-USDT-SWAP")
    decoded = read(bills=(paid, received, paid, other))
    assert decoded.funding == (
        Funding(600, 1790000000000, Decimal("0.1")),
        Funding(601, 1790000004214, Decimal("-0.42")),
    )
    assert decoded.fills == ()


def test_a_record_of_the_first_release_has_neither_bills_nor_an_offset() -> None:
    old = msgspec.to_builtins(record())
    del old["bills"], old["offset_ns"]
    whole = msgspec.convert(old, type(record()))
    decoded = decode_snapshot(whole, inst_id=INST_ID, tag="rl")
    assert (decoded.funding, decoded.offset_ns) == ((), 0)
