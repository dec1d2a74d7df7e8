"""The closed set of frames that the private WebSocket sends, as values.

``codec`` makes them, ``session`` and ``answers`` read them. Fields that nobody here needs are
left out; frames that nobody here needs are ``UnknownFrame``.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.model import ClOrdId, Fill, OrderReport, OrdId, PositionReport


@attrs.frozen
class Pong:
    """The text ``pong``, the answer to our text ``ping``."""


@attrs.frozen
class LoggedIn:
    """The login was taken. ``conn_id`` names the connection in the exchange's own logs."""

    conn_id: str


@attrs.frozen
class ErrorEvent:
    """A refused login, subscription or op; ``id`` is the request's where it had one."""

    code: str
    msg: str
    id: str = ""


@attrs.frozen
class Subscribed:
    """One channel was subscribed; there is one acknowledgement per channel asked for."""

    channel: str


@attrs.frozen
class Unsubscribed:
    """One channel ended. We never ask for that."""

    channel: str


@attrs.frozen
class ChannelCount:
    """How many connections of the account hold this channel; said after every subscribe."""

    channel: str


@attrs.frozen
class ChannelCountExceeded:
    """Too many connections hold this channel: the subscription is dead although acknowledged."""

    channel: str


@attrs.frozen
class Notice:
    """A notice of the service; 64008 says that this connection closes in about 60 s."""

    code: str
    msg: str


@attrs.frozen
class OpResult:
    """The answer to one element of an op. An ``s_msg`` may stand on success as well."""

    cl_ord_id: ClOrdId
    ord_id: OrdId | None
    s_code: str
    s_msg: str
    sub_code: str = ""


@attrs.frozen
class OpResponse:
    """The answer to an op, matched by the ``id`` of its request.

    ``results`` are in the order of the request, and empty when it was refused as a whole.
    ``in_time`` and ``out_time`` are the gateway's, Unix microseconds.
    """

    id: str
    op: str
    code: str
    msg: str
    results: tuple[OpResult, ...]
    in_time: int | None = None
    out_time: int | None = None


@attrs.frozen
class OrdersPush:
    """News of orders of our instrument, ours or not (see ``tag``)."""

    reports: tuple[OrderReport, ...]


@attrs.frozen
class PositionsPush:
    """Net cross positions of our instrument.

    Periodic pushes are ``snapshot`` with pages counted from 1, others ``event_update`` without
    pages. Snapshots list positions other than 0 only.
    """

    reports: tuple[PositionReport, ...]
    event_type: str
    cur_page: int | None
    last_page: bool | None


@attrs.frozen
class Balance:
    """USDT ``cashBal``: moved by fees, realised PnL, funding and transfers only."""

    cash_bal: Decimal
    u_time_ms: int


@attrs.frozen
class FillRecord:
    """A fill by REST, and what says whose it is; the exchange has one bill for each."""

    fill: Fill
    bill_id: str
    tag: str = ""
    sub_type: str = ""


@attrs.frozen
class AccountPush:
    """News of the account; ``balance`` is None when the push does not list USDT."""

    balance: Balance | None


@attrs.frozen
class UnknownFrame:
    """An event or channel that we have no use for; the exchange adds some without notice."""

    kind: str


Push = OrdersPush | PositionsPush | AccountPush

Frame = (
    Pong
    | LoggedIn
    | ErrorEvent
    | Subscribed
    | Unsubscribed
    | ChannelCount
    | ChannelCountExceeded
    | Notice
    | OpResponse
    | OrdersPush
    | PositionsPush
    | AccountPush
    | UnknownFrame
)
