"""The REST endpoints in use, each with the exchange's rate limit."""

from __future__ import annotations

from typing import Final, Literal

import attrs


@attrs.frozen
class Endpoint:
    """One endpoint: at most ``limit`` requests in ``period_s`` seconds."""

    method: Literal["GET", "POST"]
    path: str
    limit: int
    period_s: float = 2.0
    signed: bool = True


_PREFIX: Final = "/api/v5"

TIME: Final = Endpoint("GET", f"{_PREFIX}/public/time", 10, signed=False)
INSTRUMENTS: Final = Endpoint("GET", f"{_PREFIX}/public/instruments", 20, signed=False)
MARK_PRICE: Final = Endpoint("GET", f"{_PREFIX}/public/mark-price", 10, signed=False)
CONFIG: Final = Endpoint("GET", f"{_PREFIX}/account/config", 5)
SET_POSITION_MODE: Final = Endpoint("POST", f"{_PREFIX}/account/set-position-mode", 5)
LEVERAGE: Final = Endpoint("GET", f"{_PREFIX}/account/leverage-info", 20)
SET_LEVERAGE: Final = Endpoint("POST", f"{_PREFIX}/account/set-leverage", 20)
BALANCE: Final = Endpoint("GET", f"{_PREFIX}/account/balance", 10)
POSITIONS: Final = Endpoint("GET", f"{_PREFIX}/account/positions", 10)
ORDER: Final = Endpoint("GET", f"{_PREFIX}/trade/order", 60)
ORDERS_PENDING: Final = Endpoint("GET", f"{_PREFIX}/trade/orders-pending", 60)
ORDERS_HISTORY: Final = Endpoint("GET", f"{_PREFIX}/trade/orders-history", 40)
ORDERS_ARCHIVE: Final = Endpoint("GET", f"{_PREFIX}/trade/orders-history-archive", 20)
CANCEL_ALL_AFTER: Final = Endpoint("POST", f"{_PREFIX}/trade/cancel-all-after", 1, period_s=1.0)
FILLS: Final = Endpoint("GET", f"{_PREFIX}/trade/fills", 60)
FILLS_HISTORY: Final = Endpoint("GET", f"{_PREFIX}/trade/fills-history", 10)
BILLS: Final = Endpoint("GET", f"{_PREFIX}/account/bills", 5, period_s=1.0)
PLACE_ORDER: Final = Endpoint("POST", f"{_PREFIX}/trade/order", 60)
CANCEL_ORDERS: Final = Endpoint("POST", f"{_PREFIX}/trade/cancel-batch-orders", 60)
