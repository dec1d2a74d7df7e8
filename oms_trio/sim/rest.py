"""The REST API as a function: a request and the time in, a status and JSON out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

import attrs
import msgspec

from oms_trio.sim import rest_account, rest_public, rest_trade
from oms_trio.sim.admission import Refused
from oms_trio.sim.auth import check_headers
from oms_trio.sim.exchange import Exchange
from oms_trio.sim.limits import Quota
from oms_trio.sim.pushes import JsonObject
from oms_trio.sim.rest_call import Call

Endpoint = Callable[[Call], JsonObject]

HTTP_STATUS = {
    "50001": 503,
    "50004": 400,
    "50005": 410,
    "50011": 429,
    "50013": 429,
    "50026": 500,
    "51000": 400,
    "51054": 500,
    "51113": 429,
    "51149": 500,
    **dict.fromkeys(("50002", "50006", "50014"), 400),
    **dict.fromkeys(
        ("50100", "50101", "50102", "50103", "50104", "50105", "50106", "50107", "50111"), 401
    ),
    **dict.fromkeys(("50112", "50113", "50114", "50119", "50120"), 401),
}
"""The codes that do not come with 200."""


@attrs.frozen
class Response:
    """What goes back to the client."""

    status: int
    body: bytes


@attrs.frozen
class Route:
    """One endpoint and how often it may be called; trade operations count for themselves."""

    endpoint: Endpoint
    quota: Quota | None = None
    private: bool = True


_PUBLIC = "/api/v5/public/"
_ACCOUNT = "/api/v5/account/"
_TRADE = "/api/v5/trade/"

ROUTES: Mapping[tuple[str, str], Route] = {
    ("GET", _PUBLIC + "time"): Route(rest_public.time, Quota(10), private=False),
    ("GET", _PUBLIC + "instruments"): Route(rest_public.instruments, Quota(20), private=False),
    ("GET", _PUBLIC + "mark-price"): Route(rest_public.mark_price, Quota(10), private=False),
    ("GET", _PUBLIC + "price-limit"): Route(rest_public.price_limit, Quota(20), private=False),
    ("GET", _ACCOUNT + "instruments"): Route(rest_public.instruments, Quota(20)),
    ("GET", _ACCOUNT + "config"): Route(rest_account.config, Quota(5)),
    ("POST", _ACCOUNT + "set-position-mode"): Route(rest_account.set_position_mode, Quota(5)),
    ("POST", _ACCOUNT + "set-leverage"): Route(rest_account.set_leverage, Quota(20)),
    ("GET", _ACCOUNT + "leverage-info"): Route(rest_account.leverage_info, Quota(20)),
    ("GET", _ACCOUNT + "balance"): Route(rest_account.balance, Quota(10)),
    ("GET", _ACCOUNT + "positions"): Route(rest_account.positions, Quota(10)),
    ("GET", _TRADE + "orders-pending"): Route(rest_trade.orders_pending, Quota(60)),
    ("GET", _TRADE + "order"): Route(rest_trade.order, Quota(60)),
    ("GET", _TRADE + "orders-history"): Route(rest_trade.orders_history, Quota(40)),
    ("GET", _TRADE + "fills"): Route(rest_trade.fills, Quota(60)),
    ("GET", _TRADE + "fills-history"): Route(rest_trade.fills_history, Quota(10)),
    ("POST", _TRADE + "order"): Route(rest_trade.place_order),
    ("POST", _TRADE + "cancel-order"): Route(rest_trade.cancel_order),
    ("POST", _TRADE + "amend-order"): Route(rest_trade.amend_order),
    ("POST", _TRADE + "batch-orders"): Route(rest_trade.place_batch),
    ("POST", _TRADE + "cancel-batch-orders"): Route(rest_trade.cancel_batch),
    ("POST", _TRADE + "amend-batch-orders"): Route(rest_trade.amend_batch),
    ("POST", _TRADE + "cancel-all-after"): Route(rest_trade.cancel_all_after),
    ("POST", _TRADE + "close-position"): Route(rest_trade.close_position, Quota(20)),
}


def handle(
    exchange: Exchange, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> Response:
    """Answer one request; ``target`` is path and query as sent, header names are lower case."""
    if exchange.faults.rest_status:
        return Response(exchange.faults.rest_status, b"")
    if exchange.faults.use_up("rest_failures"):
        return Response(503, b"")
    split = urlsplit(target)
    route = ROUTES.get((method, split.path))
    if route is None:
        return _answer(
            {"code": "50005", "msg": "Request endpoint does not exist.", "data": []}, 404
        )
    now_ms = exchange.now_ms
    try:
        if route.private:
            check_headers(
                exchange.account, headers, method=method, target=target, body=body, now_ms=now_ms
            )
        if route.quota and not exchange.limits.admit(f"{method} {split.path}", route.quota, now_ms):
            raise Refused("50011", "Too Many Requests")  # noqa: TRY301 - refusals have one border
        call = Call(
            exchange,
            query=dict(parse_qsl(split.query, keep_blank_values=True)),
            body=_read(body) if method == "POST" else {},
            exp_time=headers.get("exptime"),
        )
        return _answer(route.endpoint(call), 200)
    except Refused as refused:
        answer: JsonObject = {"code": refused.code, "msg": refused.msg, "data": []}
        return _answer(answer, HTTP_STATUS.get(refused.code, 200))


def _read(body: bytes) -> dict[str, object] | list[dict[str, object]]:
    if not body:
        raise Refused("50000", "Body for POST request cannot be empty.")
    try:
        return msgspec.json.decode(body, type=dict[str, object] | list[dict[str, object]])
    except msgspec.DecodeError:
        raise Refused("50002", "JSON syntax error") from None


def _answer(answer: JsonObject, status: int) -> Response:
    return Response(status, msgspec.json.encode(answer))
