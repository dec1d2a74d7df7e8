"""REST requests to an exchange with scripted answers."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from oms_trio.core.effects import PlaceOrder, RequestSnapshot
from oms_trio.core.model import ClOrdId, ExchangeMs, OrderType, OrdId, Side
from oms_trio.okx.endpoints import BALANCE
from oms_trio.okx.errors import (
    AccessRejectedError,
    InstrumentNotTradableError,
    OkxError,
    RestRejectedError,
    RestUnavailableError,
)
from oms_trio.okx.rest import Rest
from oms_trio.okx.wire.bodies import PAGE
from oms_trio.okx.wire.recorded import decode_snapshot
from oms_trio.okx.wire.signing import rest_sign
from oms_trio.settings.clock import virtual_clock
from tests.okx.samples import (
    ACCOUNT,
    CONFIG,
    CREDENTIALS,
    FILLS,
    INST_ID,
    INSTRUMENT,
    LEVERAGE,
    NO_SUCH_ORDER,
    fill_row,
    order_row,
    rest_body,
)

START_NS = 1_790_000_000_123_000_000
DAY_MS = 86_400_000

Answer = Callable[[httpx.Request], httpx.Response]

BALANCE_BODY = rest_body(*json.loads(ACCOUNT)["data"])
TIME_BODY = rest_body({"ts": "1790000000123"})


class Exchange:
    """Answers each path by a body or a function, and remembers what it was asked."""

    def __init__(self, **answers: str | Answer) -> None:
        self.asked: list[httpx.Request] = []
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}

    def paths(self) -> list[str]:
        return [request.url.path.rpartition("/")[2] for request in self.asked]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers[request.url.path.rpartition("/")[2]]
        return httpx.Response(200, text=answer) if isinstance(answer, str) else answer(request)


def rest(exchange: Answer, *, demo: bool = False) -> Rest:
    client = httpx.AsyncClient(
        base_url="https://exchange.test", transport=httpx.MockTransport(exchange)
    )
    return Rest(client, CREDENTIALS, lambda: START_NS, inst_id=INST_ID, demo=demo)


def paged(rows: list[dict[str, Any]], cursor: str) -> Answer:
    """Answer like the exchange: newest first, at most ``limit`` rows older than ``after``."""

    def answer(request: httpx.Request) -> httpx.Response:
        params = request.url.params
        older = [row for row in rows if "after" not in params or row[cursor] < params["after"]]
        return httpx.Response(200, text=rest_body(*older[: int(params["limit"])]))

    return answer


async def test_requests_are_signed_with_the_query_as_sent() -> None:
    """hummingbot#5800: 50113 for a query string that was not in the prehash."""
    exchange = Exchange(positions=rest_body())
    assert await rest(exchange).position() is None
    (request,) = exchange.asked
    assert request.url.query == b"instType=SWAP&instId=BTC-USDT-SWAP"
    assert request.headers["OK-ACCESS-SIGN"] == "TC06SdTyarYdKe3k7HAAoghWk6TF2zTkuz4ereKoH2w="
    assert request.headers["OK-ACCESS-TIMESTAMP"] == "2026-09-21T14:13:20.123Z"
    assert "x-simulated-trading" not in request.headers


async def test_a_post_signs_the_exact_body() -> None:
    exchange = Exchange(set_leverage=LEVERAGE)
    assert await rest(exchange).set_leverage(Decimal("1E+2")) == 100
    (request,) = exchange.asked
    body = '{"instId":"BTC-USDT-SWAP","lever":"100","mgnMode":"cross"}'
    assert request.content.decode() == body
    assert request.headers["Content-Type"] == "application/json"
    path = "/api/v5/account/set-leverage"
    signed = rest_sign(CREDENTIALS, "2026-09-21T14:13:20.123Z", "POST", path, body)
    assert request.headers["OK-ACCESS-SIGN"] == signed


async def test_demo_trading_is_marked_on_public_requests_too_and_those_are_not_signed() -> None:
    exchange = Exchange(instruments=INSTRUMENT)
    await rest(exchange, demo=True).instrument()
    (request,) = exchange.asked
    assert request.headers["x-simulated-trading"] == "1"
    assert "OK-ACCESS-KEY" not in request.headers


async def test_settings_and_values() -> None:
    exchange = Exchange(
        config=CONFIG,
        leverage_info=LEVERAGE,
        set_position_mode=rest_body({"posMode": "net_mode"}),
        balance=BALANCE_BODY,
        orders_pending=rest_body(order_row()),
        order=rest_body(order_row()),
    )
    client = rest(exchange)
    assert (await client.account_config()).may_trade
    assert await client.leverage() == 100
    await client.set_position_mode()
    balance = await client.balance()
    assert balance is not None
    assert balance.cash_bal == Decimal("999.4119993")
    (pending,) = await client.orders_pending()
    assert await client.order(ClOrdId("oms7f3a01")) == pending
    assert exchange.asked[-1].url.params["clOrdId"] == "oms7f3a01"


