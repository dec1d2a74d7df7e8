"""Who may ask, and who may steer."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen
class Refusal:
    """An HTTP status, and one line for whoever reads it."""

    status: int
    why: str


def refuse_host(host: str, listening: str) -> Refusal | None:
    """Refuse names that are not ours.

    A web site can have its own name resolve to this machine and read what is here as if it were
    its own page (DNS rebinding); with an address, or a local name (it has no dot), it cannot.
    """
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]").lower()
    if name and ("." not in name or name == listening.lower()):
        return None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return Refusal(421, f"this is not {name}: use an address, or an SSH tunnel")
    return None


SHOWS_ONLY: Final = "this page only shows: set OMS_HTTP_TOKEN, or use oms-trio ctl"


def refuse_control(
    headers: Mapping[str, str], token: str | None, without: str = SHOWS_ONLY
) -> Refusal | None:
    """Refuse a command that does not come from an operator with the token.

    ``without`` is what to tell where there is no token.
    """
    if token is None:
        return Refusal(403, without)
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    same_origin = origin is None or origin == f"http://{headers.get('host', '')}"
    if site not in {None, "same-origin", "none"} or not same_origin:
        return Refusal(403, "commands from other sites are refused")
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
        return Refusal(401, "the token is missing or wrong")
    return None
