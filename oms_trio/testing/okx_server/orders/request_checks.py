"""Reading requests: the checks that need nothing but the request and the instrument.

The exchange does not document the order of its checks; here they run in the order of the code.
A check that fails raises ``RequestRejected``, which the callers turn into an answer of the exchange.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import TypeVar

import attrs

from oms_trio.core.model import Instrument, Side
from oms_trio.testing.okx_server.values import OrdType, StpMode

NAME = re.compile(r"[0-9A-Za-z]{1,32}\Z")
"""What ``clOrdId``, ``reqId`` and a request's ``id`` look like."""

DIGITS = re.compile(r"[0-9]{1,19}\Z")
TAG = re.compile(r"[0-9A-Za-z]{0,16}\Z")

MAX_LMT_SZ = Decimal(100_000_000)
MAX_MKT_SZ = Decimal(35_000)
MAX_LMT_AMT = Decimal(20_000_000)

Args = Mapping[str, object]
Choice = TypeVar("Choice", bound=Enum)


class RequestRejected(Exception):  # noqa: N818 - a rejection is an answer, not an error
    """A request failed a check: the code and message of the exchange's answer."""

    def __init__(self, code: str, msg: str, sub_code: str = "") -> None:
        super().__init__(code, msg)
        self.code = code
        self.msg = msg
        self.sub_code = sub_code


@attrs.frozen
class OrderRequest:
    """The arguments of an order, each of them valid by itself."""

    side: Side
    ord_type: OrdType
    px: Decimal | None
    sz: Decimal
    cl_ord_id: str
    tag: str
    reduce_only: bool
    clamp_px: bool
    """``pxAmendType`` 1: a price outside the price band is moved to its edge."""
    stp_mode: StpMode = StpMode.CANCEL_MAKER


@attrs.frozen
class AmendRequest:
    """The arguments of an amendment, each valid by itself; ``new_sz`` is the new total."""

    new_sz: Decimal | None
    new_px: Decimal | None
    req_id: str
    clamp_px: bool
    cancel_on_fail: bool
    """``cxlOnFail``: a failed amendment cancels the order."""


def check_inst_id_code(args: Args, instrument: Instrument) -> None:
    """Check ``instIdCode``, which names the instrument on the WebSocket (since 2026 alone)."""
    code = args.get("instIdCode")
    if code is None:
        raise RequestRejected("50014", "Parameter instIdCode can not be empty.")
    if code != instrument.inst_id_code or isinstance(code, bool):
        raise RequestRejected("51001", "Instrument ID does not exist.")


def check_inst_id(args: Args, instrument: Instrument) -> None:
    """Check ``instId``, which names the instrument on REST."""
    inst_id = args.get("instId")
    if not inst_id:
        raise RequestRejected("50014", "Parameter instId can not be empty.")
    if inst_id != instrument.inst_id:
        raise RequestRejected("51001", "Instrument ID does not exist.")


def read_order(args: Args, instrument: Instrument) -> OrderRequest:
    """Read the arguments of ``order``, except instrument and ``expTime``.

    Raises:
        RequestRejected: with the code of the first check that fails.
    """
    cl_ord_id = _optional_name(args, "clOrdId")
    tag = _optional_text(args, "tag")
    if not TAG.match(tag):
        raise _parameter_error("tag")
    if args.get("tdMode") != "cross":
        raise _parameter_error("tdMode")
    side = _one_of(Side, args, "side")
    ord_type = _one_of(OrdType, args, "ordType")
    if args.get("posSide", "net") not in ("net", ""):
        raise _parameter_error("posSide")
    sz = _decimal(args, "sz")
    if sz is None:
        raise _parameter_error("sz")
    check_size(sz, instrument)
    px = _decimal(args, "px") if ord_type.takes_px else None
    if ord_type.takes_px and px is None:
        raise RequestRejected("51204", "The price for this order type can not be empty.")
    if px is not None:
        check_tick(px, instrument)
    check_maximum(sz, px, instrument)
    stp_mode = _one_of(StpMode, args, "stpMode", default=StpMode.CANCEL_MAKER)
    if stp_mode is StpMode.CANCEL_BOTH and ord_type is OrdType.FOK:
        raise RequestRejected("54036", "FOK orders can not use cancel_both.")
    return OrderRequest(
        side=side,
        ord_type=ord_type,
        px=px,
        sz=sz,
        cl_ord_id=cl_ord_id,
        tag=tag,
        reduce_only=args.get("reduceOnly") in (True, "true"),
        clamp_px=args.get("pxAmendType") == "1",
        stp_mode=stp_mode,
    )