async def test_an_instrument_that_is_not_tradable_is_an_error_of_its_own() -> None:
    with pytest.raises(InstrumentNotTradableError, match="suspend"):
        await rest(Exchange(instruments=INSTRUMENT.replace('"live"', '"suspend"'))).instrument()


async def test_the_clock_offset_is_taken_at_the_middle_of_the_round_trip(
    autojump_clock: MockClock,
) -> None:
    async def slow(_request: httpx.Request) -> httpx.Response:
        await trio.sleep(0.4)
        return httpx.Response(200, text=rest_body({"ts": "1790000007323"}))

    transport = httpx.MockTransport(slow)
    client = httpx.AsyncClient(base_url="https://exchange.test", transport=transport)
    rest = Rest(client, CREDENTIALS, virtual_clock(START_NS), inst_id=INST_ID)
    assert await rest.measure_offset() == 7_000_000_000
    assert rest.offset_ns == 7_000_000_000
    assert autojump_clock.current_time() == 0.4


async def test_a_slow_answer_replaces_the_estimate_only_where_it_proves_it_wrong(
    autojump_clock: MockClock,
) -> None:
    """After 8 s the exchange's time is uncertain by 8 s, an expiry of 5 s would be worth nothing."""
    ahead_ms = 500

    async def answer(_request: httpx.Request) -> httpx.Response:
        now_ms = START_NS // 1_000_000 + round(trio.current_time() * 1000)
        await trio.sleep(delay_s)
        return httpx.Response(200, text=rest_body({"ts": str(now_ms + ahead_ms)}))

    delay_s = 0.0
    transport = httpx.MockTransport(answer)
    client = httpx.AsyncClient(base_url="https://exchange.test", transport=transport)
    rest = Rest(client, CREDENTIALS, virtual_clock(START_NS), inst_id=INST_ID)
    assert await rest.measure_offset() == 500_000_000
    delay_s = 8.0
    assert await rest.measure_offset() == 500_000_000
    ahead_ms = 20_000
    assert await rest.measure_offset() == 16_000_000_000
    delay_s = 0.0
    assert await rest.measure_offset() == 20_000_000_000


@pytest.mark.parametrize(
    "text",
    [
        '{"code":"58999","msg":"new","data":[]}',
        '{"code":"51000","msg":"Parameter error","data":[]}',
        *(rest_body({"ts": ts}) for ts in ("0", "9999999999999999999", "1790000000", "")),
        rest_body(),
    ],
)
async def test_an_impossible_time_counts_as_no_answer(text: str) -> None:
    client = rest(Exchange(time=text))
    with pytest.raises(RestUnavailableError):
        await client.measure_offset()
    assert client.offset_ns == 0


async def test_a_snapshot_measures_the_clock_again() -> None:
    exchange = whole_exchange(time=rest_body({"ts": "1790000060123"}))
    client = rest(exchange)
    record = await client.snapshot_bodies(wanted())
    assert record.offset_ns == client.offset_ns == 60_000_000_000
    assert decode_snapshot(record, inst_id=INST_ID, tag="rl").offset_ns == 60_000_000_000


async def test_an_unreadable_row_of_ours_is_no_answer_and_one_of_others_is_ignored() -> None:
    ours, other = order_row(state="frozen"), order_row(state="frozen", tag="", ordId="66")
    client = rest(whole_exchange(orders_pending=rest_body(ours)))
    with pytest.raises(RestUnavailableError, match=r"frozen.*3967288020668928111"):
        await client.snapshot_bodies(wanted(), tag="rl")
    client = rest(whole_exchange(orders_pending=rest_body(other)))
    await client.snapshot_bodies(wanted(), tag="rl")
    assert client.ignored_rows.count == 1


async def test_an_operation_returns_any_answer_and_has_its_expiry_in_the_header() -> None:
    rejected = '{"code":"1","msg":"","data":[{"clOrdId":"flat","sCode":"51169","sMsg":"none"}]}'
    exchange = Exchange(order=rejected, cancel_batch_orders=rejected)
    client = rest(exchange)
    order = PlaceOrder(
        ClOrdId("flat"),
        Side.SELL,
        OrderType.MARKET,
        None,
        Decimal("0.50"),
        0,
        reduce_only=True,
        exp_time_ms=ExchangeMs(1790000005000),
    )
    assert await client.place_order(order, tag="rl") == rejected
    assert await client.cancel_orders([OrdId("7"), OrdId("8")]) == rejected
    placed, canceled = exchange.asked
    assert placed.headers["expTime"] == "1790000005000"
    assert json.loads(placed.content) == {
        "instId": INST_ID,
        "tdMode": "cross",
        "side": "sell",
        "ordType": "market",
        "sz": "0.5",
        "clOrdId": "flat",
        "tag": "rl",
        "reduceOnly": True,
    }
    assert json.loads(canceled.content) == [
        {"instId": INST_ID, "ordId": "7"},
        {"instId": INST_ID, "ordId": "8"},
    ]


