"""The formats of the messages from and to the agent: actions of 25 or 23 bytes, and JSON. Pure."""

from __future__ import annotations

from decimal import Context, Decimal
from enum import Enum
from struct import Struct
from typing import Final, assert_never

import attrs
import msgspec

from oms_trio.amqp.model import Delivery, Outgoing
from oms_trio.core.effects import Publication, PublishClosure, PublishExecution, PublishRejection
from oms_trio.core.events import Action
from oms_trio.core.model import OrderType, StateId

UPDATE_KEY: Final = "execution.update"
"""Routing key of executions and closures."""

REJECT_KEY: Final = "execution.reject"
"""Routing key of rejections."""

_SIGN: Final = 1 << 63
_PRICE_ONE: Final = (1 << 63) - 1
"""The numerator of a price of exactly 1."""
_VOLUME_BITS: Final = 53
_VOLUME_ONE: Final = (1 << _VOLUME_BITS) - 1
"""The numerator of a volume's fraction of exactly 1."""
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
"""A separate context, because the meaning of a message must not depend on that of the thread."""

_encode_json: Final = msgspec.json.Encoder().encode


class ActionLayout(Enum):
    """The accepted layouts; the values are those of ``OMS_ACTION_LAYOUT``."""

    BYTES_25 = "25"
    """``state_id`` as uint32, then the 21 bytes of data."""
    BYTES_23 = "23"
    """The same 21 bytes first, then ``state_id`` as uint16: the layout of the public agent."""
    BOTH = "both"
    """Both, distinguished by their length."""


@attrs.frozen
class _Format:
    """The fields of one layout; ``data`` is the offset of the 21 bytes that both layouts share."""

    fields: Struct
    data: int
    state_first: bool
    state_end: int

    def at(self, first: int, last: int) -> str:
        """Name bytes of the data by their positions in the message."""
        return f"bytes {self.data + first}-{self.data + last}"


_FORMATS: Final = {
    ActionLayout.BYTES_25: _Format(Struct("<IBQQI"), 4, state_first=True, state_end=1 << 32),
    ActionLayout.BYTES_23: _Format(Struct("<BQQIH"), 0, state_first=False, state_end=1 << 16),
}


class MalformedAction(ValueError):  # noqa: N818  # it names the message
    """The bytes are not an action; the text names the faulty bytes and what is wrong with them."""


def decode_action(
    delivery: Delivery, received_ns: int, layout: ActionLayout = ActionLayout.BYTES_25
) -> Action:
    """Decode a delivery, received at ``received_ns``, as an action of one of the accepted layouts.

    Ranges are checked on the encoded integers, before any rounding. Then price is rounded to 15 and
    volume to 12 decimal places: producers compute these integers with doubles and truncate them, which
    changes a value by up to about 1.2e-16 (price) or 6e-14 (volume). Beyond those places there is only
    this noise, which must be removed: an encoded 0.5 is slightly above 0.5, and a sell whose price
    should be exactly on a tick would be moved up by a whole tick. No half can occur, because both
    denominators are odd. A value so near to its open bound (1, 1024) that rounding would reach it stays
    one unit below.

    The action type is the low 3 bits of its byte; the high 5 bits are reserved and ignored.

    Raises:
        MalformedAction: a message that cannot be used whatever its body, or wrong length, type, mid,
            a negative volume, a price of exactly +-1 or a volume of exactly 1024, or a price of
            minus zero, as which producers that compute in doubles encode both +1 and -1.
    """
    if delivery.flaw:
        raise MalformedAction(delivery.flaw)
    body = delivery.body
    wire = _format_of(body, layout)
    if wire.state_first:
        state_id, kind, price_bits, volume_bits, cents = wire.fields.unpack(body)
    else:
        kind, price_bits, volume_bits, cents, state_id = wire.fields.unpack(body)
    kind &= _TYPE_BITS
    if kind >= len(_TYPES):
        raise MalformedAction(
            f"byte {wire.data}: action type {kind} is neither 0 (limit) nor 1 (market)"
        )
    return Action(
        received_ns=received_ns,
        state_id=StateId(state_id),
        order_type=_TYPES[kind],
        price=_decode_price(price_bits, wire),
        volume=_decode_volume(volume_bits, wire),
        mid=_decode_mid(cents, wire),
        body=body,
        message_id=delivery.message_id,
        redelivered=delivery.redelivered,
        delivery=delivery.tag,
        expired=delivery.expired,
    )


