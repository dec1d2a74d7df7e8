"""The values of the simulated exchange: orders, fills, the net position, and number formatting.

Names are those of the exchange's fields; nothing here knows the service that trades on it.
"""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum, StrEnum

import attrs

from oms_trio.core.model import Instrument, Side

JsonObject = dict[str, object]

ZERO = Decimal(0)

_TEXT_DIGITS = Decimal("1e-15")
"""Quotients (average prices, ratios) have this many decimals, as on the exchange."""

BTC_USDT_SWAP = Instrument(
    inst_id="BTC-USDT-SWAP",
    inst_id_code=10459,
    ct_val=Decimal("0.01"),
    ct_mult=Decimal(1),
    tick_sz=Decimal("0.1"),
    lot_sz=Decimal("0.01"),
    min_sz=Decimal("0.01"),
)


def text(number: Decimal) -> str:
    """Format a number as the exchange does: plain digits, no exponent, no trailing zeros."""
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -15:
        number = number.quantize(_TEXT_DIGITS)
    return format(number.normalize(), "f") if number else "0"


class OrdType(StrEnum):
    """The order types of a perpetual swap that are supported."""

    LIMIT = "limit"
    MARKET = "market"
    POST_ONLY = "post_only"
    IOC = "ioc"
    FOK = "fok"
    OPTIMAL_LIMIT_IOC = "optimal_limit_ioc"

    @property
    def takes_px(self) -> bool:
        """Whether the request must name a price."""
        return self not in {OrdType.MARKET, OrdType.OPTIMAL_LIMIT_IOC}

    @property
    def may_rest(self) -> bool:
        """Whether an unfilled remainder stays in the book."""
        return self in {OrdType.LIMIT, OrdType.MARKET, OrdType.POST_ONLY}


class ExchangeOrderState(StrEnum):
    """The states of an order: ``live``, ``partially_filled`` any number of times, then a final one."""

    LIVE = "live"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"


class CancelSource(StrEnum):
    """Why an order was cancelled (``cancelSource``)."""

    SYSTEM = "0"
    USER = "1"
    RISK = "3"
    FOK = "13"
    IOC = "14"
    CLOSED_AT_MARKET = "17"
    CANCEL_ALL_AFTER = "20"
    POST_ONLY = "31"
    SELF_TRADE = "32"


class StpMode(StrEnum):
    """Which of two own orders is cancelled when they would trade with each other (``stpMode``)."""

    CANCEL_MAKER = "cancel_maker"
    CANCEL_TAKER = "cancel_taker"
    CANCEL_BOTH = "cancel_both"


class OrderCategory(StrEnum):
    """Who placed the order: a client, or the exchange's risk engine."""

    NORMAL = "normal"
    FULL_LIQUIDATION = "full_liquidation"
    PARTIAL_LIQUIDATION = "partial_liquidation"
    ADL = "adl"

    @property
    def is_liquidation(self) -> bool:
        """Whether this account's margin was too low (in an ADL it is another account's)."""
        return self in {OrderCategory.FULL_LIQUIDATION, OrderCategory.PARTIAL_LIQUIDATION}


class Visibility(IntEnum):
    """Where an order of the risk engine is visible; the exchange's documentation is ambiguous.

    The position and the bills always show it.
    """

    PUSHED = 0
    """In orders pushes and in REST's lists of orders and fills."""
    LISTED = 1
    """In REST's lists of orders and fills only; the position keeps its ``tradeId``."""
    BILLED = 2
    """In neither: only its bill explains the change of the position."""


@attrs.frozen
class ExchangeFill:
    """One match. ``fee`` is below 0 when charged; ``pnl`` is that of the closing part, before fees."""

    trade_id: int
    bill_id: str
    ord_id: str
    cl_ord_id: str
    tag: str
    side: Side
    px: Decimal
    sz: Decimal
    fee: Decimal
    pnl: Decimal
    exec_type: str
    mark_px: Decimal
    idx_px: Decimal
    time_ms: int
    ts_ms: int
    """When the record was made, a few milliseconds after the match: REST filters by this."""
    category: OrderCategory = OrderCategory.NORMAL
    penalty: Decimal = ZERO
    """What a liquidation charges in addition to the fee, 0 or below; ``pnl`` includes it."""
    visibility: Visibility = Visibility.PUSHED

    @property
    def sub_type(self) -> str:
        """The kind of trade (``subType``): of an order, a liquidation or an ADL.

        These are the numbers of net mode; hedge mode has 100, 101, 104, 105, 125 and 126.
        """
        buy, sell = {
            OrderCategory.NORMAL: ("1", "2"),
            OrderCategory.PARTIAL_LIQUIDATION: ("102", "103"),
            OrderCategory.FULL_LIQUIDATION: ("106", "107"),
            OrderCategory.ADL: ("127", "128"),
        }[self.category]
        return buy if self.side is Side.BUY else sell


