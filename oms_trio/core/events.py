"""What comes into the core: everything that trading state may depend on, but the time.

Time is an argument of ``TradeState.apply``: the Unix time in nanoseconds at which this process took
the event in. Replay passes the recorded one, so a decision never depends on when it is made again.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

import attrs

from oms_trio.core.model import (
    NEVER,
    ClOrdId,
    ExchangeMs,
    Fill,
    Funding,
    Instrument,
    OrderReport,
    OrderType,
    OrdId,
    PositionReport,
    RejectReason,
    Rules,
    StateId,
    TradeId,
)


@attrs.frozen
class Action:
    """One action of the agent, decoded.

    ``price`` is the signed offset from mid in thousandths (-1 < price < 1, below 0 buys),
    ``volume`` the margin in thousandths of the balance, ``mid`` in USDT. ``received_ns`` is when
    the broker handed it over: its age counts from there. ``delivery`` names the broker's
    delivery, so that it can be settled when the action is durable. ``known`` says that the journal
    has an action of this ``message_id`` already, ``expired`` that the broker has moved the message
    to the dead letters because it was too old: it becomes no order, whatever its age looks like.
    """

    received_ns: int
    state_id: StateId
    order_type: OrderType
    price: Decimal
    volume: Decimal
    mid: Decimal
    body: bytes
    message_id: str | None
    redelivered: bool
    delivery: int
    known: bool = False
    expired: bool = False


class Verdict(Enum):
    """How a request to place or cancel an order ended."""

    ACCEPTED = "accepted"
    """Taken by the gateway: not yet booked, filled or cancelled."""
    REJECTED = "rejected"
    """Certainly nothing happened, and the same request would fail again."""
    RETRY = "retry"
    """Certainly nothing happened; the same request may work later."""
    GONE = "gone"
    """The order to cancel has already ended; a look-up shows how."""
    UNKNOWN = "unknown"
    """No evidence either way: the exposure stays reserved until there is some."""


@attrs.frozen
class OrderAnswer:
    """The exchange's answer to one order, or our knowledge that it was not (or may be) sent.

    ``reason`` is published when the verdict is REJECTED or, too late, RETRY.
    ``fatal``: orders will be rejected until a person changes key, account or settings.
    """

    cl_ord_id: ClOrdId
    verdict: Verdict
    ord_id: OrdId | None = None
    code: str = ""
    detail: str = ""
    reason: RejectReason = RejectReason.EXCHANGE
    fatal: bool = False


@attrs.frozen
class CancelAnswer:
    """The exchange's answer to one cancel request."""

    cl_ord_id: ClOrdId
    verdict: Verdict
    code: str = ""
    detail: str = ""


@attrs.frozen
class OrderUpdate:
    """One element of an ``orders`` push."""

    report: OrderReport


@attrs.frozen
class PositionUpdate:
    """One element of a ``positions`` push for our instrument."""

    report: PositionReport


@attrs.frozen
class AccountUpdate:
    """USDT cash balance (``cashBal``: without unrealised PnL) of an ``account`` push."""

    cash_bal: Decimal
    u_time_ms: int


@attrs.frozen
class Started:
    """A process has begun with this state: what an earlier one sent last may be unknown to it.

    ``rules`` are those that hold from now on. They come in like everything else, so that a
    recorded action is always sized by the rules of its time.
    """

    rules: Rules


@attrs.frozen
class SessionUp:
    """A session has logged in and subscribed: pushes may flow; the state is not yet reconciled.

    While another session was up this is a handover without a gap (notice 64008).
    ``offset_ns`` is the exchange's clock minus the service's, as measured for this session.
    """

    offset_ns: int = 0


@attrs.frozen
class SessionDown:
    """No session is left: nothing can be sent, and pushes may be missed from now on."""

    why: str


@attrs.frozen
class ExchangeSnapshot:
    """The exchange's state by REST, requested as a whole with ``RequestSnapshot``.

    ``request`` repeats the number of the request, ``asked_at_ns`` is when its first question
    left and ``offset_ns`` the exchange's clock minus ours then. ``fills`` are ours since the
    request's watermark, ``orders`` ours that are pending or were created since the watermark. The
    exchange's own orders on our position (liquidation, ADL) are among both, recognised by their
    ``category``; where the exchange lists only fills or bills of them, the order is made of those.
    ``newest_trade_id`` and ``seen_ms`` are the youngest match, and the youngest change of an order
    or match, of all that was listed, ours or not: they show how far the reads have come.
    """

    asked_at_ns: int
    request: int
    instrument: Instrument
    cash_bal: Decimal | None
    cash_u_time_ms: int
    position: PositionReport | None
    orders: tuple[OrderReport, ...]
    fills: tuple[Fill, ...]
    mark_px: Decimal | None = None
    offset_ns: int = 0
    funding: tuple[Funding, ...] = ()
    newest_trade_id: TradeId | None = None
    seen_ms: ExchangeMs = NEVER


@attrs.frozen
class Listing:
    """What the exchange lists right now, for an operator's command (answer to ``RequestListing``).

    ``orders`` are the pending ones with our tag, whether we know them or not; ``position`` is None
    when the exchange lists none.
    """

    asked_at_ns: int
    request: int
    orders: tuple[OrderReport, ...]
    position: PositionReport | None


@attrs.frozen
class FillsAnswer:
    """All fills of one order (``GET /trade/fills?ordId=``) after ``RequestFills``."""

    ord_id: OrdId
    fills: tuple[Fill, ...]


@attrs.frozen
class LookupAnswer:
    """One order looked up by ``clOrdId``; ``report`` is None when the exchange lists no such order.

    ``asked_at_ns`` is when the question left: only an answer to a query made after the
    order's expiry can prove that it does not come alive any more.
    """

    asked_at_ns: int
    cl_ord_id: ClOrdId
    report: OrderReport | None


class Verb(Enum):
    """What an operator may command."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL_ALL = "cancel-all"
    KILL = "kill"
    """Pause, and cancel everything that is open."""
    FLATTEN = "flatten"
    """Kill, and close the position with reduce-only orders."""
    ADOPT = "adopt"
    """Make the exchange's position ours: book the difference as a fill by hand, and pause."""


@attrs.frozen
class Command:
    """An operator's command; ``by`` is where it came from."""

    verb: Verb
    by: str


@attrs.frozen
class Tick:
    """Time has passed: ages and retries are judged."""


@attrs.frozen
class Drain:
    """The service stops: no action comes after this; in-flight answers still may."""


Event = (
    Action
    | OrderAnswer
    | CancelAnswer
    | OrderUpdate
    | PositionUpdate
    | AccountUpdate
    | Started
    | SessionUp
    | SessionDown
    | ExchangeSnapshot
    | Listing
    | FillsAnswer
    | LookupAnswer
    | Command
    | Tick
    | Drain
)
