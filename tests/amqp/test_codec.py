"""The formats of the agent's messages: test vectors of the contract, garbage, and exact rounding."""

from __future__ import annotations

import math
from decimal import ROUND_DOWN, Decimal, localcontext

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oms_trio.amqp.codec import (
    ActionLayout,
    MalformedAction,
    decode_action,
    encode_action,
    encode_publication,
)
from oms_trio.amqp.model import Delivery
from oms_trio.core.effects import Publication, PublishClosure, PublishExecution, PublishRejection
from oms_trio.core.events import Action
from oms_trio.core.model import Cause, OrderType, OrdId, RejectReason, StateId

LIMIT, MARKET = OrderType.LIMIT, OrderType.MARKET

VECTORS = [
    (1, LIMIT, "-0.25", "3.0", "67000.00", "010000000000000000000000a00000000000006000e03b6600"),
    (
        4294967295,
        MARKET,
        "0.5",
        "0.75",
        "67000.01",
        "ffffffff010000000000000040ffffffffffff1700e13b6600",
    ),
    (
        7,
        LIMIT,
        "-0.999",
        "1023.0",
        "1000000.00",
        "070000000000ac1c5a643bdfff000000000000e07f00e1f505",
    ),
    (42, LIMIT, "0.0", "1.5", "64123.45", "2a000000000000000000000000ffffffffffff2f0039d86100"),
]
vectors = pytest.mark.parametrize(
    ("state_id", "order_type", "price", "volume", "mid", "wire"), VECTORS
)
VALID = bytes.fromhex(VECTORS[0][-1])

order_types = st.sampled_from(OrderType)
mids = st.decimals(min_value="0.01", max_value="1000000.00", places=2)


def decode(body: bytes, layout: ActionLayout = ActionLayout.BYTES_25) -> Action:
    """What an action says, without the bytes that say it."""
    action = decode_action(Delivery(1, body, None, redelivered=False), 0, layout)
    return attrs.evolve(action, body=b"")


@vectors
def test_the_contracts_vectors_decode_to_their_exact_values(
    state_id: int, order_type: OrderType, price: str, volume: str, mid: str, wire: str
) -> None:
    action = decode(bytes.fromhex(wire))
    assert action.state_id == state_id
    assert action.order_type is order_type
    assert action.price == Decimal(price)
    assert action.volume == Decimal(volume)
    assert action.mid == Decimal(mid)


@vectors
def test_encoding_reproduces_the_contracts_vectors(
    state_id: int, order_type: OrderType, price: str, volume: str, mid: str, wire: str
) -> None:
    body = encode_action(state_id, order_type, float(price), float(volume), Decimal(mid))
    assert body.hex() == wire


def moved(wire: str) -> bytes:
    """The same action in the layout of 23 bytes."""
    body = bytes.fromhex(wire)
    return body[4:] + body[:2]


SHORT_VECTORS = [vector for vector in VECTORS if vector[0] < 2**16]
"""Those whose state id fits into 16 bits."""


@pytest.mark.parametrize(
    ("state_id", "order_type", "price", "volume", "mid", "wire"), SHORT_VECTORS
)
@pytest.mark.parametrize("layout", [ActionLayout.BYTES_23, ActionLayout.BOTH])
def test_the_vectors_decode_to_the_same_values_in_23_bytes(
    layout: ActionLayout,
    state_id: int,
    order_type: OrderType,
    price: str,
    volume: str,
    mid: str,
    wire: str,
) -> None:
    assert decode(moved(wire), layout) == decode(bytes.fromhex(wire))
    values = float(price), float(volume), Decimal(mid)
    body = encode_action(state_id, order_type, *values, layout=ActionLayout.BYTES_23)
    assert body == moved(wire)


def test_the_short_layout_is_these_bytes() -> None:
    body = bytes.fromhex("0000000000000000a00000000000006000e03b66000100")
    assert body == moved(VECTORS[0][-1])
    assert decode(body, ActionLayout.BYTES_23).state_id == 1


@given(
    st.sampled_from(ActionLayout),
    st.one_of(
        st.binary(max_size=40),
        st.binary(min_size=25, max_size=25),
        st.binary(min_size=23, max_size=23),
    ),
)
def test_any_bytes_are_an_action_in_range_or_malformed(layout: ActionLayout, body: bytes) -> None:
    try:
        action = decode(body, layout)
    except MalformedAction:
        return
    accepted = {"25", "23"} if layout is ActionLayout.BOTH else {layout.value}
    assert str(len(body)) in accepted
    assert 0 <= action.state_id < 2**32
    assert -1 < action.price < 1
    assert 0 <= action.volume < 1024
    assert 0 < action.mid <= 1_000_000
    assert action.price.as_tuple().exponent == -15
    assert action.volume.as_tuple().exponent == -12