@pytest.mark.parametrize("code", ["50102", "50112"])
async def test_a_rejected_timestamp_leads_to_one_measurement_of_the_clock(code: str) -> None:
    def strict(request: httpx.Request) -> httpx.Response:
        if request.headers["OK-ACCESS-TIMESTAMP"] == "2026-09-21T14:14:20.123Z":
            return httpx.Response(200, text=BALANCE_BODY)
        return httpx.Response(401, text=json.dumps({"code": code, "msg": "expired"}))

    exchange = Exchange(balance=strict, time=rest_body({"ts": "1790000060123"}))
    client = rest(exchange)
    assert await client.balance() is not None
    assert exchange.paths() == ["balance", "time", "balance"]
    still_off = Exchange(balance=strict, time=TIME_BODY)
    with pytest.raises(RestUnavailableError, match=code):
        await rest(still_off).balance()
    assert still_off.paths() == ["balance", "time", "balance"]


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (200, '{"code":"50011","msg":"Too Many Requests","data":[]}', RestUnavailableError),
        (429, '{"code":"50011","msg":"Too Many Requests"}', RestUnavailableError),
        (503, '{"code":"50001","msg":"Service unavailable"}', RestUnavailableError),
        (500, '{"code":"0","msg":"","data":[]}', RestUnavailableError),
        (502, "<html>Bad Gateway</html>", RestUnavailableError),
        (502, "", RestUnavailableError),
        (200, "<html>maintenance</html>", RestUnavailableError),
        (302, "", RestUnavailableError),
        (200, '{"code":"0","msg":"","data":[{"details":7}]}', RestUnavailableError),
        (200, '{"code":"0","msg":""}', RestUnavailableError),
        (401, '{"code":"50111","msg":"Invalid OK-ACCESS-KEY"}', AccessRejectedError),
        (401, '{"code":"50113","msg":"Invalid Sign"}', AccessRejectedError),
        (400, '{"code":"51000","msg":"Parameter ccy error","data":[]}', RestRejectedError),
        (200, '{"code":"51603","msg":"Order does not exist","data":[]}', RestRejectedError),
        (200, '{"code":"77777","msg":"new","data":[]}', RestUnavailableError),
    ],
)
async def test_every_unsuccessful_answer_is_an_error_of_its_class(
    status: int, text: str, error: type[OkxError]
) -> None:
    with pytest.raises(OkxError) as caught:
        await rest(Exchange(balance=lambda _: httpx.Response(status, text=text))).balance()
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.ReadError("cut")]
)
async def test_no_answer_is_unavailable_and_shows_no_secret(failure: Exception) -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(RestUnavailableError, match=type(failure).__name__) as caught:
        await rest(Exchange(balance=fail)).balance()
    assert CREDENTIALS.passphrase not in str(caught.value)


async def test_no_repr_shows_a_secret() -> None:
    shown = repr(rest(Exchange()))
    assert "exchange.test" in shown
    assert CREDENTIALS.secret_key not in shown
    assert CREDENTIALS.passphrase not in shown


async def test_an_order_that_the_exchange_does_not_know_is_none() -> None:
    client = rest(Exchange(order=NO_SUCH_ORDER))
    assert await client.order(ClOrdId("x")) is None
    record = await client.lookup_body(ClOrdId("x"))
    assert (record.cl_ord_id, record.asked_at_ns, record.order) == ("x", START_NS, NO_SUCH_ORDER)


async def test_all_pages_are_read() -> None:
    rows = [fill_row(billId=f"{number:04}", tradeId=str(number)) for number in range(250, 0, -1)]
    exchange = Exchange(fills=paged(rows, "billId"))
    record = await rest(exchange).fills_bodies(OrdId("3967288020668928111"))
    decoded = [row["tradeId"] for page in record.fills for row in json.loads(page)["data"]]
    assert decoded == [row["tradeId"] for row in rows]
    assert [request.url.params.get("after") for request in exchange.asked] == [
        None,
        "0151",
        "0051",
    ]
    assert exchange.asked[0].url.params["ordId"] == "3967288020668928111"


async def test_pages_without_a_last_one_are_no_answer() -> None:
    same = rest_body(*[fill_row()] * PAGE)
    with pytest.raises(RestUnavailableError, match="no last page"):
        await rest(Exchange(fills=same)).fills_bodies(OrdId("1"))


