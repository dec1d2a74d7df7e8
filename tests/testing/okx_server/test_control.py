"""Control calls drive an exchange in another process, from the same machine only."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from oms_trio.testing.okx_server import control
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.server import serve
from tests.testing.okx_server.clients import net_exchange, order_args


def call(
    exchange: SimulatedExchange, method: str, path: str, body: Any = None, *, is_local: bool = True
) -> tuple[int, Any]:
    sent = b"" if body is None else json.dumps(body).encode()
    response = control.handle(exchange, method, f"/sim/{path}", sent, is_local=is_local)
    return response.status, json.loads(response.body)


def holding() -> SimulatedExchange:
    """An exchange on which a long position of 2 was bought by calls."""
    exchange = net_exchange()
    exchange.place(order_args(clOrdId="a", sz="3"), lambda *_: None)
    assert call(exchange, "POST", "fill", {"order": "a", "sz": "2", "px": "66900"})[0] == 200
    return exchange


def test_fill_price_position_and_mode_act_like_the_methods() -> None:
    exchange = holding()
    assert call(exchange, "POST", "price", {"px": "66000"}) == (200, {"done": True})
    _, state = call(exchange, "GET", "state")
    assert (state["pos"], state["bid"], len(state["pending"])) == ("2", "66000", 1)
    call(exchange, "POST", "position", {"uplRatio": "-0.5"})
    view = exchange.engine.position_view()
    assert view is not None
    assert view.upl_ratio == Decimal("-0.5")
    call(exchange, "POST", "mode", {"mode": "auto"})
    assert call(exchange, "GET", "state")[1]["mode"] == "auto"


def test_the_ground_truth_is_returned_from_any_line_on() -> None:
    exchange = holding()
    whole = control.handle(exchange, "GET", "/sim/ground-truth", b"", is_local=True)
    assert whole.body == exchange.ground_truth.dump()
    assert whole.content_type == "application/x-ndjson"
    last = control.handle(exchange, "GET", "/sim/ground-truth?start=1", b"", is_local=True)
    (line,) = map(json.loads, last.body.splitlines())
    assert (line["state"], line["fill"]["sz"]) == ("partially_filled", "2")


def test_adl_liquidation_and_funding_can_be_called() -> None:
    exchange = holding()
    call(exchange, "POST", "funding", {"rate": "0.001"})
    paid = exchange.engine.bills.rows[-1]
    assert (paid.sub_type, str(paid.bal_chg.normalize())) == ("173", "-1.34")
    call(exchange, "POST", "adl", {"sz": "0.5"})
    assert (
        exchange.engine.ledger.pos
        == exchange.ground_truth.fills()[0].sz - exchange.ground_truth.fills()[1].sz
    )
    call(exchange, "POST", "liquidation")
    assert exchange.engine.ledger.pos == 0
    assert call(exchange, "POST", "liquidation")[0] == 400


def test_faults_are_injected_listed_and_cleared() -> None:
    exchange = net_exchange()
    injected = {"kind": "drop_ack", "times": 3}
    assert call(exchange, "POST", "faults", injected) == (200, {"done": True})
    _, listed = call(exchange, "GET", "faults")
    assert listed["on"] == {"drop_acks": 3, "push_delay_s": 0.2}
    assert listed["injected"][0]["kind"] == "drop_ack"
    assert "cut" in listed["catalog"]
    call(exchange, "DELETE", "faults")
    assert exchange.faults.drop_acks == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", None, 404),
        ("PUT", "state", None, 404),
        ("POST", "faults", {"kind": "boredom"}, 400),
        ("POST", "faults", {"kind": "cut", "times": "many"}, 400),
        ("POST", "faults", {}, 400),
        ("POST", "faults", [1], 400),
        ("POST", "fill", {"order": "b", "sz": "1", "px": "1"}, 400),
        ("POST", "fill", {"order": "a", "sz": "9", "px": "66900"}, 400),
        ("POST", "fill", {"order": "a"}, 400),
        ("POST", "price", {"px": "NaN"}, 400),
        ("POST", "mode", {"mode": "turbo"}, 400),
        ("GET", "ground-truth?start=-1", None, 400),
    ],
)
def test_an_invalid_call_gets_an_error_and_changes_nothing(
    method: str, path: str, body: Any, status: int
) -> None:
    exchange = holding()
    before = exchange.ground_truth.dump()
    got, answer = call(exchange, method, path, body)
    assert got == status
    assert answer["error"]
    assert exchange.ground_truth.dump() == before


def test_calls_from_other_machines_are_forbidden() -> None:
    exchange = net_exchange()
    assert call(exchange, "POST", "price", {"px": "1"}, is_local=False)[0] == 403
    assert exchange.engine.market.bid == 67_000


async def test_control_calls_work_while_connections_are_refused() -> None:
    exchange = net_exchange()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange))
        base = f"http://127.0.0.1:{port}"
        exchange.faults.refuse_connections = True
        async with httpx.AsyncClient(base_url=base) as client:
            assert (await client.delete("/sim/faults")).json() == {"done": True}
            assert (await client.get("/api/v5/public/time")).status_code == 200
        nursery.cancel_scope.cancel()


async def test_a_cut_spares_only_the_connection_that_demands_it() -> None:
    exchange = net_exchange()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange))
        other = await trio.open_tcp_stream("127.0.0.1", port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            while (await client.get("/sim/state")).json()["connections"] < 2:
                pass
            answer = await client.post("/sim/faults", json={"kind": "cut"})
            assert answer.json() == {"done": True}
            with trio.fail_after(5):
                assert await other.receive_some() == b""
            assert (await client.get("/sim/state")).json()["connections"] == 1
        await other.aclose()
        nursery.cancel_scope.cancel()
