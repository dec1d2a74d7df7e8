"""Text fields of the exchange as values: decimals, integers and enumerations.

Almost every number is a JSON string, and ``""`` means a missing one. The path of a field is passed as
the path of its row and its name, which are only joined for an error.

Every function checks bounds: a value that is impossible for a contract, an account or a calendar
shows a corrupted answer, which must never set a position, a balance or a clock. The bounds are a
thousand times wider than the exchange's own limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from oms_trio.core.model import OrderState, Side, TradeId
from oms_trio.okx.errors import ProtocolError

# Decimal() alone also accepts "NaN", "Infinity", "1_0", blanks and exponents that would make later
# arithmetic explode; int() likewise. Real values are far below these widths.
_DECIMAL: Final = re.compile(r"-?[0-9]{1,24}(?:\.[0-9]{1,64})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)

NOTHING: Final = Decimal(0)

MAX_CONTRACTS: Final = Decimal(10**9)
"""Above any size: an order may have 1e8 contracts, and tier 1 of 100x leverage ends at 1e3."""

MAX_PRICE: Final = Decimal(10**9)
MAX_MONEY: Final = Decimal(10**15)
"""USDT; more than the cash of all accounts of the exchange."""

LEAST_CASH: Final = Decimal(-(10**9))

MAX_RATIO: Final = Decimal(10**6)
"""Of ``uplRatio``: a price that doubles is 100 at a leverage of 100x."""

_FIRST_MS: Final = 1_577_836_800_000  # 2020-01-01: v5 of the API is no older
_LAST_MS: Final = 4_102_444_800_000  # 2100-01-01

_STATES: Final = {
    "live": OrderState.LIVE,
    "partially_filled": OrderState.PARTIALLY_FILLED,
    "filled": OrderState.FILLED,
    "canceled": OrderState.CANCELED,
    "mmp_canceled": OrderState.CANCELED,
}
_SIDES: Final = {"buy": Side.BUY, "sell": Side.SELL}

_T = TypeVar("_T")

OnIgnored = Callable[[ProtocolError], object]
"""Called with the reason for which a row, or a fee in another currency, is ignored."""


def unreported(_error: ProtocolError) -> None:
    """Ignore without a report."""


def decimal(text: str, where: str, name: str) -> Decimal:
    """Read a mandatory number."""
    if _DECIMAL.fullmatch(text) is None:
        raise ProtocolError(f"{where}.{name}", "expected a decimal number")
    return Decimal(text)


def _within(value: Decimal, least: Decimal, most: Decimal, where: str, name: str) -> Decimal:
    if not least <= value <= most:
        raise ProtocolError(f"{where}.{name}", f"{value} is not between {least} and {most}")
    return value


def price(text: str, where: str, name: str) -> Decimal:
    """Read a mandatory price."""
    value = _within(decimal(text, where, name), Decimal(0), MAX_PRICE, where, name)
    if not value:
        raise ProtocolError(f"{where}.{name}", "expected a price above 0")
    return value


def price_or_none(text: str, where: str, name: str) -> Decimal | None:
    """Read an optional price: missing is ``""``, or ``"0"`` for an average before any fill."""
    if not text:
        return None
    return _within(decimal(text, where, name), Decimal(0), MAX_PRICE, where, name) or None


def size(text: str, where: str, name: str) -> Decimal:
    """Read a cumulative or last size in contracts, which is ``"0"`` or ``""`` before any fill."""
    value = decimal(text, where, name) if text else Decimal(0)
    return _within(value, Decimal(0), MAX_CONTRACTS, where, name)


def order_size(text: str, where: str, name: str) -> Decimal:
    """Read the size of an order in contracts: never 0."""
    value = _within(decimal(text, where, name), Decimal(0), MAX_CONTRACTS, where, name)
    if not value:
        raise ProtocolError(f"{where}.{name}", "expected a size above 0")
    return value


def position(text: str, where: str, name: str) -> Decimal:
    """Read a net position in contracts: negative is short."""
    return _within(decimal(text, where, name), -MAX_CONTRACTS, MAX_CONTRACTS, where, name)


def money(text: str, where: str, name: str) -> Decimal:
    """Read an amount of money, which may be negative."""
    return _within(decimal(text, where, name), -MAX_MONEY, MAX_MONEY, where, name)


def cash(text: str, where: str, name: str) -> Decimal:
    """Read a cash balance, which a loss beyond all cash makes slightly negative."""
    return _within(decimal(text, where, name), LEAST_CASH, MAX_MONEY, where, name)


def money_or_none(text: str, where: str, name: str) -> Decimal | None:
    """Read an optional amount of money."""
    return money(text, where, name) if text else None


def ratio_or_none(text: str, where: str, name: str) -> float | None:
    """Read ``uplRatio``: a fraction, often missing."""
    if not text:
        return None
    return float(_within(decimal(text, where, name), -MAX_RATIO, MAX_RATIO, where, name))


def time_ms(text: str, where: str, name: str) -> int:
    """Read a time in Unix milliseconds, of 2020 or later: v5 of the API is no older."""
    value = integer(text, where, name)
    if not _FIRST_MS <= value < _LAST_MS:
        raise ProtocolError(
            f"{where}.{name}", f"{value} is not a time in Unix milliseconds since 2020"
        )
    return value


def integer(text: str, where: str, name: str) -> int:
    """Read a whole number."""
    if _INTEGER.fullmatch(text) is None:
        raise ProtocolError(f"{where}.{name}", "expected a whole number")
    return int(text)


def trade_id_or_none(text: str, where: str, name: str) -> TradeId | None:
    """Read a ``tradeId``: negative for ADL, missing or ``"0"`` for the exchange's own orders."""
    number = integer(text, where, name) if text else 0
    return TradeId(number) if number else None


def order_state(text: str, where: str) -> OrderState:
    """Read an order's ``state``."""
    return _known(_STATES, text, where, "state")


def order_side(text: str, where: str) -> Side:
    """Read an order's or a fill's ``side``."""
    return _known(_SIDES, text, where, "side")


def required(value: str, where: str, name: str) -> str:
    """Read a mandatory identifier."""
    if not value:
        raise ProtocolError(f"{where}.{name}", "expected a non-empty string")
    return value


def decoding(
    decode: Callable[[bytes | str | msgspec.Raw], _T],
    raw: bytes | str | msgspec.Raw,
    root: str = "$",
) -> _T:
    """Decode the JSON found at path ``root``; every fault in it is a ``ProtocolError``."""
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
