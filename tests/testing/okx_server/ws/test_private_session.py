"""The private WebSocket, through a raw client."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from oms_trio.testing.okx_server.auth import ExchangeAccount
from tests.testing.okx_server.clients import (
    INST,
    START_MS,
    connected,
    live_exchange,
    logged_in,
    login_frame,
    order_args,
    signed,
)

STALE = str(START_MS // 1000 - 31)
ORDERS = {"channel": "orders", **INST}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"timestamp": "yesterday"}, "60004"),
        ({"apiKey": ""}, "60005"),
        ({"timestamp": STALE}, "60006"),
        ({"sign": "AAAA"}, "60007"),
        ({"passphrase": "wrong"}, "60024"),
        ({"apiKey": "deleted"}, "60032"),
        ({"apiKey": "live-key"}, "50101"),
    ],
)
async def test_a_failed_login_gets_its_reason_and_a_close(
    changes: dict[str, str], code: str, autojump_clock: MockClock
) -> None:
    exchange = live_exchange(
        autojump_clock, account=ExchangeAccount(foreign_keys=frozenset({"live-key"}))
    )
    async with connected(exchange) as client:
        answer = await client.ask(login_frame(exchange.account, exchange.now_ms, **changes))
        assert (answer["event"], answer["code"]) == ("error", code)
        assert len(answer["connId"]) == 8
        assert await client.close_code() == 4001


@pytest.mark.parametrize("code", ["60009", "60023", "63999", "50110"])
async def test_any_login_code_can_be_forced_once(code: str, autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.faults.login_codes.append(code)
    async with connected(exchange) as client:
        answer = await client.ask(login_frame(exchange.account, exchange.now_ms))
        assert answer["code"] == code
    async with connected(exchange) as client:
        await client.login()


async def test_a_second_login_is_rejected_and_the_first_stays_valid(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange) as client:
        again = await client.ask(login_frame(exchange.account, exchange.now_ms))
        assert again["code"] == "60031"
        assert (await client.op("order", order_args()))["code"] == "0"


async def test_the_timestamp_of_a_login_may_be_a_number(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    frame = login_frame(exchange.account, exchange.now_ms)
    frame["args"][0]["timestamp"] = int(frame["args"][0]["timestamp"])
    async with connected(exchange) as client:
        assert (await client.ask(frame))["code"] == "0"


def test_the_login_signature_is_the_documented_one() -> None:
    assert (
        signed("sim-secret-0001", "1790000000GET/users/self/verify")
        == "nzcRQutY6YxQus+4qQTCE2V9iniCxE8O/X+VF3hiO+s="
    )


async def test_nothing_private_comes_before_the_login(autojump_clock: MockClock) -> None:
    async with connected(live_exchange(autojump_clock)) as client:
        assert (await client.ask({"op": "subscribe", "args": [ORDERS]}))["code"] == "60011"
        assert (await client.op("order", order_args()))["code"] == "60011"


async def test_every_argument_is_acked_then_counted_and_snapshots_follow(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    positions = {
        "channel": "positions",
        **INST,
        "extraParams": '{"updateInterval":"2000"}',
    }
    async with connected(exchange) as client:
        await client.login()
        frames = await client.subscribe(ORDERS, positions, {"channel": "account", "ccy": "USDT"})
        kinds = [frame.get("event", frame.get("eventType")) for frame in frames]
        assert kinds == [
            *("subscribe", "channel-conn-count"),
            *("subscribe", "channel-conn-count", "snapshot"),
            *("subscribe", "channel-conn-count", "snapshot"),
        ]
        assert {frame.get("id") for frame in frames if frame.get("event") == "subscribe"} == {
            "sub1"
        }
        assert frames[2]["arg"] == {"channel": "positions", **INST}
        assert frames[4]["data"] == []
        assert frames[4] | {"curPage": 1, "lastPage": True} == frames[4]
        assert frames[7]["data"][0]["details"][0]["cashBal"] == "10000"
        assert frames[7]["arg"]["uid"] == exchange.account.uid


@pytest.mark.parametrize(
    ("arg", "code"),
    [
        ({"channel": "tickers"}, "60018"),
        ({"channel": "orders", "instId": "BTC-USDT-SWAP"}, "60033"),
        ({"channel": "orders", "instType": "SWAP", "instId": "DOGE-USDT-SWAP"}, "60018"),
    ],
)
async def test_a_bad_subscription_is_an_error_that_names_the_request(
    arg: dict[str, str], code: str, autojump_clock: MockClock
) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        answer = await client.ask({"id": "s9", "op": "subscribe", "args": [arg]})
        assert (answer["event"], answer["code"], answer["id"]) == ("error", code, "s9")


async def test_the_thirty_first_connection_of_a_channel_is_acked_and_dead(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    exchange.channel_connections["orders"] = 30
    async with connected(exchange) as client:
        await client.login()
        ack, count = await client.subscribe(ORDERS)
        assert ack["event"] == "subscribe"
        assert (count["event"], count["connCount"]) == ("channel-conn-count-error", "30")
        await client.op("order", order_args())
        await client.nothing()


async def test_a_closed_connection_is_no_longer_counted(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders") as client:
        assert exchange.channel_connections["orders"] == 1
        await client.ask({"op": "unsubscribe", "args": [ORDERS]})
        assert exchange.channel_connections["orders"] == 0
    async with logged_in(exchange, "orders", "account"):
        pass
    assert exchange.channel_connections == {"orders": 0, "account": 0}


async def test_control_requests_are_counted_per_connection(autojump_clock: MockClock) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        for _ in range(479):
            await client.ask({"op": "unsubscribe", "args": [ORDERS]})
        answer = await client.ask({"op": "unsubscribe", "args": [ORDERS]})
        assert answer["code"] == "60014"


@pytest.mark.parametrize(
    ("frame", "code"),
    [("{", "60012"), ("[]", "60012"), ('{"op":"ping"}', "60019"), ("{}", "60019")],
)
async def test_frames_that_are_no_request_are_errors(
    frame: str, code: str, autojump_clock: MockClock
) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        await client.send(frame)
        assert (await client.next())["code"] == code


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "order", "args": [order_args()]},
        {"id": "a-b", "op": "order", "args": [order_args()]},
        {"id": "a", "op": "order", "args": []},
        {"id": "a", "op": "order", "args": [order_args(), order_args()]},
        {"id": "a", "op": "order"},
        {"id": "a", "op": "batch-orders", "args": [order_args()] * 21},
    ],
)
async def test_a_malformed_operation_is_rejected_as_a_whole(
    frame: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        answer = await client.ask(frame)
        assert (answer["code"], answer["data"]) == ("60013", [])


async def test_an_order_is_acked_and_then_pushed_with_every_field(
    autojump_clock: MockClock,
) -> None:
    async with logged_in(live_exchange(autojump_clock), "orders") as client:
        answer = await client.op("order", order_args(clOrdId="oms1", tag="rl"))
        assert (answer["id"], answer["op"], answer["code"], answer["msg"]) == (
            "q1",
            "order",
            "0",
            "",
        )
        (result,) = answer["data"]
        assert list(result) == ["clOrdId", "ordId", "tag", "ts", "sCode", "sMsg", "subCode"]
        assert result["sMsg"] == "Order placed"
        assert int(answer["outTime"]) > int(answer["inTime"]) >= START_MS * 1000
        push = await client.next()
        assert push["arg"]["channel"] == "orders"
        (order,) = push["data"]
        assert order["ordId"] == result["ordId"]
        assert order["cTime"] == order["uTime"] == result["ts"]
        assert (order["avgPx"], order["accFillSz"], order["fillSz"]) == ("0", "0", "0")
        assert (order["tradeId"], order["fillPx"], order["fillNotionalUsd"]) == ("", "", "")


async def test_a_rejected_order_gets_its_reason_and_no_push(autojump_clock: MockClock) -> None:
    async with logged_in(live_exchange(autojump_clock), "orders") as client:
        answer = await client.op("order", order_args(sz="2000", clOrdId="big"))
        assert answer["code"] == "1"
        assert answer["data"][0]["sCode"] == "51008"
        assert answer["data"][0]["clOrdId"] == "big"
        assert answer["data"][0]["ordId"] == ""
        await client.nothing()


async def test_a_batch_may_succeed_in_part_and_keeps_the_order_of_the_request(
    autojump_clock: MockClock,
) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        names = ["a", "b", "a"]
        answer = await client.op("batch-orders", *(order_args(clOrdId=name) for name in names))
        assert answer["code"] == "2"
        assert [row["sCode"] for row in answer["data"]] == ["0", "0", "51016"]
        assert [row["clOrdId"] for row in answer["data"]] == names


async def test_a_cancel_is_acked_then_pushed_and_the_second_finds_nothing(
    autojump_clock: MockClock,
) -> None:
    async with logged_in(live_exchange(autojump_clock), "orders") as client:
        await client.op("order", order_args(clOrdId="a"))
        await client.next()
        target = {"instIdCode": 10459, "clOrdId": "a"}
        answer = await client.op("cancel-order", target)
        assert list(answer["data"][0]) == ["clOrdId", "ordId", "ts", "sCode", "sMsg"]
        push = (await client.next())["data"][0]
        assert (push["state"], push["cancelSource"]) == ("canceled", "1")
        again = await client.op("batch-cancel-orders", target, target)
        assert [row["sCode"] for row in again["data"]] == ["51400", "51400"]
        neither = await client.op("cancel-order", {"instIdCode": 10459})
        assert neither["data"][0]["sCode"] == "51407"


async def test_the_push_of_an_amendment_has_its_request_id(autojump_clock: MockClock) -> None:
    async with logged_in(live_exchange(autojump_clock), "orders") as client:
        await client.op("order", order_args(clOrdId="a"))
        await client.next()
        target = {"instIdCode": 10459, "clOrdId": "a", "newSz": "2", "reqId": "r1"}
        assert (await client.op("amend-order", target))["data"][0]["reqId"] == "r1"
        push = (await client.next())["data"][0]
        assert (push["state"], push["sz"], push["reqId"]) == ("live", "2", "r1")
        assert (push["amendResult"], push["amendSource"]) == ("0", "1")


async def test_an_order_after_its_expiry_is_rejected(autojump_clock: MockClock) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange) as client:
        late = await client.op("order", order_args(), expTime=str(exchange.now_ms - 1))
        assert (late["code"], late["data"]) == ("50036", [])
        good = await client.op("order", order_args(), expTime=str(exchange.now_ms))
        assert good["code"] == "0"


async def test_sixty_orders_fit_into_two_seconds(autojump_clock: MockClock) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        codes = [(await client.op("order", order_args(sz="0.01")))["code"] for _ in range(61)]
        assert codes == ["0"] * 60 + ["50011"]
        await trio.sleep(2)
        assert (await client.op("order", order_args(sz="0.01")))["code"] == "0"


async def test_batches_count_their_orders_and_single_ones_count_apart(
    autojump_clock: MockClock,
) -> None:
    target = {"instIdCode": 10459, "clOrdId": "nobody"}
    async with logged_in(live_exchange(autojump_clock)) as client:
        for _ in range(15):
            assert (await client.op("batch-cancel-orders", *[target] * 20))["code"] == "1"
        assert (await client.op("batch-cancel-orders", target, target))["code"] == "50011"
        assert (await client.op("batch-cancel-orders", target))["code"] == "1"
        assert (await client.op("batch-orders", order_args(), order_args()))["code"] == "0"


async def test_the_text_ping_is_answered_by_the_text_pong(autojump_clock: MockClock) -> None:
    async with connected(live_exchange(autojump_clock)) as client:
        await client.send("ping")
        assert await client.text() == "pong"


async def test_silence_in_both_directions_closes_after_thirty_seconds(
    autojump_clock: MockClock,
) -> None:
    async with logged_in(live_exchange(autojump_clock)) as client:
        await trio.sleep(29)
        await client.send("ping")
        assert await client.text() == "pong"
        began = trio.current_time()
        assert await client.close_code() == 4004
        assert trio.current_time() - began == pytest.approx(30)


async def test_positions_and_account_are_gathered_for_fifty_milliseconds(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with logged_in(exchange, "orders", "positions", "account") as client:
        await client.op("order", order_args(clOrdId="a", sz="3"))
        assert (await client.next())["arg"]["channel"] == "orders"
        assert (await client.next())["arg"]["channel"] == "account"
        began = trio.current_time()
        for _ in range(3):
            exchange.fill("a", Decimal(1), Decimal(66_900))
        channels = [(await client.next()) for _ in range(5)]
        assert [frame["arg"]["channel"] for frame in channels] == [
            *("orders", "orders", "orders"),
            *("positions", "account"),
        ]
        assert trio.current_time() - began == pytest.approx(0.05)
        assert channels[3]["eventType"] == "event_update"
        assert "curPage" not in channels[3]
        assert channels[3]["data"][0]["pos"] == "3"
        assert channels[3]["data"][0]["tradeId"] == channels[2]["data"][0]["tradeId"]


async def test_a_close_is_pushed_once_with_zero_and_periodic_pushes_have_open_positions_only(
    autojump_clock: MockClock,
) -> None:
    exchange = live_exchange(autojump_clock)
    async with connected(exchange) as client:
        await client.login()
        extra = {"extraParams": '{"updateInterval":"2000"}'}
        await client.subscribe({"channel": "positions", **INST, **extra})
        await client.nothing(10)
        await client.op("order", order_args(clOrdId="a"))
        exchange.fill("a", Decimal(1), Decimal(66_900))
        assert (await client.next())["eventType"] == "event_update"
        periodic = [await client.next() for _ in range(2)]
        assert [frame["eventType"] for frame in periodic] == ["snapshot"] * 2
        first, second = (frame["data"][0] for frame in periodic)
        assert int(second["pTime"]) - int(first["pTime"]) == 2000
        assert first["uTime"] == second["uTime"]
        await client.op("order", order_args(clOrdId="b", side="sell"))
        exchange.fill("b", Decimal(1), Decimal(66_900))
        closing = (await client.next())["data"][0]
        assert (closing["pos"], closing["avgPx"], closing["uplRatio"]) == ("0", "", "")
        await client.nothing(10)