def encode_action(
    state_id: int,
    order_type: OrderType,
    price: float,
    volume: float,
    mid: Decimal,
    layout: ActionLayout = ActionLayout.BYTES_25,
) -> bytes:
    """Encode an action as producers do: in double arithmetic, truncating.

    Args:
        state_id: uint32; uint16 in the layout of 23 bytes.
        order_type: limit or market.
        price: -1 < price < 1. A negative price buys, so one that is smaller than an encoded unit
            (1.1e-19) cannot be encoded: as 0 it would sell.
        volume: 0 <= volume < 1024.
        mid: whole cents, 0 < mid <= 1000000.00.
        layout: ``BOTH`` encodes 25 bytes.

    Raises:
        ValueError: a value is out of its range.
    """
    wire = _FORMATS.get(layout, _FORMATS[ActionLayout.BYTES_25])
    cents = mid * 100
    if not 0 <= state_id < wire.state_end:
        raise ValueError(f"state_id {state_id} is not a uint{wire.state_end.bit_length() - 1}")
    if not -1 < price < 1:
        raise ValueError(f"price {price} is not between -1 and 1")
    if not 0 <= volume < _VOLUME_END:
        raise ValueError(f"volume {volume} is not between 0 and 1024")
    if not 0 < cents <= _MID_MAX_CENTS or cents % 1:
        raise ValueError(f"mid {mid} is not a whole number of cents up to 1000000.00")
    fraction = int(abs(price) * _PRICE_ONE)
    if price < 0 and not fraction:
        raise ValueError(f"price {price} would be encoded as 0, which sells")
    price_bits = fraction | (_SIGN if price < 0 else 0)
    whole = int(volume)
    volume_bits = whole << _VOLUME_BITS | int((volume - whole) * _VOLUME_ONE)
    data = _TYPES.index(order_type), price_bits, volume_bits, int(cents)
    fields = (state_id, *data) if wire.state_first else (*data, state_id)
    return wire.fields.pack(*fields)


def encode_publication(effect: Publication) -> Outgoing:
    """Encode a message for the agent; the order of keys and their types are part of the format."""
    cause = ""
    match effect:
        case PublishExecution():
            cause = effect.cause.value
            content: dict[str, object] = {
                "state_id": effect.state_id,
                "okx_id": effect.ord_id,
                "is_trade_closed": False,
            }
        case PublishClosure():
            cause = effect.cause.value
            content = {
                "state_id": effect.state_id,
                "okx_id": effect.ord_id,
                "is_trade_closed": True,
                "filled_portions": [{ord_id: portion} for ord_id, portion in effect.portions],
                "reward": effect.reward,
            }
        case PublishRejection():
            content = {
                "state_id": effect.state_id,
                "reason": effect.reason.value,
                "detail": effect.detail,
            }
        case _:
            assert_never(effect)
    key = REJECT_KEY if isinstance(effect, PublishRejection) else UPDATE_KEY
    return Outgoing(effect.message_id, key, _encode_json(content), cause)


def _format_of(body: bytes, layout: ActionLayout) -> _Format:
    accepted = list(_FORMATS) if layout is ActionLayout.BOTH else [layout]
    for one in accepted:
        if len(body) == _FORMATS[one].fields.size:
            return _FORMATS[one]
    sizes = " or ".join(one.value for one in accepted)
    raise MalformedAction(f"{len(body)} bytes instead of {sizes}")


def _decode_price(bits: int, wire: _Format) -> Decimal:
    numerator = bits & _PRICE_ONE
    if numerator == _PRICE_ONE:
        raise MalformedAction(
            f"{wire.at(1, 8)}: price is exactly 1 or -1, it must lie between them"
        )
    if bits == _SIGN:
        raise MalformedAction(
            f"{wire.at(1, 8)}: price is minus zero, as which encoders write exactly 1 and -1; "
            "it must lie between them"
        )
    units = min(_rounded(numerator * _PRICE_UNITS, _PRICE_ONE), _PRICE_UNITS - 1)
    return Decimal(-units if bits & _SIGN else units).scaleb(-_PRICE_PLACES, _EXACT)


def _decode_volume(bits: int, wire: _Format) -> Decimal:
    whole = (bits & ~_SIGN) >> _VOLUME_BITS
    numerator = bits & _VOLUME_ONE
    if bits & _SIGN and (whole or numerator):
        raise MalformedAction(f"{wire.at(9, 16)}: volume is negative")
    if whole == _VOLUME_END - 1 and numerator == _VOLUME_ONE:
        raise MalformedAction(f"{wire.at(9, 16)}: volume is 1024, it must lie below")
    units = whole * _VOLUME_UNITS + _rounded(numerator * _VOLUME_UNITS, _VOLUME_ONE)
    return Decimal(min(units, _VOLUME_END * _VOLUME_UNITS - 1)).scaleb(-_VOLUME_PLACES, _EXACT)


def _decode_mid(cents: int, wire: _Format) -> Decimal:
    if not 0 < cents <= _MID_MAX_CENTS:
        raise MalformedAction(
            f"{wire.at(17, 20)}: mid of {cents} cents is not in 1..{_MID_MAX_CENTS}"
        )
    return Decimal(cents).scaleb(-_CENTS_PLACES, _EXACT)


def _rounded(numerator: int, odd_denominator: int) -> int:
    quotient, rest = divmod(numerator, odd_denominator)
    return quotient + (2 * rest > odd_denominator)
