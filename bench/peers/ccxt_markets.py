"""ccxt.pro's OKX with the one market that the benches trade, so that it asks for nothing."""

from __future__ import annotations

from typing import Any

import ccxt.pro

SYMBOL = "BTC/USDT:USDT"

INSTRUMENT = {
    "instId": "BTC-USDT-SWAP",
    "instType": "SWAP",
    "uly": "BTC-USDT",
    "instFamily": "BTC-USDT",
    "state": "live",
    "ctType": "linear",
    "settleCcy": "USDT",
    "ctValCcy": "BTC",
    "ctVal": "0.01",
    "ctMult": "1",
    "tickSz": "0.1",
    "lotSz": "0.01",
    "minSz": "0.01",
    "lever": "100",
    "instIdCode": 10459,
    "baseCcy": "",
    "quoteCcy": "",
}


def client(ws: str, key: str, secret: str, passphrase: str) -> Any:  # noqa: ANN401 - untyped
    """Make the exchange object, its WebSocket pointed at ours."""
    exchange = ccxt.pro.okx(
        {"apiKey": key, "secret": secret, "password": passphrase, "enableRateLimit": False}
    )
    exchange.urls["api"]["ws"] = ws.removesuffix("/private")
    market = exchange.parse_market(INSTRUMENT)
    market["instIdCode"] = INSTRUMENT["instIdCode"]
    exchange.set_markets([market])
    return exchange