MARK_PRICE_BODY = rest_body({"instId": INST_ID, "markPx": "84003.2", "ts": "1790000004211"})


def whole_exchange(**changes: str | Answer) -> Exchange:
    answers: dict[str, str | Answer] = {
        "instruments": INSTRUMENT,
        "mark_price": MARK_PRICE_BODY,
        "balance": BALANCE_BODY,
        "positions": rest_body(),
        "orders_pending": rest_body(order_row()),
        "orders_history": rest_body(),
        "orders_history_archive": rest_body(),
        "order": NO_SUCH_ORDER,
        "fills": FILLS,
        "fills_history": FILLS,
        "bills": rest_body(),
        "time": TIME_BODY,
    }
    return Exchange(**{**answers, **changes})


def wanted(age_ms: int = 60_000) -> RequestSnapshot:
    return RequestSnapshot(3, ExchangeMs(START_NS // 1_000_000 - age_ms))


async def test_a_snapshot_queries_in_a_sequence_in_which_nothing_gets_lost() -> None:
    exchange = whole_exchange()
    record = await rest(exchange).snapshot_bodies(wanted())
    paths = exchange.paths()
    assert set(paths[:4]) == {"instruments", "mark-price", "balance", "time"}
    assert paths[4:7] == ["orders-pending", "orders-history", "positions"]
    assert sorted(paths[7:]) == ["bills", "bills", "bills", "fills"]
    (fills,) = [request for request in exchange.asked if request.url.path.endswith("/fills")]
    assert fills.url.params["begin"] == str(START_NS // 1_000_000 - 60_000)
    bills = [request.url.params for request in exchange.asked if request.url.path.endswith("bills")]
    assert {params["type"] for params in bills} == {"5", "8", "9"}
    assert all("end" in params for params in bills), "else pages would start at the oldest"
    snapshot = decode_snapshot(record, inst_id=INST_ID, tag="rl")
    assert (snapshot.request, snapshot.asked_at_ns) == (3, START_NS)
    assert [report.cl_ord_id for report in snapshot.orders] == ["oms7f3a01"]
    assert len(snapshot.fills) == 1
    assert snapshot.position is None
    assert snapshot.mark_px == Decimal("84003.2")
    assert snapshot.offset_ns == 0


@pytest.mark.parametrize(
    ("age_days", "orders", "fills"),
    [
        (2, "orders-history", "fills"),
        (4, "orders-history", "fills-history"),
        (8, "orders-history-archive", "fills-history"),
    ],
)
async def test_an_old_watermark_is_queried_from_the_archives(
    age_days: int, orders: str, fills: str
) -> None:
    exchange = whole_exchange()
    await rest(exchange).snapshot_bodies(wanted(age_days * DAY_MS))
    assert orders in exchange.paths()
    assert fills in exchange.paths()


@pytest.mark.parametrize(
    "path",
    [
        "instruments",
        "mark_price",
        "balance",
        "positions",
        "orders_pending",
        "orders_history",
        "fills",
        "bills",
        "time",
    ],
)
async def test_a_snapshot_is_complete_or_fails(path: str) -> None:
    """nautilus_trader#4617: no answer is a third value, neither flat nor unchanged."""
    for text in ('{"code":"50001","msg":"down","data":[]}', '{"code":"0","data":[7]}'):
        with pytest.raises(RestUnavailableError):
            await rest(whole_exchange(**{path: text})).snapshot_bodies(wanted())


async def test_the_dead_mans_switch_is_armed_for_our_tag_only() -> None:
    exchange = Exchange(cancel_all_after=rest_body({"triggerTime": "1790000030", "tag": "rl"}))
    await rest(exchange).cancel_all_after(30, "rl")
    assert exchange.asked[0].content == b'{"timeOut":"30","tag":"rl"}'


async def test_each_endpoint_keeps_its_own_limit(autojump_clock: MockClock) -> None:
    exchange = whole_exchange()
    client = rest(exchange)
    for _ in range(BALANCE.limit + 1):
        await client.balance()
    assert trio.current_time() == BALANCE.period_s
    await client.position()
    assert autojump_clock.current_time() == BALANCE.period_s


async def test_a_cancelled_request_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """No generator that nobody closes: its warning, an error here, is all that tells of it."""

    class Stuck(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            async for part in request.stream:
                assert part == b'{"posMode":"net_mode"}'
                await trio.sleep_forever()
            raise AssertionError("nothing was sent")

    client = httpx.AsyncClient(base_url="https://exchange.test", transport=Stuck())
    stuck = Rest(client, CREDENTIALS, lambda: START_NS, inst_id=INST_ID)
    with trio.move_on_after(1) as patience:
        await stuck.set_position_mode()
    assert patience.cancelled_caught
    gc.collect()
