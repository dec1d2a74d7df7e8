"""The REST API as a function: a request and the time in, a status and JSON out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import attrs
import msgspec

from oms_trio.testing.okx_server.auth import check_headers
from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.faults.behaviour import covers
from oms_trio.testing.okx_server.orders.admission import Refused
from oms_trio.testing.okx_server.rate_limits import Quota
from oms_trio.testing.okx_server.rest import account, public, trade
from oms_trio.testing.okx_server.rest.call import Call
from oms_trio.testing.okx_server.ws.pushes import JsonObject

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
    """What goes back to the client, after ``delay_s``; a lost one closes the connection instead."""

    status: int
    body: bytes
    content_type: str = "application/json"
    delay_s: float = 0.0
    is_lost: bool = False


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
    ("GET", _PUBLIC + "time"): Route(public.time, Quota(10), private=False),
    ("GET", _PUBLIC + "instruments"): Route(public.instruments, Quota(20), private=False),
    ("GET", _PUBLIC + "mark-price"): Route(public.mark_price, Quota(10), private=False),
    ("GET", _PUBLIC + "price-limit"): Route(public.price_limit, Quota(20), private=False),
    ("GET", _PUBLIC + "position-tiers"): Route(public.position_tiers, Quota(10), private=False),
    ("GET", _PUBLIC + "funding-rate"): Route(public.funding_rate, Quota(10), private=False),
    ("GET", _PUBLIC + "funding-rate-history"): Route(
        public.funding_rate_history, Quota(10), private=False
    ),
    ("GET", _ACCOUNT + "instruments"): Route(public.instruments, Quota(20)),
    ("GET", _ACCOUNT + "config"): Route(account.config, Quota(5)),
    ("POST", _ACCOUNT + "set-position-mode"): Route(account.set_position_mode, Quota(5)),
    ("POST", _ACCOUNT + "set-leverage"): Route(account.set_leverage, Quota(20)),
    ("GET", _ACCOUNT + "leverage-info"): Route(account.leverage_info, Quota(20)),
    ("GET", _ACCOUNT + "balance"): Route(account.balance, Quota(10)),
    ("GET", _ACCOUNT + "positions"): Route(account.positions, Quota(10)),
    ("GET", _ACCOUNT + "positions-history"): Route(account.positions_history, Quota(10)),
    ("GET", _ACCOUNT + "max-size"): Route(account.max_size, Quota(20)),
    ("GET", _ACCOUNT + "max-avail-size"): Route(account.max_avail_size, Quota(20)),
    ("GET", _ACCOUNT + "trade-fee"): Route(account.trade_fee, Quota(5)),
    ("GET", _ACCOUNT + "bills"): Route(account.bills, Quota(5, 1000)),
    ("GET", _ACCOUNT + "bills-archive"): Route(account.bills_archive, Quota(5)),
    ("GET", _TRADE + "orders-pending"): Route(trade.orders_pending, Quota(60)),
    ("GET", _TRADE + "order"): Route(trade.order, Quota(60)),
    ("GET", _TRADE + "orders-history"): Route(trade.orders_history, Quota(40)),
    ("GET", _TRADE + "orders-history-archive"): Route(trade.orders_history_archive, Quota(20)),
    ("GET", _TRADE + "fills"): Route(trade.fills, Quota(60)),
    ("GET", _TRADE + "fills-history"): Route(trade.fills_history, Quota(10)),
    ("GET", _TRADE + "account-rate-limit"): Route(trade.account_rate_limit, Quota(1, 1000)),
    ("POST", _TRADE + "order"): Route(trade.place_order),
    ("POST", _TRADE + "cancel-order"): Route(trade.cancel_order),
    ("POST", _TRADE + "amend-order"): Route(trade.amend_order),
    ("POST", _TRADE + "batch-orders"): Route(trade.place_batch),
    ("POST", _TRADE + "cancel-batch-orders"): Route(trade.cancel_batch),
    ("POST", _TRADE + "amend-batch-orders"): Route(trade.amend_batch),
    ("POST", _TRADE + "cancel-all-after"): Route(trade.cancel_all_after),
    ("POST", _TRADE + "close-position"): Route(trade.close_position, Quota(20)),
    ("POST", _TRADE + "mass-cancel"): Route(trade.mass_cancel, Quota(5)),
    ("POST", _TRADE + "order-precheck"): Route(trade.order_precheck, Quota(5)),
}


def handle(
    exchange: Exchange, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> Response:
    """Answer one request; ``target`` is path and query as sent, header names are lower case."""
    faults = exchange.faults
    faults.expire(exchange.clock())
    if faults.rest_status:
        return Response(faults.rest_status, b"")
    if faults.use_up("rest_failures"):
        return Response(503, b"")
    forced = faults.rest_answers.popleft() if faults.rest_answers else None
    if forced is None or forced.executed:
        response = _perform(exchange, method, target, headers, body)
        if forced is None:
            is_lost = method == "POST" and faults.use_up("lost_rest_answers")
            return attrs.evolve(response, delay_s=faults.rest_delay_s, is_lost=is_lost)
    return Response(forced.status, forced.body, forced.content_type)


def _perform(
    exchange: Exchange, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> Response:
    split = urlsplit(target)
    route = ROUTES.get((method, split.path))
    if route is None:
        return _answer(
            {"code": "50005", "msg": "Request endpoint does not exist.", "data": []}, 404
        )
    try:
        if route.private:
            check_headers(
                exchange.account,
                headers,
                method=method,
                target=target,
                body=body,
                now_ms=exchange.now_ms,
            )
        counter = f"{method} {split.path}"
        if route.quota and not exchange.limits.admit(counter, route.quota, exchange.steady_ms):
            raise Refused("50011", "Too Many Requests")  # noqa: TRY301 - refusals have one border
        faults = exchange.faults
        if faults.query_code and method == "GET" and covers(faults.query_code_only, split.path):
            raise Refused(faults.query_code, "Forced by a fault switch.")  # noqa: TRY301 - likewise
        call = Call(
            exchange,
            query=dict(parse_qsl(split.query, keep_blank_values=True)),
            body=_read(body) if method == "POST" else {},
            path=split.path,
            exp_time=headers.get("exptime"),
        )
        answer = route.endpoint(call)
        rows = cast("list[JsonObject]", answer["data"])
        return _answer(answer | {"data": exchange.faults.edited(split.path, rows)}, 200)
    except Refused as refused:
        answer = {"code": refused.code, "msg": refused.msg, "data": []}
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