@given(
    st.integers(0, 2**32 - 1),
    order_types,
    st.floats(-1, 1, exclude_min=True, exclude_max=True),
    st.floats(0, 1024, exclude_max=True),
    mids,
)
def test_decoding_returns_what_a_producer_encoded_within_the_precision_of_doubles(
    state_id: int, order_type: OrderType, price: float, volume: float, mid: Decimal
) -> None:
    assume(not -1 / 2**63 < price < 0)
    action = decode(encode_action(state_id, order_type, price, volume, mid))
    assert (action.state_id, action.order_type, action.mid) == (state_id, order_type, mid)
    assert abs(action.price - Decimal(price)) <= Decimal("1e-15")
    assert abs(action.volume - Decimal(volume)) <= Decimal("1e-12")


@given(
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.integers(0, 1024 * 10**12 - 1),
)
def test_decimals_survive_the_producers_doubles_and_truncation(price: int, volume: int) -> None:
    """Otherwise a price exactly on a tick would be moved by one tick."""
    sent_price = Decimal(price).scaleb(-15)
    sent_volume = Decimal(volume).scaleb(-12)
    wire = encode_action(1, LIMIT, float(sent_price), float(sent_volume), Decimal(1))
    action = decode(wire)
    assert action.price == sent_price
    assert action.volume == sent_volume


def test_decoding_ignores_the_threads_decimal_context() -> None:
    with localcontext(prec=3):
        action = decode(bytes.fromhex(VECTORS[2][-1]))
        assert str(action.price) == "-0.999000000000000"
        assert str(action.mid) == "1000000.00"


@pytest.mark.parametrize("length", [*range(25), 26, 50])
def test_any_other_length_is_malformed(length: int) -> None:
    with pytest.raises(MalformedAction, match=f"^{length} bytes instead of 25$"):
        decode((VALID * 2)[:length])


def test_a_layout_accepts_only_its_own_length() -> None:
    short = moved(VECTORS[0][-1])
    with pytest.raises(MalformedAction, match=r"^23 bytes instead of 25$"):
        decode(short)
    with pytest.raises(MalformedAction, match=r"^25 bytes instead of 23$"):
        decode(VALID, ActionLayout.BYTES_23)
    with pytest.raises(MalformedAction, match=r"^24 bytes instead of 25 or 23$"):
        decode(VALID[1:], ActionLayout.BOTH)
    assert decode(VALID, ActionLayout.BOTH) == decode(short, ActionLayout.BOTH)


@pytest.mark.parametrize(
    ("at", "part", "why"),
    [
        (0, b"\x07", "byte 0: action type 7 "),
        (1, bytes(7) + b"\x80", "bytes 1-8: price is minus zero"),
        (9, bytes(7) + b"\x90", "bytes 9-16: volume is negative"),
        (17, bytes(4), "bytes 17-20: mid of 0 cents"),
    ],
)
def test_positions_are_those_of_the_layout(at: int, part: bytes, why: str) -> None:
    body = moved(VECTORS[0][-1])
    with pytest.raises(MalformedAction, match=f"^{why}"):
        decode(body[:at] + part + body[at + len(part) :], ActionLayout.BYTES_23)


def test_a_state_id_of_more_than_16_bits_does_not_fit_into_23_bytes() -> None:
    layout = ActionLayout.BYTES_23
    body = encode_action(2**16 - 1, LIMIT, 0.5, 1.0, Decimal(1), layout)
    assert decode(body, layout).state_id == 2**16 - 1
    with pytest.raises(ValueError, match="state_id 65536 is not a uint16"):
        encode_action(2**16, LIMIT, 0.5, 1.0, Decimal(1), layout)


@pytest.mark.parametrize("kind", range(2, 8))
def test_an_unknown_type_is_malformed(kind: int) -> None:
    with pytest.raises(MalformedAction, match=f"byte 4: action type {kind} "):
        decode(_patched(4, bytes([kind])))


@pytest.mark.parametrize("reserved", range(8, 256, 8))
def test_the_reserved_bits_of_the_type_are_ignored(reserved: int) -> None:
    assert decode(_patched(4, bytes([reserved]))) == decode(VALID)


@pytest.mark.parametrize("sign", [0, 1 << 63])
def test_a_price_of_exactly_one_is_malformed_and_the_next_below_is_not(sign: int) -> None:
    with pytest.raises(MalformedAction, match="bytes 5-12: price"):
        decode(_patched(5, _uint64(sign | (2**63 - 1))))
    price = decode(_patched(5, _uint64(sign | (2**63 - 2)))).price
    assert abs(price) == Decimal("0.999999999999999")


def test_a_price_of_minus_zero_is_malformed_and_zero_is_not() -> None:
    """In doubles 1 x (2^63-1) is 2^63, which has these bits, as -1 has. They cannot be distinguished."""
    assert int(1.0 * (2**63 - 1)) == 1 << 63
    with pytest.raises(MalformedAction, match="bytes 5-12: price is minus zero"):
        decode(_patched(5, _uint64(1 << 63)))
    assert decode(_patched(5, _uint64(0))).price == 0
    assert decode(_patched(5, _uint64(1 << 63 | 1))).price == 0, "it has a sign, and buys"


@pytest.mark.parametrize("price", [-5e-324, -1e-20, -1.08e-19])
def test_a_price_too_small_to_keep_its_sign_cannot_be_encoded(price: float) -> None:
    """It would arrive as zero, which sells."""
    with pytest.raises(ValueError, match="would be encoded as 0, which sells"):
        encode_action(1, LIMIT, price, 1.0, Decimal(1))


