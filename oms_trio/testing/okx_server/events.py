"""What the exchange tells: answers to those who asked, and events for the pushes."""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.testing.okx_server.orders.admission import Args, Refused
from oms_trio.testing.okx_server.values import Fill, Order, Position


@attrs.frozen
class OperationResult:
    """The answer to one order, amendment or cancellation; ``code`` 0 says the gateway took it."""

    ts_ms: int
    ord_id: str = ""
    cl_ord_id: str = ""
    tag: str = ""
    req_id: str = ""
    code: str = "0"
    msg: str = ""
    sub_code: str = ""

    @classmethod
    def of_refusal(cls, refused: Refused, ts_ms: int, args: Args) -> OperationResult:
        """Return the answer that a failed check becomes; it repeats the names asked with."""
        return cls(
            ts_ms,
            ord_id=str(args.get("ordId") or ""),
            cl_ord_id=str(args.get("clOrdId") or ""),
            req_id=str(args.get("reqId") or ""),
            code=refused.code,
            msg=refused.msg,
            sub_code=refused.sub_code,
        )


@attrs.frozen
class OrderChanged:
    """One change of one order, and what made it: a match, an amendment, neither.

    ``amend_result`` is "0" done, "-1" failed, "1" failed and the order cancelled for it, "" no
    amendment; ``code`` and ``msg`` then say why it failed.
    """

    order: Order
    fill: Fill | None = None
    req_id: str = ""
    amend_result: str = ""
    code: str = "0"
    msg: str = ""


@attrs.frozen
class PositionChanged:
    """The position is another, or (``at_once``) is to be told without the usual gathering."""

    at_once: bool = False


@attrs.frozen
class AccountChanged:
    """Cash or margin in use is another."""


@attrs.frozen
class Settled:
    """What one match, one liquidation or one funding fee left of cash and position."""

    cause: str
    """The ``eventType`` of ``balance_and_position``."""
    cash_bal: Decimal
    u_time_ms: int
    position: Position | None
    trade_id: int = 0


Event = OrderChanged | PositionChanged | AccountChanged | Settled