def read_amendment(args: Args, instrument: Instrument) -> AmendRequest:
    """Read the arguments of ``amend-order``, except instrument and order.

    Raises:
        RequestRejected: with the code of the first check that fails.
    """
    new_sz, new_px = _decimal(args, "newSz"), _decimal(args, "newPx")
    if new_sz is None and new_px is None:
        raise RequestRejected("51500", "You must enter a price, quantity, or both.")
    if new_sz is not None:
        check_size(new_sz, instrument)
    if new_px is not None:
        check_tick(new_px, instrument)
    return AmendRequest(
        new_sz,
        new_px,
        _optional_name(args, "reqId"),
        clamp_px=args.get("pxAmendType") == "1",
        cancel_on_fail=args.get("cxlOnFail") in (True, "true"),
    )


def read_target(args: Args) -> tuple[str, str]:
    """Read ``ordId`` and ``clOrdId``, which name an order; ``ordId`` takes precedence.

    Raises:
        RequestRejected: 51407 when neither is given.
    """
    ord_id, cl_ord_id = _optional_text(args, "ordId"), _optional_text(args, "clOrdId")
    if not ord_id and not cl_ord_id:
        raise RequestRejected("51407", "Either ordId or clOrdId is required.")
    return ord_id, cl_ord_id


def check_size(sz: Decimal, instrument: Instrument) -> None:
    """Check a size against the instrument's minimum size and lot size."""
    if sz < instrument.min_sz:
        raise RequestRejected("51020", "The order is below the minimum size.")
    if sz % instrument.lot_sz:
        raise RequestRejected("51121", "The size must be a multiple of the lot size.")


def check_maximum(sz: Decimal, px: Decimal | None, instrument: Instrument) -> None:
    """Check an order against the maximum size and value of limit or market orders."""
    if sz > (MAX_MKT_SZ if px is None else MAX_LMT_SZ):
        raise RequestRejected(
            "51202" if px is None else "51101", "The order is above the maximum size."
        )
    if px is not None and sz * instrument.multiplier * px > MAX_LMT_AMT:
        raise RequestRejected("51185", "The order is above the maximum value.")


def check_tick(px: Decimal, instrument: Instrument) -> None:
    """Check a price against the instrument's tick grid."""
    if px <= 0:
        raise _parameter_error("px")
    if px % instrument.tick_sz:
        raise RequestRejected("51150", "The price has too many decimals for the tick size.")


def read_whole(value: object) -> int | None:
    """Read a whole number of at most 19 decimal digits, None for anything else."""
    return int(value) if isinstance(value, str) and DIGITS.match(value) else None


def _parameter_error(name: str) -> RequestRejected:
    return RequestRejected("51000", f"Parameter {name} error")


def _one_of(choices: type[Choice], args: Args, name: str, default: Choice | None = None) -> Choice:
    value = args.get(name)
    if default is not None and value in (None, ""):
        return default
    try:
        return choices(value)
    except ValueError:
        raise _parameter_error(name) from None


def _optional_text(args: Args, name: str) -> str:
    value = args.get(name, "")
    if not isinstance(value, str):
        raise _parameter_error(name)
    return value


def _optional_name(args: Args, name: str) -> str:
    value = _optional_text(args, name)
    if value and not NAME.match(value):
        raise _parameter_error(name)
    return value


def _decimal(args: Args, name: str) -> Decimal | None:
    """Read a number: a string, or as the exchange tolerates it, a JSON number."""
    value = args.get(name, "")
    if value is None or value == "":
        return None
    number = read_number(value)
    if number is None:
        raise _parameter_error(name)
    return number


def read_number(value: object) -> Decimal | None:
    """Read a number of ordinary magnitude, None for anything else.

    A huge exponent would fail later, in the arithmetic, where the cause is hard to see.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= 15 else None
