"""Which rows a page holds: the exchange's table of cases, and walking a list to its end."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.sim.admission import Refused
from oms_trio.sim.paging import Page
from tests.sim.clients import ManualClock, RestClient, net_exchange
from tests.sim.test_rest import order_body


def rows(query: dict[str, str], *, fills: bool = False) -> list[int]:
    """Page through rows 1 to 10 whose cursor and time are their number."""
    return Page.of(query | {"limit": query.get("limit", "3")}).rows(
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
def test_what_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        Page.of({name: "x"})
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
    assert trade_ids == [fill.trade_id for fill in reversed(exchange.truth.fills())]
