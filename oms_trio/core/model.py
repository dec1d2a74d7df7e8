"""The nouns of trading: ids, enumerations, instrument, rules, orders and fills.

Sizes are contracts, prices USDT per BTC, money USDT: all exact ``Decimal``. Times ending in
``_ns`` are Unix nanoseconds of our own clock, those ending in ``_ms`` Unix milliseconds of the
exchange's clock. Field names of the exchange are kept in snake case (``accFillSz`` is
``acc_fill_sz``), so that its documentation can be read next to this code.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import NewType, TypeVar

import attrs

SECOND_NS = 1_000_000_000
NS_PER_MS = 1_000_000

StateId = NewType("StateId", int)
"""The agent's number of the state it acted in: uint32, not unique over an agent's restarts."""

ClOrdId = NewType("ClOrdId", str)
"""Our name for an order: 1 to 32 letters and digits, derived from its action."""

OrdId = NewType("OrdId", str)
"""The exchange's name for an order (``okx_id`` in what is published); opaque text."""

TradeId = NewType("TradeId", int)
"""The exchange's number of a match; only grows within one instrument, so it orders fills.

Matches made by the exchange's risk engine (ADL) have negative numbers, which order nothing.
"""

ExchangeMs = NewType("ExchangeMs", int)
"""Unix time in milliseconds by the exchange's clock."""

NEVER = ExchangeMs(0)
"""Before anything that the exchange can have done."""


class Side(Enum):
    """The side of an order, and by its ``sign`` the direction of a trade."""

    BUY = "buy"
    SELL = "sell"

    __hash__ = object.__hash__  # the enum's own is Python: with these two, 6 % of a fill

    @property
    def sign(self) -> int:
        """+1 for what makes a position longer, -1 for what makes it shorter."""
        return 1 if self is Side.BUY else -1


class OrderType(Enum):
    """How an action wants to trade."""

    LIMIT = "limit"
    MARKET = "market"


class OrderState(Enum):
    """The state of an order; ``pending`` until the exchange has reported it."""

    PENDING = "pending"
    LIVE = "live"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"

    __hash__ = object.__hash__  # see Side


class CancelState(Enum):
    """What became of our wish to cancel an order."""

    NONE = "none"
    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"


class RejectReason(Enum):
    """Why an action became no order: the ``reason`` that an agent reads in a rejection."""

    BELOW_MIN = "below_min"
    MARGIN_CAP = "margin_cap"
    PRICE_COLLAR = "price_collar"
    NOT_READY = "not_ready"
    STALE = "stale"
    PAUSED = "paused"
    RATE_LIMITED = "rate_limited"
    EXCHANGE = "exchange"


class Cause(Enum):
    """Who or what caused an order: the value of the header ``x-oms-cause``."""

    AGENT = "agent"
    OPERATOR = "operator"
    """``flatten``: an order of ours that no action caused."""
    LIQUIDATION = "liquidation"
    ADL = "adl"
    """Auto-deleveraging: the exchange closed our position to cover somebody else's loss."""
    MANUAL = "manual"
    """Somebody traded by hand, and the operator adopted the position."""

    __hash__ = object.__hash__  # see Side


CAUSE_OF_CATEGORY: dict[str, Cause] = {
    "full_liquidation": Cause.LIQUIDATION,
    "partial_liquidation": Cause.LIQUIDATION,
    "adl": Cause.ADL,
}
"""The exchange's own orders, by their ``category``: their fills belong to our trade."""


class RewardUnit(Enum):
    """What a reward counts.

    ``usdt`` is money, ``return`` money over the entry notional of all that was reduced, and
    ``roe`` that times leverage in percent: a return on the margin.
    """

    USDT = "usdt"
    RETURN = "return"
    ROE = "roe"


@attrs.frozen
class Instrument:
    """The exchange's rules for the one instrument we trade (``GET /public/instruments``).

    ``inst_id_code`` names it on the WebSocket and differs between production and demo trading.
    """

    inst_id: str
    inst_id_code: int
    ct_val: Decimal
    ct_mult: Decimal
    tick_sz: Decimal
    lot_sz: Decimal
    min_sz: Decimal

    @property
    def multiplier(self) -> Decimal:
        """BTC per contract: PnL in USDT is price difference x contracts x this."""
        return self.ct_val * self.ct_mult


