"""The REST API as a function: a request in, a status and JSON out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import attrs
import msgspec

from oms_trio.testing.okx_server.auth import check_headers
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.faults.switches import covers
from oms_trio.testing.okx_server.orders.request_checks import RequestRejected
from oms_trio.testing.okx_server.rate_limits import Quota
from oms_trio.testing.okx_server.rest import account, public, trade
from oms_trio.testing.okx_server.rest.call import RestCall
from oms_trio.testing.okx_server.values import JsonObject

Endpoint = Callable[[RestCall], JsonObject]

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
"""The HTTP status of codes whose status is not 200."""


@attrs.frozen
class RestResponse:
    """The response, to be sent after ``delay_s``; if it ``is_lost``, the connection closes instead."""

    status: int
    body: bytes
    content_type: str = "application/json"
    delay_s: float = 0.0
    is_lost: bool = False


@attrs.frozen
class RestRoute:
    """An endpoint and its rate limit; trade operations count their own."""

    endpoint: Endpoint
    quota: Quota | None = None
    private: bool = True


_PUBLIC = "/api/v5/public/"
_ACCOUNT = "/api/v5/account/"
_TRADE = "/api/v5/trade/"

ROUTES: Mapping[tuple[str, str], RestRoute] = {
    ("GET", _PUBLIC + "time"): RestRoute(public.time, Quota(10), private=False),
    ("GET", _PUBLIC + "instruments"): RestRoute(public.instruments, Quota(20), private=False),
    ("GET", _PUBLIC + "mark-price"): RestRoute(public.mark_price, Quota(10), private=False),
    ("GET", _PUBLIC + "price-limit"): RestRoute(public.price_limit, Quota(20), private=False),
    ("GET", _PUBLIC + "position-tiers"): RestRoute(public.position_tiers, Quota(10), private=False),
    ("GET", _PUBLIC + "funding-rate"): RestRoute(public.funding_rate, Quota(10), private=False),
    ("GET", _PUBLIC + "funding-rate-history"): RestRoute(
        public.funding_rate_history, Quota(10), private=False
    ),
    ("GET", _ACCOUNT + "instruments"): RestRoute(public.instruments, Quota(20)),
    ("GET", _ACCOUNT + "config"): RestRoute(account.config, Quota(5)),
    ("POST", _ACCOUNT + "set-position-mode"): RestRoute(account.set_position_mode, Quota(5)),
    ("POST", _ACCOUNT + "set-leverage"): RestRoute(account.set_leverage, Quota(20)),
    ("GET", _ACCOUNT + "leverage-info"): RestRoute(account.leverage_info, Quota(20)),
    ("GET", _ACCOUNT + "balance"): RestRoute(account.balance, Quota(10)),
    ("GET", _ACCOUNT + "positions"): RestRoute(account.positions, Quota(10)),
    ("GET", _ACCOUNT + "positions-history"): RestRoute(account.positions_history, Quota(10)),
    ("GET", _ACCOUNT + "max-size"): RestRoute(account.max_size, Quota(20)),
    ("GET", _ACCOUNT + "max-avail-size"): RestRoute(account.max_avail_size, Quota(20)),
    ("GET", _ACCOUNT + "trade-fee"): RestRoute(account.trade_fee, Quota(5)),
    ("GET", _ACCOUNT + "bills"): RestRoute(account.bills, Quota(5, 1000)),
    ("GET", _ACCOUNT + "bills-archive"): RestRoute(account.bills_archive, Quota(5)),
    ("GET", _TRADE + "orders-pending"): RestRoute(trade.orders_pending, Quota(60)),
    ("GET", _TRADE + "order"): RestRoute(trade.order, Quota(60)),
    ("GET", _TRADE + "orders-history"): RestRoute(trade.orders_history, Quota(40)),
    ("GET", _TRADE + "orders-history-archive"): RestRoute(trade.orders_history_archive, Quota(20)),
    ("GET", _TRADE + "fills"): RestRoute(trade.fills, Quota(60)),
    ("GET", _TRADE + "fills-history"): RestRoute(trade.fills_history, Quota(10)),
    ("GET", _TRADE + "account-rate-limit"): RestRoute(trade.account_rate_limit, Quota(1, 1000)),
    ("POST", _TRADE + "order"): RestRoute(trade.place_order),
    ("POST", _TRADE + "cancel-order"): RestRoute(trade.cancel_order),
    ("POST", _TRADE + "amend-order"): RestRoute(trade.amend_order),
    ("POST", _TRADE + "batch-orders"): RestRoute(trade.place_batch),
    ("POST", _TRADE + "cancel-batch-orders"): RestRoute(trade.cancel_batch),
    ("POST", _TRADE + "amend-batch-orders"): RestRoute(trade.amend_batch),
    ("POST", _TRADE + "cancel-all-after"): RestRoute(trade.cancel_all_after),
    ("POST", _TRADE + "close-position"): RestRoute(trade.close_position, Quota(20)),
    ("POST", _TRADE + "mass-cancel"): RestRoute(trade.mass_cancel, Quota(5)),
    ("POST", _TRADE + "order-precheck"): RestRoute(trade.order_precheck, Quota(5)),
}


def handle(
    exchange: SimulatedExchange, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> RestResponse:
    """Answer one request; ``target`` is path and query as sent, header names are lower case."""
    faults = exchange.faults
    faults.expire(exchange.clock())
    if faults.rest_status:
        return RestResponse(faults.rest_status, b"")
    if faults.consume("rest_failures"):
        return RestResponse(503, b"")
    forced = faults.rest_answers.popleft() if faults.rest_answers else None
    if forced is None or forced.executed:
        response = _perform(exchange, method, target, headers, body)
        if forced is None:
            is_lost = method == "POST" and faults.consume("lost_rest_answers")
            return attrs.evolve(response, delay_s=faults.rest_delay_s, is_lost=is_lost)
    return RestResponse(forced.status, forced.body, forced.content_type)


def _perform(
    exchange: SimulatedExchange, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> RestResponse:
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
        if route.quota and not exchange.limits.admit(counter, route.quota, exchange.true_ms):
            raise RequestRejected("50011", "Too Many Requests")  # noqa: TRY301 - every rejection is answered below
        faults = exchange.faults
        if faults.query_code and method == "GET" and covers(faults.query_code_only, split.path):
            raise RequestRejected(faults.query_code, "Forced by a fault.")  # noqa: TRY301 - likewise
        call = RestCall(
            exchange,
            query=dict(parse_qsl(split.query, keep_blank_values=True)),
            body=_read(body) if method == "POST" else {},
            path=split.path,
            exp_time=headers.get("exptime"),
        )
        answer = route.endpoint(call)
        rows = cast("list[JsonObject]", answer["data"])
        return _answer(answer | {"data": exchange.faults.apply_edit(split.path, rows)}, 200)
    except RequestRejected as rejected:
        answer = {"code": rejected.code, "msg": rejected.msg, "data": []}
        return _answer(answer, HTTP_STATUS.get(rejected.code, 200))


def _read(body: bytes) -> dict[str, object] | list[dict[str, object]]:
    if not body:
        raise RequestRejected("50000", "Body for POST request cannot be empty.")
    try:
        return msgspec.json.decode(body, type=dict[str, object] | list[dict[str, object]])
    except msgspec.DecodeError:
        raise RequestRejected("50002", "JSON syntax error") from None


def _answer(answer: JsonObject, status: int) -> RestResponse:
    return RestResponse(status, msgspec.json.encode(answer))
