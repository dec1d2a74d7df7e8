"""What the gateway checks before an order, amendment or cancellation counts.

The checks run in the order of the simulator's checklist; the exchange does not document its own.
A check that fails raises ``Refused``, which becomes an answer at the exchange's border and never
leaves it.
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
Word = TypeVar("Word", bound=Enum)


class Refused(Exception):  # noqa: N818 - a refusal is no error of the simulator
    """The exchange's answer to a request that fails a check."""

    def __init__(self, code: str, msg: str, sub_code: str = "") -> None:
        super().__init__(code, msg)
        self.code = code
        self.msg = msg
        self.sub_code = sub_code


@attrs.frozen
class OrderRequest:
    """An order whose fields make sense by themselves."""

    side: Side
    ord_type: OrdType
    px: Decimal | None
    sz: Decimal
    cl_ord_id: str
    tag: str
    reduce_only: bool
    clamp_px: bool
    """``pxAmendType`` 1: a price outside the band is moved to its edge."""
    stp_mode: StpMode = StpMode.CANCEL_MAKER


@attrs.frozen
class AmendRequest:
    """An amendment whose fields make sense by themselves; ``new_sz`` is the new total."""

    new_sz: Decimal | None
    new_px: Decimal | None
    req_id: str
    clamp_px: bool
    cancel_on_fail: bool
    """``cxlOnFail``: an amendment that fails cancels the order."""


def check_inst_id_code(args: Args, instrument: Instrument) -> None:
    """Check the instrument as the WebSocket names it; ``instId`` is ignored there since 2026."""
    code = args.get("instIdCode")
    if code is None:
        raise Refused("50014", "Parameter instIdCode can not be empty.")
    if code != instrument.inst_id_code or isinstance(code, bool):
        raise Refused("51001", "Instrument ID does not exist.")


def check_inst_id(args: Args, instrument: Instrument) -> None:
    """Check the instrument as REST names it."""
    inst_id = args.get("instId")
    if not inst_id:
        raise Refused("50014", "Parameter instId can not be empty.")
    if inst_id != instrument.inst_id:
        raise Refused("51001", "Instrument ID does not exist.")


def read_order(args: Args, instrument: Instrument) -> OrderRequest:
    """Read the arguments of ``order``, instrument and time of expiry aside.

    Raises:
        Refused: with the code of the first check that fails.
    """
    cl_ord_id = _named(args, "clOrdId")
    tag = _optional_text(args, "tag")
    if not TAG.match(tag):
        raise _wrong("tag")
    if args.get("tdMode") != "cross":
        raise _wrong("tdMode")
    side = _one_of(Side, args, "side")
    ord_type = _one_of(OrdType, args, "ordType")
    if args.get("posSide", "net") not in ("net", ""):
        raise _wrong("posSide")
    sz = _decimal(args, "sz")
    if sz is None:
        raise _wrong("sz")
    check_size(sz, instrument)
    px = _decimal(args, "px") if ord_type.takes_px else None
    if ord_type.takes_px and px is None:
        raise Refused("51204", "The price for this order type can not be empty.")
    if px is not None:
        check_tick(px, instrument)
    check_largest(sz, px, instrument)
    stp_mode = _one_of(StpMode, args, "stpMode", default=StpMode.CANCEL_MAKER)
    if stp_mode is StpMode.CANCEL_BOTH and ord_type is OrdType.FOK:
        raise Refused("54036", "FOK orders can not use cancel_both.")
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
    """Read the arguments of ``amend-order``, instrument and order aside.

    Raises:
        Refused: with the code of the first check that fails.
    """
    new_sz, new_px = _decimal(args, "newSz"), _decimal(args, "newPx")
    if new_sz is None and new_px is None:
        raise Refused("51500", "You must enter a price, quantity, or both.")
    if new_sz is not None:
        check_size(new_sz, instrument)
    if new_px is not None:
        check_tick(new_px, instrument)
    return AmendRequest(
        new_sz,
        new_px,
        _named(args, "reqId"),
        clamp_px=args.get("pxAmendType") == "1",
        cancel_on_fail=args.get("cxlOnFail") in (True, "true"),
    )


def read_target(args: Args) -> tuple[str, str]:
    """Read which order is meant: ``ordId`` and ``clOrdId``, of which the first wins.

    Raises:
        Refused: 51407 when neither is given.
    """
    ord_id, cl_ord_id = _optional_text(args, "ordId"), _optional_text(args, "clOrdId")
    if not ord_id and not cl_ord_id:
        raise Refused("51407", "Either ordId or clOrdId is required.")
    return ord_id, cl_ord_id


def check_size(sz: Decimal, instrument: Instrument) -> None:
    """Check a size against the instrument's minimum and lot."""
    if sz < instrument.min_sz:
        raise Refused("51020", "The order is below the minimum size.")
    if sz % instrument.lot_sz:
        raise Refused("51121", "The size must be a multiple of the lot size.")


def check_largest(sz: Decimal, px: Decimal | None, instrument: Instrument) -> None:
    """Check an order against the largest size and value of its kind."""
    if sz > (MAX_MKT_SZ if px is None else MAX_LMT_SZ):
        raise Refused("51202" if px is None else "51101", "The order is above the maximum size.")
    if px is not None and sz * instrument.multiplier * px > MAX_LMT_AMT:
        raise Refused("51185", "The order is above the maximum value.")


def check_tick(px: Decimal, instrument: Instrument) -> None:
    """Check a price against the instrument's tick grid."""
    if px <= 0:
        raise _wrong("px")
    if px % instrument.tick_sz:
        raise Refused("51150", "The price has too many decimals for the tick size.")


def read_whole(value: object) -> int | None:
    """Read a whole number from its decimal digits, of which no field here has more than 19."""
    return int(value) if isinstance(value, str) and DIGITS.match(value) else None


def _wrong(name: str) -> Refused:
    return Refused("51000", f"Parameter {name} error")


def _one_of(words: type[Word], args: Args, name: str, default: Word | None = None) -> Word:
    value = args.get(name)
    if default is not None and value in (None, ""):
        return default
    try:
        return words(value)
    except ValueError:
        raise _wrong(name) from None


def _optional_text(args: Args, name: str) -> str:
    value = args.get(name, "")
    if not isinstance(value, str):
        raise _wrong(name)
    return value


def _named(args: Args, name: str) -> str:
    value = _optional_text(args, name)
    if value and not NAME.match(value):
        raise _wrong(name)
    return value


def _decimal(args: Args, name: str) -> Decimal | None:
    """Read a number, which the exchange takes as a string and tolerates as a JSON number."""
    value = args.get(name, "")
    if value is None or value == "":
        return None
    number = read_number(value)
    if number is None:
        raise _wrong(name)
    return number


def read_number(value: object) -> Decimal | None:
    """Read a number of ordinary size, None for anything else.

    A wild exponent would fail in the arithmetic that follows, far from who sent it.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= 15 else None
