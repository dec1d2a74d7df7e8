"""Signatures against known vectors."""

from __future__ import annotations

from oms_trio.okx.wire.requests import encode_login
from oms_trio.okx.wire.signing import (
    Credentials,
    login_sign,
    rest_headers,
    rest_sign,
    rest_timestamp,
)
from tests.okx.samples import CREDENTIALS

STAMP = "2026-09-21T14:13:20.123Z"


def test_login_is_signed_as_the_exchange_checks_it() -> None:
    assert login_sign(CREDENTIALS, 1790000000) == "nzcRQutY6YxQus+4qQTCE2V9iniCxE8O/X+VF3hiO+s="


def test_login_frame() -> None:
    assert encode_login(CREDENTIALS, 1790000000) == (
        '{"op":"login","args":[{"apiKey":"6f0c-sim","passphrase":"pp-sim",'
        '"timestamp":"1790000000","sign":"nzcRQutY6YxQus+4qQTCE2V9iniCxE8O/X+VF3hiO+s="}]}'
    )


def test_query_string_is_part_of_what_a_get_signs() -> None:
    """Without it the exchange answers 50113 (hummingbot#5800)."""
    path = "/api/v5/account/positions"
    query = "?instType=SWAP&instId=BTC-USDT-SWAP"
    signed = rest_sign(CREDENTIALS, STAMP, "GET", path + query, "")
    assert signed == "TC06SdTyarYdKe3k7HAAoghWk6TF2zTkuz4ereKoH2w="
    assert signed != rest_sign(CREDENTIALS, STAMP, "GET", path, "")


def test_body_is_part_of_what_a_post_signs() -> None:
    body = (
        '{"instId":"BTC-USDT-SWAP","tdMode":"cross","side":"buy","ordType":"limit",'
        '"px":"84000.1","sz":"0.1","clOrdId":"oms7f3a01"}'
    )
    signed = rest_sign(CREDENTIALS, STAMP, "post", "/api/v5/trade/order", body)
    assert signed == "yHjeYOANcCjS1wrsXno1vR30vacVE/ptZth3DaMakGk="


def test_rest_timestamp_has_exactly_three_decimals() -> None:
    assert rest_timestamp(1790000000123) == STAMP
    assert rest_timestamp(1790000000000) == "2026-09-21T14:13:20.000Z"
    assert rest_timestamp(1790000000007) == "2026-09-21T14:13:20.007Z"


def test_headers_carry_the_signature_of_their_own_timestamp() -> None:
    headers = rest_headers(CREDENTIALS, 1790000000123, "GET", "/x?y=1", "")
    assert headers == {
        "OK-ACCESS-KEY": "6f0c-sim",
        "OK-ACCESS-SIGN": rest_sign(CREDENTIALS, STAMP, "GET", "/x?y=1", ""),
        "OK-ACCESS-TIMESTAMP": STAMP,
        "OK-ACCESS-PASSPHRASE": "pp-sim",
    }


def test_repr_of_credentials_shows_no_secret() -> None:
    shown = repr(Credentials("the-key", "the-secret", "the-passphrase"))
    assert "the-key" in shown
    assert "the-secret" not in shown
    assert "the-passphrase" not in shown
