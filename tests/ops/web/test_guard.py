"""Who may ask and who may steer, as a table."""

from __future__ import annotations

import pytest

from oms_trio.ops.web.guard import refuse_control, refuse_host

TOKEN = "0123456789abcdef"
GOOD = {"host": "127.0.0.1:9464", "authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9464",
        "localhost:80",
        "LOCALHOST",
        "[::1]:80",
        "[::1]",
        "oms.lan:1",
        "oms-trio:80",
    ],
)
def test_addresses_and_our_own_names_are_served(host: str) -> None:
    assert refuse_host(host, "oms.lan") is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", ""]
)
def test_any_other_name_may_be_a_rebound_one(host: str) -> None:
    refusal = refuse_host(host, "127.0.0.1")
    assert refusal is not None
    assert refusal.status == 421


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:9464"},
        {"sec-fetch-site": "none"},
        {"authorization": f"bearer {TOKEN}"},
    ],
)
def test_who_has_the_token_and_is_no_other_site_may_steer(more: dict[str, str]) -> None:
    assert refuse_control(GOOD | more, TOKEN) is None


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": "Bearer \u00e9"}, 401),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://127.0.0.1:9464"}, 403),
        ({"origin": "http://127.0.0.1:9465"}, 403),
    ],
)
def test_anybody_else_may_not(more: dict[str, str], status: int) -> None:
    refusal = refuse_control(GOOD | more, TOKEN)
    assert refusal is not None
    assert refusal.status == status


def test_without_a_token_nobody_may() -> None:
    refusal = refuse_control(GOOD, None)
    assert refusal is not None
    assert refusal.status == 403