@attrs.frozen
class ExchangeOrder:
    """One order at one instant; every change makes a new value, so that pushes may be late."""

    ord_id: str
    cl_ord_id: str
    tag: str
    side: Side
    ord_type: OrdType
    px: Decimal | None
    """The requested price; None for a market order."""
    limit_px: Decimal
    """The worst price it may trade at: ``px``, or the edge of the price band for a market order."""
    sz: Decimal
    lever: Decimal
    c_time_ms: int
    u_time_ms: int
    reduce_only: bool = False
    stp_mode: StpMode = StpMode.CANCEL_MAKER
    state: ExchangeOrderState = ExchangeOrderState.LIVE
    acc_fill_sz: Decimal = ZERO
    turnover: Decimal = ZERO
    """Sum of price x contracts over all fills: keeps the average exact."""
    fee: Decimal = ZERO
    pnl: Decimal = ZERO
    last_fill: ExchangeFill | None = None
    cancel_source: str = ""
    category: OrderCategory = OrderCategory.NORMAL
    visibility: Visibility = Visibility.PUSHED

    @property
    def is_open(self) -> bool:
        """Whether it can still fill."""
        return self.state in {ExchangeOrderState.LIVE, ExchangeOrderState.PARTIALLY_FILLED}

    @property
    def remaining(self) -> Decimal:
        """Contracts that can still fill."""
        return self.sz - self.acc_fill_sz

    @property
    def avg_px(self) -> Decimal | None:
        """Average price over all fills, None before the first."""
        return self.turnover / self.acc_fill_sz if self.acc_fill_sz else None

    def filled_by(self, fill: ExchangeFill) -> ExchangeOrder:
        """Return the order after one more match."""
        done = self.acc_fill_sz + fill.sz
        return attrs.evolve(
            self,
            state=ExchangeOrderState.FILLED
            if done == self.sz
            else ExchangeOrderState.PARTIALLY_FILLED,
            acc_fill_sz=done,
            turnover=self.turnover + fill.px * fill.sz,
            fee=self.fee + fill.fee,
            pnl=self.pnl + fill.pnl,
            last_fill=fill,
            u_time_ms=fill.time_ms,
        )

    def canceled(self, source: CancelSource, now_ms: int) -> ExchangeOrder:
        """Return the order after its cancellation."""
        return attrs.evolve(
            self, state=ExchangeOrderState.CANCELED, cancel_source=source.value, u_time_ms=now_ms
        )


_PNL_DIGITS = Decimal("1e-12")
"""Realised PnL is booked to this many decimals, so that sums stay exact however long a run is."""


@attrs.frozen
class NetPosition:
    """The net position of one instrument: signed contracts, and what it has realised.

    ``pnl`` and ``fee`` restart at 0 when it opens from flat or crosses zero; whether they do on the
    exchange is not documented.
    """

    pos_id: str
    pos: Decimal
    avg_px: Decimal
    trade_id: int
    c_time_ms: int
    u_time_ms: int
    pnl: Decimal = ZERO
    fee: Decimal = ZERO
    funding_fee: Decimal = ZERO
    liq_penalty: Decimal = ZERO

    @property
    def realized_pnl(self) -> Decimal:
        """What this position has realised so far: profit with fees, funding and penalties."""
        return self.pnl + self.fee + self.funding_fee + self.liq_penalty

    def after(
        self, side: Side, px: Decimal, sz: Decimal, multiplier: Decimal
    ) -> tuple[NetPosition, Decimal]:
        """Return the position after ``sz`` contracts at ``px``, and the realised PnL in USDT.

        An increase weights the average price; a reduction keeps it; crossing zero opens the
        opposite position at the price of the match. Times, fee and trade id are left unchanged.
        """
        change = sz * side.sign
        pos = self.pos + change
        if self.pos * change >= 0:
            avg_px = (self.avg_px * abs(self.pos) + px * sz) / abs(pos)
            return attrs.evolve(self, pos=pos, avg_px=avg_px), ZERO
        closed = min(sz, abs(self.pos))
        direction = 1 if self.pos > 0 else -1
        realised = (direction * (px - self.avg_px) * closed * multiplier).quantize(_PNL_DIGITS)
        avg_px = px if self.pos * pos < 0 else self.avg_px
        return attrs.evolve(self, pos=pos, avg_px=avg_px, pnl=self.pnl + realised), realised
