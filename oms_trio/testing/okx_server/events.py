"""What leaves the exchange: results of operations, and the events that become pushes."""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.testing.okx_server.orders.request_checks import Args, RequestRejected
from oms_trio.testing.okx_server.values import ExchangeFill, ExchangeOrder, NetPosition


@attrs.frozen
class OperationResult:
    """The result of one order, amendment or cancellation; ``code`` 0 means accepted."""

    ts_ms: int
    ord_id: str = ""
    cl_ord_id: str = ""
    tag: str = ""
    req_id: str = ""
    code: str = "0"
    msg: str = ""
    sub_code: str = ""

    @classmethod
    def rejection(cls, rejected: RequestRejected, ts_ms: int, args: Args) -> OperationResult:
        """Return the result of a failed check; it repeats the ids of the request."""
        return cls(
            ts_ms,
            ord_id=str(args.get("ordId") or ""),
            cl_ord_id=str(args.get("clOrdId") or ""),
            req_id=str(args.get("reqId") or ""),
            code=rejected.code,
            msg=rejected.msg,
            sub_code=rejected.sub_code,
        )


@attrs.frozen
class OrderChanged:
    """One change of one order, and its cause: a match, an amendment, or neither.

    ``amend_result`` is "0" for done, "-1" for failed, "1" for failed with the order cancelled, ""
    without amendment; ``code`` and ``msg`` are the reason of a failure.
    """

    order: ExchangeOrder
    fill: ExchangeFill | None = None
    req_id: str = ""
    amend_result: str = ""
    code: str = "0"
    msg: str = ""


@attrs.frozen
class PositionChanged:
    """The position has changed; ``at_once`` pushes it without the usual aggregation."""

    at_once: bool = False


@attrs.frozen
class AccountChanged:
    """Cash or margin in use has changed."""


@attrs.frozen
class BalanceAndPositionChanged:
    """Cash and position after a match, a liquidation or a funding fee."""

    cause: str
    """The ``eventType`` of ``balance_and_position``."""
    cash_bal: Decimal
    u_time_ms: int
    position: NetPosition | None
    trade_id: int = 0


ExchangeEvent = OrderChanged | PositionChanged | AccountChanged | BalanceAndPositionChanged
