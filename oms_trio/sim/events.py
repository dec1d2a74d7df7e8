"""What the exchange tells: answers to those who asked, and events for the pushes."""

from __future__ import annotations

import attrs

from oms_trio.sim.admission import Args, Refused
from oms_trio.sim.values import Fill, Order


@attrs.frozen
class Outcome:
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
    def of_refusal(cls, refused: Refused, ts_ms: int, args: Args) -> Outcome:
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
    """One change of one order; ``fill`` is the match that made it, ``req_id`` the amendment's."""

    order: Order
    fill: Fill | None = None
    amended: bool = False
    req_id: str = ""


@attrs.frozen
class PositionChanged:
    """The position is another, or (``at_once``) is to be told without the usual gathering."""

    at_once: bool = False


@attrs.frozen
class AccountChanged:
    """Cash or margin in use is another."""


Event = OrderChanged | PositionChanged | AccountChanged