@attrs.frozen
class Limits:
    """What the operator allows (see ``risk``); None is no limit. Loss in USDT, else parts of 1."""

    max_order_contracts: Decimal | None = None
    max_orders_per_second: int | None = None
    price_collar: Decimal | None = None
    max_daily_loss: Decimal | None = None
    max_drawdown: float | None = None
    max_rejects: int | None = None


@attrs.frozen
class Rules:
    """The settings that the core decides by."""

    leverage: Decimal
    step: Decimal
    """Order sizes are multiples of this many contracts, and at least one of it."""
    max_margin_fraction: Decimal
    max_open_orders: int
    max_order_age_ns: int | None
    max_action_age_ns: int
    reward_unit: RewardUnit
    tag: str
    """Marks our orders on the exchange; orders without it are not ours."""
    limits: Limits = Limits()
    reward_net: bool = False
    """Whether a reward is net of the trade's fees and of the funding paid while it was open."""
    reader_lag_ms: int = 180_000
    """No read of the exchange is assumed to lag more than this, even when nothing shows how
    much it does: on a quiet account what is not found is believed to be absent only after this long."""
    check_every_ns: int = 60_000_000_000
    """How often everything is compared with the exchange while nothing gives cause to."""


@attrs.frozen
class Fill:
    """One match of one of our orders.

    ``trade_id`` is None only for a fill that we derived from an order's growth because the
    exchange could not name its matches. ``pnl`` is the exchange's ``fillPnl`` (fees excluded,
    closing part only), None when it was not reported for exactly this fill. ``fee`` is the exchange's
    ``fillFee`` in the settlement currency: negative when charged, positive for a rebate.
    """

    ord_id: OrdId
    trade_id: TradeId | None
    px: Decimal
    sz: Decimal
    time_ms: int
    pnl: Decimal | None = None
    fee: Decimal = Decimal(0)


@attrs.frozen
class OrderReport:
    """What the exchange reports of one order at one instant, by push or by query.

    ``fill`` is the match that this report is about; None in a query's answer, whose fills are
    requested separately. ``avg_px`` is None before the first fill. ``tag`` and ``cl_ord_id``
    are empty for orders that are not ours. ``category`` is the exchange's name for who made the
    order (see ``CAUSE_OF_CATEGORY``).
    """

    ord_id: OrdId
    cl_ord_id: ClOrdId
    tag: str
    side: Side
    ord_type: str
    state: OrderState
    px: Decimal | None
    sz: Decimal
    acc_fill_sz: Decimal
    avg_px: Decimal | None
    c_time_ms: int
    u_time_ms: int
    fill: Fill | None = None
    cancel_source: str = ""
    category: str = "normal"


@attrs.frozen
class PositionReport:
    """The exchange's net position: signed contracts, 0 when flat.

    ``upl_ratio`` is a fraction (-1.0 at 100x is an adverse move of 1 %), None when it was not reported.
    ``trade_id`` is the last match that changed the position. ``funding_fee`` is what funding has
    paid (above 0) or cost since the position was opened, None when it was not reported.
    """

    pos: Decimal
    avg_px: Decimal | None
    upl_ratio: float | None
    trade_id: TradeId | None
    u_time_ms: int
    mark_px: Decimal | None = None
    funding_fee: Decimal | None = None


@attrs.frozen
class Funding:
    """One funding payment (``GET /account/bills``, type 8): ``amount`` in USDT, negative: paid."""

    bill_id: int
    time_ms: int
    amount: Decimal


K = TypeVar("K")
V = TypeVar("V")


def keep_newest(entries: dict[K, V], keep: int) -> dict[K, V]:
    """Return the newest ``keep`` entries once there are an eighth more, else all of them.

    Deleting the oldest one by one would be slow in the long run: a dict finds its first key by
    walking over what was deleted before it.
    """
    surplus = len(entries) - keep
    return dict(islice(entries.items(), surplus, None)) if surplus > keep // 8 else entries