def test_minus_zero_is_encoded_as_zero() -> None:
    assert encode_action(1, LIMIT, -0.0, 1.0, Decimal(1)) == encode_action(
        1, LIMIT, 0.0, 1.0, Decimal(1)
    )


@pytest.mark.parametrize("price", [math.nextafter(1, 0), math.nextafter(-1, 0)])
def test_the_prices_next_to_one_do_not_overflow(price: float) -> None:
    decoded = decode(encode_action(1, LIMIT, price, 1.0, Decimal(1))).price
    assert decoded == Decimal(price).quantize(Decimal("1e-15"), ROUND_DOWN)


def test_the_volume_next_to_its_end_does_not_overflow() -> None:
    volume = math.nextafter(1024, 0)
    decoded = decode(encode_action(1, LIMIT, 0.5, volume, Decimal(1))).volume
    assert abs(decoded - Decimal(volume)) <= Decimal("1e-12")


def test_a_volume_of_exactly_1024_is_malformed_and_the_next_below_is_not() -> None:
    with pytest.raises(MalformedAction, match="bytes 13-20: volume is 1024"):
        decode(_patched(13, _uint64(2**63 - 1)))
    volume = decode(_patched(13, _uint64(2**63 - 2))).volume
    assert volume == Decimal("1023.999999999999")


def test_a_fraction_of_exactly_one_counts_as_the_next_whole_volume() -> None:
    assert decode(_patched(13, _uint64(2 << 53 | (2**53 - 1)))).volume == 3


@pytest.mark.parametrize("volume", [1, 1 << 53, 2**63 - 1])
def test_a_negative_volume_is_malformed(volume: int) -> None:
    with pytest.raises(MalformedAction, match="bytes 13-20: volume is negative"):
        decode(_patched(13, _uint64(1 << 63 | volume)))


def test_a_volume_of_minus_zero_is_zero() -> None:
    volume = decode(_patched(13, _uint64(1 << 63))).volume
    assert volume == 0
    assert not volume.is_signed()


@pytest.mark.parametrize("cents", [0, 100_000_001, 2**32 - 1])
def test_a_mid_out_of_range_is_malformed(cents: int) -> None:
    with pytest.raises(MalformedAction, match=f"bytes 21-24: mid of {cents} cents"):
        decode(_patched(21, cents.to_bytes(4, "little")))


@pytest.mark.parametrize(
    ("state_id", "price", "volume", "mid"),
    [
        (-1, 0.0, 1.0, "1"),
        (2**32, 0.0, 1.0, "1"),
        (1, 1.0, 1.0, "1"),
        (1, -1.0, 1.0, "1"),
        (1, float("nan"), 1.0, "1"),
        (1, 0.0, 1024.0, "1"),
        (1, 0.0, -0.5, "1"),
        (1, 0.0, float("nan"), "1"),
        (1, 0.0, 1.0, "0"),
        (1, 0.0, 1.0, "1000000.01"),
        (1, 0.0, 1.0, "1.001"),
    ],
)
def test_a_producer_cannot_encode_what_would_be_malformed(
    state_id: int, price: float, volume: float, mid: str
) -> None:
    with pytest.raises(ValueError, match=r"^(state_id|price|volume|mid) "):
        encode_action(state_id, LIMIT, price, volume, Decimal(mid))


@pytest.mark.parametrize(
    ("effect", "routing_key", "body", "cause"),
    [
        (
            PublishExecution("m-1", StateId(7), OrdId("397")),
            "execution.update",
            b'{"state_id":7,"okx_id":"397","is_trade_closed":false}',
            "agent",
        ),
        (
            PublishClosure(
                "m-2",
                StateId(9),
                OrdId("C"),
                ((OrdId("A"), 1.0), (OrdId("B"), 1 / 3), (OrdId("C"), 0.6)),
                3.68,
                Cause.LIQUIDATION,
            ),
            "execution.update",
            (
                b'{"state_id":9,"okx_id":"C","is_trade_closed":true,'
                b'"filled_portions":[{"A":1.0},{"B":0.3333333333333333},{"C":0.6}],"reward":3.68}'
            ),
            "liquidation",
        ),
        (
            PublishRejection("m-3", StateId(4294967295), RejectReason.MARGIN_CAP, 'cap "298.5"'),
            "execution.reject",
            rb'{"state_id":4294967295,"reason":"margin_cap","detail":"cap \"298.5\""}',
            "",
        ),
    ],
)
def test_publications_have_the_contracts_keys_in_its_order(
    effect: Publication, routing_key: str, body: bytes, cause: str
) -> None:
    message = encode_publication(effect)
    assert message.message_id == effect.message_id
    assert message.routing_key == routing_key
    assert message.body == body
    assert message.cause == cause


def _patched(at: int, part: bytes) -> bytes:
    return VALID[:at] + part + VALID[at + len(part) :]


def _uint64(value: int) -> bytes:
    return value.to_bytes(8, "little")
