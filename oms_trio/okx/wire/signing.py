"""Signatures of the WebSocket login and of REST requests: pure functions of their arguments.

Both are base64(HMAC-SHA256(secret, text)); they differ in the text and in the unit of time:
Unix seconds on the WebSocket, ISO 8601 with milliseconds on REST. The exchange rejects a
timestamp that differs by more than 30 s from its own clock (60006, 50102).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import attrs


def _masked(_value: str) -> str:
    return "'***'"


@attrs.frozen
class Credentials:
    """An API key. Only ``api_key`` shows in a repr; it identifies the key but gives no access."""

    api_key: str
    secret_key: str = attrs.field(repr=_masked)
    passphrase: str = attrs.field(repr=_masked)


def _sign(secret_key: str, text: str) -> str:
    digest = hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode("ascii")


def login_sign(credentials: Credentials, timestamp_s: int) -> str:
    """Sign a WebSocket login at ``timestamp_s`` (Unix seconds of the exchange's clock)."""
    return _sign(credentials.secret_key, f"{timestamp_s}GET/users/self/verify")


def rest_timestamp(at_ms: int) -> str:
    """Write Unix milliseconds as REST requires them: ``2026-09-21T14:13:20.123Z``."""
    seconds, millis = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def rest_sign(credentials: Credentials, timestamp: str, method: str, target: str, body: str) -> str:
    """Sign one REST request.

    ``target`` is the path with its query string exactly as sent (without the query the exchange
    answers 50113), ``body`` the exact text of the body, ``""`` for a GET.
    """
    return _sign(credentials.secret_key, f"{timestamp}{method.upper()}{target}{body}")


def rest_headers(
    credentials: Credentials, at_ms: int, method: str, target: str, body: str
) -> dict[str, str]:
    """Return the headers that authenticate one REST request at ``at_ms`` (ms of the exchange's clock)."""
    timestamp = rest_timestamp(at_ms)
    return {
        "OK-ACCESS-KEY": credentials.api_key,
        "OK-ACCESS-SIGN": rest_sign(credentials, timestamp, method, target, body),
        "OK-ACCESS-TIMESTAMP": timestamp,
        "OK-ACCESS-PASSPHRASE": credentials.passphrase,
    }
