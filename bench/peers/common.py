"""What the contenders share: where everything is, and both ends' formats, the simplest way.

They keep no state and write nothing down: an action becomes an order frame by a few lines of
arithmetic in doubles, a fill an execution message. That is the least that can be done, and what
somebody would write first.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

LAYOUT = struct.Struct("<IBQQI")
TYPES = ("limit", "market")
PREFETCH = 64


@dataclass(frozen=True)
class Place:
    """Where the exchange and the broker are, and what this run's queues are called."""

    ws: str
    rest: str
    amqp: str
    actions: str
    queue: str
    executions: str
    key: str
    secret: str
    passphrase: str


def place() -> Place:
    """Read the place from the command line."""
    return Place(**json.loads(sys.argv[1]))


def login(where: Place) -> str:
    """Give the login frame."""
    now = str(int(time.time()))
    digest = hmac.digest(
        where.secret.encode(), f"{now}GET/users/self/verify".encode(), hashlib.sha256
    )
    arg = {
        "apiKey": where.key,
        "passphrase": where.passphrase,
        "timestamp": now,
        "sign": base64.b64encode(digest).decode(),
    }
    return json.dumps({"op": "login", "args": [arg]})


def subscribe() -> str:
    """Give the frame that subscribes to what the service subscribes to."""
    instrument = {"instType": "SWAP", "instId": "BTC-USDT-SWAP"}
    channels = [
        {"channel": "orders", **instrument},
        {"channel": "positions", **instrument},
        {"channel": "account", "ccy": "USDT"},
    ]
    return json.dumps({"id": "s1", "op": "subscribe", "args": channels})


@dataclass(frozen=True)
class Order:
    """An order as plain values."""

    state_id: int
    side: str
    kind: str
    px: float
    sz: float

    @property
    def name(self) -> str:
        """The ``clOrdId``."""
        return f"bch{self.state_id:08x}"


def order_of(body: bytes) -> Order:
    """Size an action: balance 10000, 100x, no caps, in doubles."""
    state_id, kind, price_bits, volume_bits, cents = LAYOUT.unpack(body)
    price = (price_bits & (2**63 - 1)) / (2**63 - 1)
    if price_bits >> 63:
        price = -price
    volume = (volume_bits >> 53 & 1023) + (volume_bits & (2**53 - 1)) / (2**53 - 1)
    px = round(cents / 100 * (1 + price / 1000), 1)
    sz = round(100 * 10_000 * 0.001 * volume / (px * 0.01), 1)
    return Order(state_id, "buy" if price < 0 else "sell", TYPES[kind & 7], px, sz)


def frame_of(order: Order) -> str:
    """Write the op that places an order."""
    return json.dumps(
        {
            "id": str(order.state_id),
            "op": "order",
            "args": [
                {
                    "instIdCode": 10459,
                    "tdMode": "cross",
                    "side": order.side,
                    "ordType": order.kind,
                    "sz": str(order.sz),
                    "px": str(order.px),
                    "clOrdId": order.name,
                    "tag": "omstrio",
                }
            ],
        }
    )


def executions_of(text: str | bytes) -> list[bytes]:
    """Read a frame; give a message for every fill in it."""
    if text in {"pong", b"pong"}:
        return []
    frame: dict[str, Any] = json.loads(text)
    if frame.get("arg", {}).get("channel") != "orders":
        return []
    return [
        execution(int(row["clOrdId"][3:11], 16), row["ordId"])
        for row in frame.get("data", ())
        if row["fillSz"] != "0"
    ]


def execution(state_id: int, ord_id: str) -> bytes:
    """Write an execution message."""
    told = {"state_id": state_id, "okx_id": ord_id, "is_trade_closed": False}
    return json.dumps(told).encode()
