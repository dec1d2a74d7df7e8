"""The two wire formats that we share with the agent: 25-byte actions in, JSON out.

Pure: bytes to values and values to bytes, nothing else.
"""

from __future__ import annotations

from decimal import Context, Decimal
from struct import Struct
from typing import Final, assert_never

import attrs
import msgspec

from oms_trio.amqp.model import Outgoing
from oms_trio.core.effects import Publication, PublishClosure, PublishExecution, PublishRefusal
from oms_trio.core.model import OrderType, StateId

UPDATE_KEY: Final = "execution.update"
"""Routing key of executions and closures."""

REJECT_KEY: Final = "execution.reject"
"""Routing key of refusals."""

_LAYOUT: Final = Struct("<IBQQI")
_SIGN: Final = 1 << 63
_PRICE_ONE: Final = (1 << 63) - 1
"""The price numerator that would mean exactly 1."""
_VOLUME_BITS: Final = 53
_VOLUME_ONE: Final = (1 << _VOLUME_BITS) - 1
"""The numerator of a volume's fraction that means exactly 1."""
_VOLUME_END: Final = 1024
_MID_MAX_CENTS: Final = 100_000_000
_TYPE_BITS: Final = 0b111
_TYPES: Final = (OrderType.LIMIT, OrderType.MARKET)

_PRICE_PLACES: Final = 15
_PRICE_UNITS: Final = 10**_PRICE_PLACES
_VOLUME_PLACES: Final = 12
_VOLUME_UNITS: Final = 10**_VOLUME_PLACES
_CENTS_PLACES: Final = 2

_EXACT: Final = Context(prec=40)
"""Our own context: what a message means must not depend on the thread's."""

_encode_json: Final = msgspec.json.Encoder().encode


class MalformedAction(ValueError):  # noqa: N818  # it names what the message is
    """The bytes are no action; the text names the positions and what is wrong there."""


@attrs.frozen
class DecodedAction:
    """What an action says, in the units of ``oms_trio.core.inputs.Action``."""

    state_id: StateId
    order_type: OrderType
    price: Decimal
    volume: Decimal
    mid: Decimal


def decode_action(body: bytes) -> DecodedAction:
    """Decode the 25 bytes of an action.

    Ranges are judged on the integers of the wire, before any rounding. Then price is rounded to
    15 and volume to 12 decimal places: producers compute the wire's integers with doubles and
    truncate, which moves a value by up to about 1.2e-16 (price) or 6e-14 (volume). Below those
    places lies only this noise, and it must go: 0.5 comes off the wire a hair above 0.5, and
    a sell whose price should lie exactly on a tick would be moved up by a whole one. No half can
    occur, because both denominators are odd. A value so near its open bound that rounding would
    reach it (1, 1024) stays one unit below.

    The action type is the low 3 bits of byte 4; its high 5 bits are reserved and ignored.

    Raises:
        MalformedAction: wrong length, type, mid, a negative volume, or a price of exactly
            +-1 or a volume of exactly 1024.
    """
    if len(body) != _LAYOUT.size:
        raise MalformedAction(f"{len(body)} bytes instead of {_LAYOUT.size}")
    state_id, kind, price_bits, volume_bits, cents = _LAYOUT.unpack(body)
    kind &= _TYPE_BITS
    if kind >= len(_TYPES):
        raise MalformedAction(f"byte 4: action type {kind} is neither 0 (limit) nor 1 (market)")
    return DecodedAction(
        state_id=StateId(state_id),
        order_type=_TYPES[kind],
        price=_decode_price(price_bits),
        volume=_decode_volume(volume_bits),
        mid=_decode_mid(cents),
    )


def encode_action(
    state_id: int, order_type: OrderType, price: float, volume: float, mid: Decimal
) -> bytes:
    """Encode an action as its producers do: in double arithmetic, truncating.

    Args:
        state_id: uint32.
        order_type: limit or market.
        price: -1 < price < 1.
        volume: 0 <= volume < 1024.
        mid: whole cents, 0 < mid <= 1000000.00.

    Raises:
        ValueError: a value is out of its range.
    """
    cents = mid * 100
    if not 0 <= state_id < 1 << 32:
        raise ValueError(f"state_id {state_id} is no uint32")
    if not -1 < price < 1:
        raise ValueError(f"price {price} is not between -1 and 1")
    if not 0 <= volume < _VOLUME_END:
        raise ValueError(f"volume {volume} is not between 0 and 1024")
    if not 0 < cents <= _MID_MAX_CENTS or cents % 1:
        raise ValueError(f"mid {mid} is not a number of cents up to 1000000.00")
    price_bits = int(abs(price) * _PRICE_ONE) | (_SIGN if price < 0 else 0)
    whole = int(volume)
    volume_bits = whole << _VOLUME_BITS | int((volume - whole) * _VOLUME_ONE)
    return _LAYOUT.pack(state_id, _TYPES.index(order_type), price_bits, volume_bits, int(cents))


def encode_publication(effect: Publication) -> Outgoing:
    """Encode what the agent is told; key order and types are the contract with it."""
    cause = ""
    match effect:
        case PublishExecution():
            cause = effect.cause.value
            told: dict[str, object] = {
                "state_id": effect.state_id,
                "okx_id": effect.ord_id,
                "is_trade_closed": False,
            }
        case PublishClosure():
            cause = effect.cause.value
            told = {
                "state_id": effect.state_id,
                "okx_id": effect.ord_id,
                "is_trade_closed": True,
                "filled_portions": [{ord_id: portion} for ord_id, portion in effect.portions],
                "reward": effect.reward,
            }
        case PublishRefusal():
            told = {
                "state_id": effect.state_id,
                "reason": effect.reason.value,
                "detail": effect.detail,
            }
        case _:
            assert_never(effect)
    key = REJECT_KEY if isinstance(effect, PublishRefusal) else UPDATE_KEY
    return Outgoing(effect.message_id, key, _encode_json(told), cause)


def _decode_price(bits: int) -> Decimal:
    numerator = bits & _PRICE_ONE
    if numerator == _PRICE_ONE:
        raise MalformedAction("bytes 5-12: price is exactly 1 or -1, it must lie between them")
    units = min(_rounded(numerator * _PRICE_UNITS, _PRICE_ONE), _PRICE_UNITS - 1)
    return Decimal(-units if bits & _SIGN else units).scaleb(-_PRICE_PLACES, _EXACT)


def _decode_volume(bits: int) -> Decimal:
    whole = (bits & ~_SIGN) >> _VOLUME_BITS
    numerator = bits & _VOLUME_ONE
    if bits & _SIGN and (whole or numerator):
        raise MalformedAction("bytes 13-20: volume is negative")
    if whole == _VOLUME_END - 1 and numerator == _VOLUME_ONE:
        raise MalformedAction("bytes 13-20: volume is 1024, it must lie below")
    units = whole * _VOLUME_UNITS + _rounded(numerator * _VOLUME_UNITS, _VOLUME_ONE)
    return Decimal(min(units, _VOLUME_END * _VOLUME_UNITS - 1)).scaleb(-_VOLUME_PLACES, _EXACT)


def _decode_mid(cents: int) -> Decimal:
    if not 0 < cents <= _MID_MAX_CENTS:
        raise MalformedAction(f"bytes 21-24: mid of {cents} cents is not in 1..{_MID_MAX_CENTS}")
    return Decimal(cents).scaleb(-_CENTS_PLACES, _EXACT)


def _rounded(numerator: int, odd_denominator: int) -> int:
    quotient, rest = divmod(numerator, odd_denominator)
    return quotient + (2 * rest > odd_denominator)
