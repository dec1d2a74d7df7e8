"""Whatever a client sends, the exchange answers and never raises."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oms_trio.testing.okx_server.rest import router
from oms_trio.testing.okx_server.ws.connection import CloseFrame, Frame, ServerConnection
from oms_trio.testing.okx_server.ws.private_session import PrivateSession
from tests.testing.okx_server.clients import (
    START_MS,
    headers_for,
    login_frame,
    net_exchange,
    order_args,
)

WORDS = st.sampled_from(
    [
        "",
        "orders",
        "positions",
        "account",
        "SWAP",
        "BTC-USDT-SWAP",
        "buy",
        "1",
        "-1",
        "1e999",
        "NaN",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        *("instIdCode", "instId", "tdMode", "side", "posSide", "ordType", "px", "sz", "clOrdId"),
        *("tag", "reduceOnly", "pxAmendType", "ordId", "newSz", "newPx", "reqId", "channel"),
        *("instType", "ccy", "extraParams", "lever", "mgnMode", "timeOut", "posMode", "autoCxl"),
        *("stpMode", "cxlOnFail", "instFamily", "type"),
    ]
)
CHANGES = st.dictionaries(FIELDS, VALUES, max_size=4)
OPS = st.sampled_from(
    [
        *("order", "batch-orders", "cancel-order", "batch-cancel-orders", "amend-order"),
        *("subscribe", "unsubscribe", "login", "mass-cancel", "batch-amend-orders"),
    ]
)


def answers(frames: list[str], *, logged_in: bool = True) -> list[Frame]:
    """Feed frames to one session and return what it sends."""
    exchange = net_exchange()
    sent: list[Frame] = []
    connection = ServerConnection(
        exchange.faults,
        exchange.clock,
        conn_id="7c1d90ab",
        send=sent.append,
        wake=lambda: None,
        lose=lambda: None,
        time=lambda: 0.0,
    )
    session = PrivateSession(exchange, connection)
    with exchange.engine.listening(session.on_event):
        if logged_in:
            session.receive(json.dumps(login_frame(exchange.account, exchange.now_ms)))
        for frame in frames:
            session.receive(frame)
    return sent[1:] if logged_in else sent


@given(st.text() | VALUES.map(json.dumps))
def test_any_text_gets_an_error_or_a_pong(frame: str) -> None:
    assert len(answers([frame], logged_in=False)) == 1


@given(OPS | VALUES, VALUES, VALUES)
def test_any_request_gets_an_answer(op: Any, request_id: Any, args: Any) -> None:
    frame = json.dumps({"op": op, "id": request_id, "args": args, "expTime": args})
    assert answers([frame])


@given(OPS, CHANGES)
def test_any_field_may_hold_anything(op: str, changes: dict[str, Any]) -> None:
    frame = json.dumps({"op": op, "id": "a", "args": [order_args(**changes)]})
    sent = answers([frame, frame])
    assert sent
    assert all(isinstance(frame, CloseFrame) or json.loads(frame) for frame in sent)


@given(st.sampled_from(sorted(router.ROUTES)), VALUES | CHANGES | st.lists(CHANGES), st.text())
def test_any_call_gets_json(route: tuple[str, str], body: Any, query: str) -> None:
    exchange = net_exchange()
    method, path = route
    for target in (path, f"{path}?instId=BTC-USDT-SWAP&instType=SWAP&after={query}&limit={query}"):
        sent = json.dumps(body) if method == "POST" else ""
        headers = headers_for(exchange.account, method, target, sent, START_MS)
        response = router.handle(exchange, method, target, headers, sent.encode())
        assert json.loads(response.body)["code"]
