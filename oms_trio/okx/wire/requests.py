"""Encodes what is sent on the WebSocket. Pure.

The instrument is given as ``instIdCode`` here, a JSON integer (REST takes its ``instId``). Orders are
cross margin in net mode, so ``posSide`` is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from oms_trio.core.effects import PlaceOrder
from oms_trio.core.model import OrderType, OrdId
from oms_trio.okx.wire.rows import INST_TYPE, SETTLE_CCY
from oms_trio.okx.wire.signing import Credentials, login_sign

PING: Final = "ping"
"""The heartbeat that the exchange expects: this bare text, neither JSON nor a ping frame."""

CHANNELS: Final = frozenset({"orders", "positions", "account"})
"""The channels that a session must have subscribed before it is ready."""

BATCH_CANCEL_MAX: Final = 20
"""The largest batch that the exchange accepts."""

# The exchange rejects anything else with 51000, such as a hyphen.
_NAME: Final = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)
_TAG: Final = re.compile(r"[A-Za-z0-9]{0,16}", re.ASCII)

# The shortest period; with "0" uplRatio does not follow the market between fills.
_UPDATE_INTERVAL: Final = '{"updateInterval":"2000"}'

_encoder: Final = msgspec.json.Encoder()


def encode_login(credentials: Credentials, timestamp_s: int) -> str:
    """Log in at ``timestamp_s``: Unix seconds on the exchange's clock."""
    return _text(
        {
            "op": "login",
            "args": [
                {
                    "apiKey": credentials.api_key,
                    "passphrase": credentials.passphrase,
                    "timestamp": str(timestamp_s),
                    "sign": login_sign(credentials, timestamp_s),
                }
            ],
        }
    )


def encode_subscribe(inst_id: str, request_id: str) -> str:
    """Subscribe to all ``CHANNELS`` in one request; each is acknowledged separately."""
    instrument = {"instType": INST_TYPE, "instId": inst_id}
    return _text(
        {
            "id": _name("id", request_id),
            "op": "subscribe",
            "args": [
                {"channel": "orders", **instrument},
                {"channel": "positions", **instrument, "extraParams": _UPDATE_INTERVAL},
                {"channel": "account", "ccy": SETTLE_CCY},
            ],
        }
    )


def encode_order(order: PlaceOrder, *, tag: str, request_id: str) -> str:
    """Place an order, which the exchange discards after its ``exp_time_ms`` (the exchange's clock).

    Raises:
        ValueError: it has no ``inst_id_code``, or a name has characters or a length that the exchange rejects.
    """
    if order.inst_id_code is None:
        raise ValueError("the WebSocket names the instrument by its code")
    return _text(
        {
            "id": _name("id", request_id),
            "op": "order",
            "expTime": str(order.exp_time_ms),
            "args": [{"instIdCode": order.inst_id_code, **_terms(order, tag)}],
        }
    )


def order_body(order: PlaceOrder, *, inst_id: str, tag: str) -> dict[str, str | bool]:
    """Encode an order as a body for REST, where ``expTime`` is a header.

    Raises:
        ValueError: a name has characters or a length that the exchange rejects.
    """
    return {"instId": inst_id, **_terms(order, tag)}


def _terms(order: PlaceOrder, tag: str) -> dict[str, str | bool]:
    if _TAG.fullmatch(tag) is None:
        raise ValueError(f"tag {tag!r} must be at most 16 letters and digits")
    terms: dict[str, str | bool] = {
        "tdMode": "cross",
        "side": order.side.value,
        "ordType": order.ord_type.value,
        "sz": plain(order.sz),
        "clOrdId": _name("clOrdId", order.cl_ord_id),
        "tag": tag,
    }
    if order.ord_type is OrderType.LIMIT:
        if order.px is None:
            raise ValueError(f"limit order {order.cl_ord_id} has no price")
        terms["px"] = plain(order.px)
    if order.reduce_only:
        terms["reduceOnly"] = True
    return terms


def encode_cancel(ord_id: OrdId, *, inst_id_code: int, request_id: str) -> str:
    """Cancel one order."""
    return _cancel("cancel-order", (ord_id,), inst_id_code, request_id)


def encode_batch_cancel(ord_ids: Sequence[OrdId], *, inst_id_code: int, request_id: str) -> str:
    """Cancel 1 to 20 orders; some may be accepted and others rejected."""
    if not 1 <= len(ord_ids) <= BATCH_CANCEL_MAX:
        raise ValueError(f"a batch has 1 to {BATCH_CANCEL_MAX} elements, not {len(ord_ids)}")
    return _cancel("batch-cancel-orders", ord_ids, inst_id_code, request_id)


def plain(number: Decimal) -> str:
    """Write a decimal as the exchange requires: no exponent, no trailing zeros (51150)."""
    return format(number.normalize(), "f")


def _cancel(op: str, ord_ids: Iterable[OrdId], inst_id_code: int, request_id: str) -> str:
    args = [{"instIdCode": inst_id_code, "ordId": ord_id} for ord_id in ord_ids]
    return _text({"id": _name("id", request_id), "op": op, "args": args})


def _name(field: str, value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError(f"{field} {value!r} must be 1 to 32 letters and digits")
    return value


def _text(message: dict[str, object]) -> str:
    return _encoder.encode(message).decode()
