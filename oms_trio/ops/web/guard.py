"""Which requests are served: protection against DNS rebinding and cross-site commands."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen
class ErrorResponse:
    """An HTTP error status, and one line that says why."""

    status: int
    message: str


def check_host(host: str, listening: str) -> ErrorResponse | None:
    """Return an error for a ``Host`` header that is not this machine.

    A web site can have its own name resolve to this machine and read this page as if it were its
    own (DNS rebinding). It cannot do so with an address, or with a local name, which has no dot.
    """
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]").lower()
    if name and ("." not in name or name == listening.lower()):
        return None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return ErrorResponse(421, f"this server is not {name}: use its address, or an SSH tunnel")
    return None


READ_ONLY_PAGE: Final = "this page is read-only: set OMS_HTTP_TOKEN, or use oms-trio ctl"


def check_control(
    headers: Mapping[str, str], token: str | None, without_token: str = READ_ONLY_PAGE
) -> ErrorResponse | None:
    """Return an error for a command that is cross-site or lacks the token.

    ``without_token`` is the message where no ``token`` is set.
    """
    if token is None:
        return ErrorResponse(403, without_token)
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    same_origin = origin is None or origin == f"http://{headers.get('host', '')}"
    if site not in {None, "same-origin", "none"} or not same_origin:
        return ErrorResponse(403, "commands from other web sites are forbidden")
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
        return ErrorResponse(401, "the token is missing or wrong")
    return None
