"""Paging: the cases of the exchange's documentation, and reading a list to its end."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.testing.okx_server.orders.request_checks import RequestRejected
from oms_trio.testing.okx_server.rest.paging import PageQuery
from tests.testing.okx_server.clients import ManualClock, RestClient, net_exchange, order_args
from tests.testing.okx_server.rest.test_rest import order_body


def rows(query: dict[str, str], *, fills: bool = False) -> list[int]:
    """Page through rows 1 to 10 whose cursor and time are their number."""
    return PageQuery.of(query | {"limit": query.get("limit", "3")}).rows(
        range(1, 11), cursor=int, time_ms=int, begin_keeps_newest=fills
    )


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, [10, 9, 8]),
        ({"after": "8"}, [7, 6, 5]),
        ({"before": "2", "after": "9"}, [8, 7, 6]),
        ({"before": "6"}, [9, 8, 7]),
        ({"begin": "2", "end": "9"}, [9, 8, 7]),
        ({"begin": "6"}, [8, 7, 6]),
        ({"end": "6"}, [6, 5, 4]),
        ({"begin": "6", "after": "9"}, [8, 7, 6]),
        ({"after": "1"}, []),
        ({"before": "8"}, [10, 9]),
    ],
)
def test_orders(query: dict[str, str], page: list[int]) -> None:
    assert rows(query) == page


def test_fills_keep_the_newest_when_only_begin_is_given() -> None:
    assert rows({"begin": "6"}, fills=True) == [10, 9, 8]
    assert rows({"before": "6"}, fills=True) == [9, 8, 7]


@pytest.mark.parametrize("name", ["after", "before", "begin", "end", "limit"])
def test_a_parameter_that_is_not_a_number_is_rejected(name: str) -> None:
    with pytest.raises(RequestRejected) as refused:
        PageQuery.of({name: "x"})
    assert refused.value.code == "51000"


@given(begin=st.integers(1, 10), limit=st.integers(1, 5))
def test_walking_back_from_begin_meets_every_fill_once(begin: int, limit: int) -> None:
    """The catch-up of a client: ``begin``, then ``after`` the oldest seen, to a short page."""
    seen: list[int] = []
    query = {"begin": str(begin), "limit": str(limit)}
    while True:
        page = rows(query, fills=True)
        seen += page
        if len(page) < limit:
            break
        query["after"] = str(page[-1])
    assert seen == list(range(10, begin - 1, -1))


def test_pending_orders_beyond_the_first_page_are_found_by_walking_on() -> None:
    clock = ManualClock()
    client = RestClient(net_exchange(clock=clock))
    for _ in range(7):
        batch = [order_body(sz="0.01") for _ in range(20)]
        assert client.post("/trade/batch-orders", batch)["code"] == "0"
    first = client.get("/trade/orders-pending")["data"]
    rest = client.get("/trade/orders-pending", after=first[-1]["ordId"])["data"]
    assert (len(first), len(rest)) == (100, 40)
    assert len({row["ordId"] for row in first + rest}) == 140


def test_fills_walk_by_their_bill() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    client.post("/trade/order", order_body(clOrdId="a"))
    for _ in range(4):
        exchange.fill("a", Decimal("0.25"), Decimal(66_900))
    newest = client.get("/trade/fills", limit="3")["data"]
    oldest = client.get("/trade/fills", limit="3", after=newest[-1]["billId"])["data"]
    trade_ids = [int(row["tradeId"]) for row in newest + oldest]
    assert trade_ids == [fill.trade_id for fill in reversed(exchange.ground_truth.fills())]


@pytest.mark.parametrize(
    ("path", "cursor", "rows"),
    [
        ("/trade/orders-pending", "ordId", 320),
        ("/trade/orders-history", "ordId", 210),
        ("/trade/orders-history-archive", "ordId", 210),
        ("/trade/fills", "billId", 210),
        ("/trade/fills-history", "billId", 210),
        ("/account/bills", "billId", 230),
        ("/account/bills-archive", "billId", 230),
    ],
)
def test_every_list_is_walked_by_hundreds_to_its_end(path: str, cursor: str, rows: int) -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    for number in range(530):
        clock.now_ms += 40
        args = order_args(clOrdId=f"o{number}", sz="0.01")
        assert exchange.place(args, lambda *_: None).code == "0"
        if number < 210:
            exchange.fill(f"o{number}", Decimal("0.01"), Decimal(66_900))
            exchange.fund(Decimal("0.0001")) if number < 20 else None
    pages: list[list[str]] = []
    query = {"instType": "SWAP"}
    while not pages or len(pages[-1]) == 100:
        clock.now_ms += 1000
        pages.append([row[cursor] for row in client.get(path, **query)["data"]])
        query["after"] = pages[-1][-1]
    names = [int(name) for page in pages for name in page]
    assert names == sorted(names, reverse=True)
    assert len(set(names)) == rows
    newer = client.get(path, instType="SWAP", before=str(names[50]), limit="10")["data"]
    assert [int(row[cursor]) for row in newer] == names[40:50]


def test_bills_are_found_by_type_and_time_and_move_to_the_archive() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    stamps = []
    for name in ("a", "b", "c"):
        clock.now_ms += 86_400_000
        exchange.place(order_args(clOrdId=name), lambda *_: None)
        exchange.fill(name, Decimal(1), Decimal(66_900))
        exchange.fund(Decimal("0.0001"))
        stamps.append(clock.now_ms)

    def types(path: str = "/account/bills", **query: str) -> list[str]:
        clock.now_ms += 1000
        return [row["type"] for row in client.get(path, **query)["data"]]

    assert types() == ["8", "2"] * 3
    assert types(type="8") == ["8"] * 3
    assert types(subType="1") == ["2"] * 3
    assert types(instType="SPOT") == []
    assert types(begin=str(stamps[1]), end=str(stamps[1] + 1000)) == ["8", "2"]
    assert types(begin=str(stamps[2])) == ["8", "2"]
    clock.now_ms = stamps[1] + 7 * 86_400_000
    assert types() == ["8", "2"]
    assert types("/account/bills-archive", type="2") == ["2"] * 3
    clock.now_ms = stamps[2] + 91 * 86_400_000
    exchange.tick()
    assert types("/account/bills-archive") == []
