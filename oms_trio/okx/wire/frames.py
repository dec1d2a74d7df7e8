"""The frames of the private WebSocket as values.

``codec`` decodes them, ``session`` and ``answers`` process them. Unused fields are left out; unused
frames are ``UnknownFrame``.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.model import ClOrdId, Fill, OrderReport, OrdId, PositionReport


@attrs.frozen
class Pong:
    """The text ``pong``: the answer to our text ``ping``."""


@attrs.frozen
class LoggedIn:
    """The login was accepted. ``conn_id`` names the connection in the exchange's own logs."""

    conn_id: str


@attrs.frozen
class ErrorEvent:
    """A rejected login, subscription or op; ``id`` is that of the request, if it had one."""

    code: str
    msg: str
    id: str = ""


@attrs.frozen
class Subscribed:
    """One channel was subscribed; each requested channel is acknowledged separately."""

    channel: str


@attrs.frozen
class Unsubscribed:
    """One subscription has ended, which we never request."""

    channel: str


@attrs.frozen
class ChannelCount:
    """How many connections of the account have this channel; sent after every subscription."""

    channel: str


@attrs.frozen
class ChannelCountExceeded:
    """Too many connections have this channel: the subscription is dead although acknowledged."""

    channel: str


@attrs.frozen
class Notice:
    """A service notice; 64008 announces that this connection will be closed in about 60 s."""

    code: str
    msg: str


@attrs.frozen
class OpResult:
    """The answer to one element of an op. ``s_msg`` may be set on success as well."""

    cl_ord_id: ClOrdId
    ord_id: OrdId | None
    s_code: str
    s_msg: str
    sub_code: str = ""


@attrs.frozen
class OpResponse:
    """The answer to an op, matched by the ``id`` of its request.

    ``results`` are in the sequence of the request, and empty when the whole request was rejected.
    ``in_time`` and ``out_time`` are Unix microseconds on the gateway's clock.
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
    """Changes of orders of our instrument, ours or not (see ``tag``)."""

    reports: tuple[OrderReport, ...]


@attrs.frozen
class PositionsPush:
    """Net cross positions of our instrument.

    Periodic pushes are ``snapshot`` with pages counted from 1, others are ``event_update`` without
    pages. Snapshots list only positions other than 0.
    """

    reports: tuple[PositionReport, ...]
    event_type: str
    cur_page: int | None
    last_page: bool | None


@attrs.frozen
class Balance:
    """USDT ``cashBal``: changed only by fees, realised PnL, funding and transfers."""

    cash_bal: Decimal
    u_time_ms: int


@attrs.frozen
class FillRecord:
    """A fill as REST lists it, with the fields that show whose it is; each has one bill."""

    fill: Fill
    bill_id: str
    tag: str = ""
    sub_type: str = ""


@attrs.frozen
class AccountPush:
    """Changes of the account; ``balance`` is None when the push does not list USDT."""

    balance: Balance | None


@attrs.frozen
class UnknownFrame:
    """An event or channel that is not used here; the exchange adds some without notice."""

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
