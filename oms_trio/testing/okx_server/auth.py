"""The account of the simulated exchange, and the checks of logins and signatures.

Signatures are computed here from the exchange's documentation alone: code shared with the client
under test would hide a mistake in it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

import attrs

from oms_trio.testing.okx_server.orders.request_checks import Args, RequestRejected

MAX_SKEW_MS = 30_000

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


@attrs.frozen
class ExchangeAccount:
    """Credentials and initial settings of the account; the defaults are for demos.

    A new account has the wrong settings on purpose (leverage 3, hedge mode), so that a service has
    to correct them.
    """

    api_key: str = "sim-key"
    secret: str = attrs.field(default="sim-secret", repr=False)
    passphrase: str = attrs.field(default="sim-pass", repr=False)
    uid: str = "55001122334455667"
    balance: Decimal = Decimal(10_000)
    lever: Decimal = Decimal(3)
    pos_mode: str = "long_short_mode"
    perm: str = "read_only,trade"
    acct_lv: str = "2"
    foreign_keys: frozenset[str] = frozenset()
    """Keys of the other environment (live on demo, or demo on live), which get code 50101."""


def draw_uid(seed: int, now_ns: int) -> str:
    """Return the ``uid`` of a new account, which differs for every seed and every start."""
    return str(Random(f"uid {seed} {now_ns}").randint(10**16, 10**17 - 1))  # noqa: S311 - no secret, and repeatable


def sign(secret: str, prehash: str) -> str:
    """Return the Base64 HMAC-SHA256 that the exchange expects for ``prehash``."""
    digest = hmac.new(secret.encode(), prehash.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def check_login(account: ExchangeAccount, args: Args, now_ms: int) -> None:
    """Check the one argument of a WebSocket login.

    Raises:
        RequestRejected: with the login code of the first check that fails.
    """
    key, passphrase, signature = (
        value if isinstance(value, str) else ""
        for value in (args.get(name) for name in ("apiKey", "passphrase", "sign"))
    )
    # The exchange's own SDK sends a JSON number here.
    stamp = str(args.get("timestamp", ""))
    try:
        stamp_ms = round(float(stamp) * 1000)
    except (ValueError, OverflowError):
        raise RequestRejected("60004", "Invalid timestamp") from None
    if not key or not key.isascii():
        raise RequestRejected("60005", "Invalid apiKey")
    if key in account.foreign_keys:
        raise RequestRejected("50101", "APIKey does not match current environment.")
    if key != account.api_key:
        raise RequestRejected("60032", "API key doesn't exist")
    if abs(now_ms - stamp_ms) > MAX_SKEW_MS:
        raise RequestRejected("60006", "Timestamp request expired")
    if passphrase != account.passphrase:
        raise RequestRejected("60024", "Wrong passphrase")
    expected = sign(account.secret, f"{stamp}GET/users/self/verify")
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        raise RequestRejected("60007", "Invalid sign")


def check_headers(
    account: ExchangeAccount,
    headers: Mapping[str, str],
    *,
    method: str,
    target: str,
    body: bytes,
    now_ms: int,
) -> None:
    """Check the headers of a private REST call (names in lower case).

    Raises:
        RequestRejected: with the code of the first check that fails.
    """
    for name, code in (
        ("ok-access-key", "50103"),
        ("ok-access-passphrase", "50104"),
        ("ok-access-sign", "50106"),
        ("ok-access-timestamp", "50107"),
    ):
        if not headers.get(name):
            raise RequestRejected(code, f'Request header "{name.upper()}" cannot be empty.')
    stamp = headers["ok-access-timestamp"]
    if abs(now_ms - _stamp_ms(stamp)) > MAX_SKEW_MS:
        raise RequestRejected("50102", "Timestamp request expired")
    key = headers["ok-access-key"]
    if not key.replace("-", "").isalnum():
        raise RequestRejected("50111", "Invalid OK-ACCESS-KEY")
    if key in account.foreign_keys:
        raise RequestRejected("50101", "APIKey does not match current environment.")
    if key != account.api_key:
        raise RequestRejected("50119", "API key doesn't exist")
    if headers["ok-access-passphrase"] != account.passphrase:
        raise RequestRejected("50105", 'Request header "OK-ACCESS-PASSPHRASE" incorrect.')
    prehash = f"{stamp}{method}{target}{body.decode(errors='replace')}"
    expected = sign(account.secret, prehash)
    if not hmac.compare_digest(headers["ok-access-sign"].encode(), expected.encode()):
        raise RequestRejected("50113", "Invalid Sign")


def _stamp_ms(stamp: str) -> int:
    """Read the ISO time of the header: exactly three decimals and ``Z``."""
    if not _STAMP.match(stamp):
        raise RequestRejected("50112", "Invalid OK-ACCESS-TIMESTAMP")
    try:
        stamped = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        raise RequestRejected("50112", "Invalid OK-ACCESS-TIMESTAMP") from None
    return round(stamped.timestamp() * 1000)
