"""What comes out of the core: values that tasks carry out, in the order in which they came."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import attrs

from oms_trio.core.model import (
    NEVER,
    Cause,
    ClOrdId,
    ExchangeMs,
    Fill,
    OrderType,
    OrdId,
    RejectReason,
    Side,
    StateId,
)


@attrs.frozen
class PlaceOrder:
    """Send this order.

    ``expires_at_ns`` (our clock) is the last moment it may be sent, ``exp_time_ms`` the same moment
    by the exchange's clock (``expTime``): the last at which it may come alive. ``inst_id_code``
    names the instrument on the WebSocket; while it is unknown (None) only REST can take the order.
    ``send_generation`` is that of ``Risk`` at the decision: see ``Risk.is_withdrawn``.
    """

    cl_ord_id: ClOrdId
    side: Side
    ord_type: OrderType
    px: Decimal | None
    sz: Decimal
    expires_at_ns: int
    reduce_only: bool = False
    exp_time_ms: ExchangeMs = NEVER
    inst_id_code: int | None = None
    send_generation: int = 0


@attrs.frozen
class CancelOrders:
    """Request the end of these orders; batched where the exchange allows it."""

    orders: tuple[tuple[ClOrdId, OrdId], ...]
    inst_id_code: int | None = None


@attrs.frozen
class PublishExecution:
    """Publish that an order filled."""

    message_id: str
    state_id: StateId
    ord_id: OrdId
    cause: Cause = Cause.AGENT


@attrs.frozen
class PublishClosure:
    """Publish that a trade closed, with its portions (0 to 1, by first fill) and its reward."""

    message_id: str
    state_id: StateId
    ord_id: OrdId
    portions: tuple[tuple[OrdId, float], ...]
    reward: float
    cause: Cause = Cause.AGENT


@attrs.frozen
class PublishRejection:
    """Publish that an action became no order, with the reason."""

    message_id: str
    state_id: StateId
    reason: RejectReason
    detail: str


@attrs.frozen
class FillBooked:
    """A fill was counted; ``trade`` is the trade that was open before it, by the order that opened it.

    Of that trade the fill closed ``reduced`` contracts, for a PnL of ``gain`` USDT. ``max_drawdown``
    and ``gained`` (in the reward's unit) are the trade's after the fill; ``reward`` is None unless the
    fill has closed it. ``opened`` is the trade that the fill has opened. ``position`` (contracts) and
    ``entry_px`` hold from now on.
    """

    cl_ord_id: ClOrdId
    state_id: StateId
    cause: Cause
    side: Side
    fill: Fill
    trade: OrdId | None
    opened: OrdId | None
    reduced: Decimal
    gain: Decimal
    gained: Decimal
    max_drawdown: float
    reward: float | None
    position: Decimal
    entry_px: Decimal | None

    @property
    def closed(self) -> bool:
        """Whether the fill has closed the trade."""
        return self.reward is not None


@attrs.frozen
class SettleDelivery:
    """The action of this delivery is decided: acknowledge it once that is durable.

    ``dead_letter`` names why the message goes to the dead letters as well (expired), else None.
    """

    delivery: int
    dead_letter: str | None = None


@attrs.frozen
class RequestSnapshot:
    """Ask the exchange for its state (answer: ``ExchangeSnapshot`` with the same ``request``).

    Fills, ended orders and bills are wanted from ``since_ms`` (the exchange's clock) on. With ``check_account``
    the account's set-up is checked first: the session was down before. Orders
    that are in no answer are looked up one by one afterwards (``LookUpOrder``).
    """

    request: int
    since_ms: ExchangeMs
    check_account: bool = False


@attrs.frozen
class RequestListing:
    """Ask what the exchange lists (answer: ``Listing``), with or without a session."""

    request: int


@attrs.frozen
class RequestFills:
    """Ask for all fills of one order, because it has filled more than its fills that were reported."""

    ord_id: OrdId


@attrs.frozen
class LookUpOrder:
    """Look one order up by our name (answer: ``LookupAnswer``)."""

    cl_ord_id: ClOrdId


@attrs.frozen
class Readiness:
    """Whether actions may be taken from the queue; if not, ``why`` names what is missing."""

    ready: bool
    why: str


@attrs.frozen
class Alert:
    """Something that a person must look at, now when ``urgent``; ``event`` is the log's name."""

    event: str
    detail: str
    urgent: bool = True


@attrs.frozen
class Drained:
    """Nothing is in flight any more after ``Drain``: the service may end."""


Publication = PublishExecution | PublishClosure | PublishRejection

Effect = (
    PlaceOrder
    | CancelOrders
    | PublishExecution
    | PublishClosure
    | PublishRejection
    | FillBooked
    | SettleDelivery
    | RequestSnapshot
    | RequestListing
    | RequestFills
    | LookUpOrder
    | Readiness
    | Alert
    | Drained
)

Emit = Callable[[Effect], None]
"""Appends an effect to what ``TradeState.apply`` returns."""
