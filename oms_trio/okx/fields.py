"""Text fields of the exchange as values: decimals, integers and enumerations.

Almost every number is a JSON string, and ``""`` means that there is none. A field's place is
handed in as the path of its row and its name, and only put together when it is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from oms_trio.core.model import OrderState, Side, TradeId
from oms_trio.okx.errors import ProtocolError

# Decimal() alone also takes "NaN", "Infinity", "1_0", blanks and exponents that would make later
# arithmetic explode; int() likewise. Real values stay far below these widths.
_DECIMAL: Final = re.compile(r"-?[0-9]{1,24}(?:\.[0-9]{1,64})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)

_STATES: Final = {
    "live": OrderState.LIVE,
    "partially_filled": OrderState.PARTIALLY_FILLED,
    "filled": OrderState.FILLED,
    "canceled": OrderState.CANCELED,
    "mmp_canceled": OrderState.CANCELED,
}
_SIDES: Final = {"buy": Side.BUY, "sell": Side.SELL}

_T = TypeVar("_T")


def decimal(text: str, where: str, name: str) -> Decimal:
    """Read a number that must be there."""
    if _DECIMAL.fullmatch(text) is None:
        raise ProtocolError(f"{where}.{name}", "expected a decimal number")
    return Decimal(text)


def decimal_or_none(text: str, where: str, name: str) -> Decimal | None:
    """Read a number that may be missing (``""``)."""
    return decimal(text, where, name) if text else None


def price_or_none(text: str, where: str, name: str) -> Decimal | None:
    """Read an average price: none yet is ``""`` on REST and ``"0"`` on the WebSocket."""
    return decimal_or_none(text, where, name) or None


def size(text: str, where: str, name: str) -> Decimal:
    """Read a cumulative or last size in contracts, where nothing yet is ``"0"`` or ``""``."""
    value = decimal(text, where, name) if text else Decimal(0)
    if value < 0:
        raise ProtocolError(f"{where}.{name}", "expected a size of 0 or more")
    return value


def integer(text: str, where: str, name: str) -> int:
    """Read a whole number, such as a time in milliseconds."""
    if _INTEGER.fullmatch(text) is None:
        raise ProtocolError(f"{where}.{name}", "expected a whole number")
    return int(text)


def trade_id_or_none(text: str, where: str, name: str) -> TradeId | None:
    """Read a ``tradeId``: negative for ADL, ``"0"`` for the system's orders, which have none."""
    number = integer(text, where, name) if text else 0
    return TradeId(number) if number else None


def order_state(text: str, where: str) -> OrderState:
    """Read an order's ``state``."""
    return _known(_STATES, text, where, "state")


def order_side(text: str, where: str) -> Side:
    """Read an order's or a fill's ``side``."""
    return _known(_SIDES, text, where, "side")


def required(value: str, where: str, name: str) -> str:
    """Read an identifier that must be there."""
    if not value:
        raise ProtocolError(f"{where}.{name}", "expected a text that is not empty")
    return value


def decoding(
    decode: Callable[[bytes | str | msgspec.Raw], _T],
    raw: bytes | str | msgspec.Raw,
    root: str = "$",
) -> _T:
    """Decode JSON that stands at ``root``; whatever is wrong with it is a ``ProtocolError``."""
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        why, _, path = str(error).partition(" - at `$")
        raise ProtocolError(root + path.rstrip("`"), why) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError(root, str(error)) from None


def _known(table: dict[str, _T], value: str, where: str, name: str) -> _T:
    try:
        return table[value]
    except KeyError:
        raise ProtocolError(f"{where}.{name}", f"unknown value {value[:32]!r}") from None
