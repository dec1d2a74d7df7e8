"""REST through the router: signatures, envelopes, and the answers of the endpoints."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from oms_trio.testing.okx_server.auth import ExchangeAccount, sign
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.rest import router
from tests.testing.okx_server.clients import (
    START_MS,
    ManualClock,
    RestClient,
    headers_for,
    net_exchange,
)
from tests.testing.okx_server.fields import (
    ACCOUNT_KEYS,
    CONFIG_KEYS,
    DETAIL_KEYS,
    FILL_KEYS,
    INSTRUMENT_KEYS,
    ORDER_KEYS,
    POSITION_PUSH_KEYS,
)

INST_ID = "BTC-USDT-SWAP"
STAMP = "2026-09-21T14:13:20.123Z"
ORDER_BODY = (
    '{"instId":"BTC-USDT-SWAP","tdMode":"cross","side":"buy","ordType":"limit",'
    '"px":"84000.1","sz":"0.1","clOrdId":"oms7f3a01"}'
)


def order_body(**changes: Any) -> dict[str, Any]:
    body = {
        "instId": INST_ID,
        "tdMode": "cross",
        "side": "buy",
        "ordType": "limit",
        "px": "66900",
        "sz": "1",
    }
    return body | changes


@pytest.mark.parametrize(
    ("prehash", "signature"),
    [
        (
            f"{STAMP}GET/api/v5/account/positions?instType=SWAP&instId=BTC-USDT-SWAP",
            "TC06SdTyarYdKe3k7HAAoghWk6TF2zTkuz4ereKoH2w=",
        ),
        (
            f"{STAMP}POST/api/v5/trade/order{ORDER_BODY}",
            "yHjeYOANcCjS1wrsXno1vR30vacVE/ptZth3DaMakGk=",
        ),
    ],
)
def test_documented_signatures(prehash: str, signature: str) -> None:
    assert sign("sim-secret-0001", prehash) == signature


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "0"),
        ({"ok-access-key": ""}, "50103"),
        ({"ok-access-passphrase": ""}, "50104"),
        ({"ok-access-passphrase": "wrong"}, "50105"),
        ({"ok-access-sign": ""}, "50106"),
        ({"ok-access-timestamp": ""}, "50107"),
        ({"ok-access-timestamp": "1790000000"}, "50112"),
        ({"ok-access-timestamp": "2026-13-41T14:13:20.123Z"}, "50112"),
        ({"ok-access-timestamp": "2020-01-01T00:00:00.000Z"}, "50102"),
        ({"ok-access-key": "not a key"}, "50111"),
        ({"ok-access-key": "unknown"}, "50119"),
        ({"ok-access-key": "live-key"}, "50101"),
        ({"ok-access-sign": "AAAA"}, "50113"),
    ],
)
def test_every_private_call_proves_who_calls(changes: dict[str, str], code: str) -> None:
    exchange = net_exchange(account=ExchangeAccount(foreign_keys=frozenset({"live-key"})))
    target = "/api/v5/account/config"
    headers = headers_for(exchange.account, "GET", target, "", START_MS) | changes
    response = router.handle(exchange, "GET", target, headers, b"")
    assert json.loads(response.body)["code"] == code
    assert response.status == (200 if code == "0" else 401)


def test_the_query_string_is_part_of_what_is_signed() -> None:
    exchange = net_exchange()
    headers = headers_for(exchange.account, "GET", "/api/v5/account/balance", "", START_MS)
    response = router.handle(exchange, "GET", "/api/v5/account/balance?ccy=USDT", headers, b"")
    assert json.loads(response.body)["code"] == "50113"


def test_public_calls_need_no_key() -> None:
    response = router.handle(net_exchange(), "GET", "/api/v5/public/time", {}, b"")
    assert json.loads(response.body) == {"code": "0", "msg": "", "data": [{"ts": str(START_MS)}]}


@pytest.mark.parametrize(
    ("body", "code"), [(b"", "50000"), (b"{", "50002"), (b"3", "50002"), (b"[{}]", "50002")]
)
def test_an_invalid_body_is_rejected(body: bytes, code: str) -> None:
    exchange = net_exchange()
    target = "/api/v5/trade/order"
    headers = headers_for(exchange.account, "POST", target, body.decode(), START_MS)
    response = router.handle(exchange, "POST", target, headers, body)
    assert json.loads(response.body)["code"] == code


def test_an_unknown_path_is_not_found() -> None:
    client = RestClient(net_exchange())
    client.get("/trade/nothing")
    assert client.status == 404


def test_a_new_account_is_set_to_net_mode_and_leverage_100() -> None:
    client = RestClient(SimulatedExchange(clock=ManualClock()))
    assert client.get("/account/config")["data"][0]["posMode"] == "long_short_mode"
    info = {"instId": INST_ID, "mgnMode": "cross"}
    assert client.get("/account/leverage-info", **info)["data"][0]["lever"] == "3"
    answer = client.post("/account/set-position-mode", {"posMode": "net_mode"})
    assert answer["data"] == [{"posMode": "net_mode"}]
    answer = client.post("/account/set-leverage", info | {"lever": "100"})
    assert answer["data"] == [info | {"lever": "100", "posSide": "net"}]
    assert client.get("/account/leverage-info", **info)["data"][0]["lever"] == "100"
    assert client.get("/account/config")["data"][0]["posMode"] == "net_mode"


@pytest.mark.parametrize(("lever", "code"), [("101", "59102"), ("0.5", "59105"), ("x", "51000")])
def test_a_leverage_out_of_range_is_rejected(lever: str, code: str) -> None:
    body = {"instId": INST_ID, "mgnMode": "cross", "lever": lever}
    assert RestClient(net_exchange()).post("/account/set-leverage", body)["code"] == code


def test_settings_stay_while_orders_are_open() -> None:
    client = RestClient(net_exchange())
    client.post("/trade/order", order_body())
    mode = client.post("/account/set-position-mode", {"posMode": "long_short_mode"})
    assert mode["code"] == "59000"
    body = {"instId": INST_ID, "mgnMode": "cross", "lever": "50"}
    assert client.post("/account/set-leverage", body)["code"] == "59107"


def test_the_instrument_has_all_its_keys() -> None:
    client = RestClient(net_exchange())
    for path in ("/public/instruments", "/account/instruments"):
        (row,) = client.get(path, instType="SWAP", instId=INST_ID)["data"]
        assert set(row) == INSTRUMENT_KEYS
        assert (row["instIdCode"], row["ctVal"], row["tickSz"]) == (10459, "0.01", "0.1")
    assert client.get("/public/instruments", instType="SWAP", instId="X")["code"] == "51001"
    (limits,) = client.get("/public/price-limit", instId=INST_ID)["data"]
    assert (limits["buyLmt"], limits["sellLmt"], limits["enabled"]) == ("67670", "66330", True)
    (mark,) = client.get("/public/mark-price", instType="SWAP", instId=INST_ID)["data"]
    assert mark["markPx"] == "67000"


def test_account_objects_have_the_keys_of_the_exchange() -> None:
    client = RestClient(net_exchange())
    assert set(client.get("/account/config")["data"][0]) == CONFIG_KEYS
    (account,) = client.get("/account/balance", ccy="USDT")["data"]
    assert set(account) == ACCOUNT_KEYS
    assert set(account["details"][0]) == DETAIL_KEYS - {"maxSpotInUseAmt"} | {"maxSpotInUse"}
    assert client.get("/account/balance", ccy="BTC")["data"][0]["details"] == []


def test_an_order_is_accepted_found_and_cancelled() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    answer = client.post("/trade/order", order_body(clOrdId="a", tag="rl"))
    assert answer["code"] == answer["data"][0]["sCode"] == "0"
    assert answer | {"inTime": "", "outTime": ""} != answer
    query = {"instId": INST_ID, "clOrdId": "a"}
    (order,) = client.get("/trade/order", **query)["data"]
    assert set(order) == ORDER_KEYS
    assert (order["avgPx"], order["state"], order["tag"]) == ("", "live", "rl")
    assert client.get("/trade/orders-pending", instType="SWAP")["data"] == [order]
    assert client.post("/trade/cancel-order", query)["data"][0]["ordId"] == order["ordId"]
    assert client.get("/trade/orders-pending")["data"] == []
    (order,) = client.get("/trade/orders-history", instType="SWAP")["data"]
    assert (order["state"], order["cancelSource"]) == ("canceled", "1")
    again = client.post("/trade/cancel-order", query)
    assert (again["code"], again["msg"]) == ("1", "All operations failed")
    assert again["data"][0]["sCode"] == "51400"


def test_an_unknown_order_is_51603() -> None:
    answer = RestClient(net_exchange()).get("/trade/order", instId=INST_ID, clOrdId="x")
    assert answer == {"code": "51603", "msg": "Order does not exist", "data": []}


def test_a_client_id_leads_to_its_latest_order() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    for _ in range(2):
        client.post("/trade/order", order_body(clOrdId="a"))
        exchange.fill("a", Decimal(1), Decimal(66_900))
    newest = client.get("/trade/order", instId=INST_ID, clOrdId="a")["data"][0]["ordId"]
    assert newest == exchange.ground_truth.orders()[-1].ord_id


def test_an_unfilled_cancelled_order_vanishes_after_two_hours() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    for name in ("empty", "partly"):
        client.post("/trade/order", order_body(clOrdId=name))
    exchange.fill("partly", Decimal("0.4"), Decimal(66_900))
    targets = [{"instId": INST_ID, "clOrdId": name} for name in ("empty", "partly")]
    client.post("/trade/cancel-batch-orders", targets)
    clock.now_ms += 2 * 3_600_000 + 1
    exchange.tick()
    assert [client.get("/trade/order", **target)["code"] for target in targets] == ["51603", "0"]


def test_a_fill_is_listed_once_and_changes_the_position() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    assert client.get("/account/positions", instType="SWAP", instId=INST_ID)["data"] == []
    ord_id = client.post("/trade/order", order_body(clOrdId="a"))["data"][0]["ordId"]
    exchange.fill("a", Decimal(1), Decimal(66_900))
    (fill,) = client.get("/trade/fills", instType="SWAP", ordId=ord_id)["data"]
    assert list(fill) == FILL_KEYS
    assert (fill["fillPx"], fill["fillSz"], fill["execType"]) == ("66900", "1", "M")
    assert int(fill["ts"]) > int(fill["fillTime"])
    assert client.get("/trade/fills-history", instType="SWAP")["data"] == [fill]
    assert client.get("/trade/fills", ordId="1")["data"] == []
    (position,) = client.get("/account/positions", instId=INST_ID)["data"]
    assert set(position) == POSITION_PUSH_KEYS - {"pTime"}
    assert (position["pos"], position["tradeId"]) == ("1", fill["tradeId"])


def test_a_closed_position_is_listed_with_zero_only_if_its_instrument_is_named() -> None:
    exchange = net_exchange()
    client = RestClient(exchange)
    client.post("/trade/order", order_body(clOrdId="a"))
    exchange.fill("a", Decimal(1), Decimal(66_900))
    body = {"instId": INST_ID, "mgnMode": "cross", "clOrdId": "shut"}
    answer = client.post("/trade/close-position", body)
    assert answer["data"] == [{"instId": INST_ID, "posSide": "net", "clOrdId": "shut", "tag": ""}]
    exchange.fill("shut", Decimal(1), Decimal(67_000))
    assert client.get("/account/positions")["data"] == []
    assert client.get("/account/positions", instId=INST_ID)["data"][0]["pos"] == "0"
    assert client.post("/trade/close-position", body)["code"] == "51023"


def test_old_fills_are_in_the_history_only() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    client.post("/trade/order", order_body(clOrdId="a"))
    exchange.fill("a", Decimal(1), Decimal(66_900))
    clock.now_ms += 3 * 86_400_000 + 10
    assert client.get("/trade/fills")["data"] == []
    assert len(client.get("/trade/fills-history", instType="SWAP")["data"]) == 1


def test_batches_mix_success_and_failure() -> None:
    client = RestClient(net_exchange())
    rows = [order_body(clOrdId="a"), order_body(sz="0")]
    answer = client.post("/trade/batch-orders", rows)
    assert (answer["code"], [row["sCode"] for row in answer["data"]]) == ("2", ["0", "51020"])
    amend = {"instId": INST_ID, "clOrdId": "a", "newSz": "2"}
    assert client.post("/trade/amend-batch-orders", [amend])["code"] == "0"
    assert client.post("/trade/amend-order", amend | {"newSz": "3"})["code"] == "0"
    assert client.get("/trade/orders-pending")["data"][0]["sz"] == "3"


def test_rest_and_websocket_name_the_instrument_differently() -> None:
    body = order_body()
    del body["instId"]
    answer = RestClient(net_exchange()).post("/trade/order", body | {"instIdCode": 10459})
    assert answer["data"][0]["sCode"] == "50014"


def test_an_order_after_its_expiry_header_is_rejected() -> None:
    client = RestClient(net_exchange())
    answer = client.post("/trade/order", order_body(), exptime=str(START_MS - 1))
    assert answer["code"] == "50036"
    assert client.post("/trade/order", order_body(), exptime=str(START_MS))["code"] == "0"


def test_too_many_calls_are_429_until_the_window_has_passed() -> None:
    clock = ManualClock()
    client = RestClient(net_exchange(clock=clock))
    statuses = []
    for _ in range(6):
        client.get("/account/config")
        statuses.append(client.status)
    assert statuses == [200] * 5 + [429]
    clock.now_ms += 2000
    assert client.get("/account/config")["code"] == "0"


def test_cancel_all_after_cancels_the_orders_of_its_tag() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    for name, tag in (("a", "rl"), ("b", "")):
        client.post("/trade/order", order_body(clOrdId=name, tag=tag))
    answer = client.post("/trade/cancel-all-after", {"timeOut": "10", "tag": "rl"})
    due = str(START_MS // 1000 + 10)
    assert answer["data"] == [{"triggerTime": due, "tag": "rl", "ts": str(START_MS // 1000)}]
    too_soon = client.post("/trade/cancel-all-after", {"timeOut": "10", "tag": "rl"})
    assert too_soon["code"] == "50011"
    clock.now_ms += 9_999
    exchange.tick()
    assert len(exchange.engine.book.pending) == 2
    clock.now_ms += 1
    exchange.tick()
    assert [order.cl_ord_id for order in exchange.engine.book.pending] == ["b"]
    (ended,) = exchange.engine.book.ended
    assert ended.cancel_source == "20"


def test_cancel_all_after_can_be_stopped_and_has_bounds() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    client = RestClient(exchange)
    client.post("/trade/order", order_body())
    for timeout, code in (("9", "51000"), ("121", "51000"), ("30", "0"), ("0", "0")):
        clock.now_ms += 1000
        answer = client.post("/trade/cancel-all-after", {"timeOut": timeout})
        assert answer["code"] == code
    assert answer["data"][0]["triggerTime"] == "0"
    clock.now_ms += 60_000
    exchange.tick()
    assert len(exchange.engine.book.pending) == 1
