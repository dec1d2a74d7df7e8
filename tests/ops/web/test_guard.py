"""Which requests are served and which commands are accepted, as tables."""

from __future__ import annotations

import pytest

from oms_trio.ops.web.guard import check_control, check_host

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
def test_addresses_and_local_names_are_served(host: str) -> None:
    assert check_host(host, "oms.lan") is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", ""]
)
def test_any_other_name_is_an_error_since_it_may_be_rebound(host: str) -> None:
    error = check_host(host, "127.0.0.1")
    assert error is not None
    assert error.status == 421


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:9464"},
        {"sec-fetch-site": "none"},
        {"authorization": f"bearer {TOKEN}"},
    ],
)
def test_a_command_with_the_token_from_the_same_site_is_accepted(more: dict[str, str]) -> None:
    assert check_control(GOOD | more, TOKEN) is None


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
def test_any_other_command_is_an_error(more: dict[str, str], status: int) -> None:
    error = check_control(GOOD | more, TOKEN)
    assert error is not None
    assert error.status == status


def test_without_a_token_every_command_is_an_error() -> None:
    error = check_control(GOOD, None)
    assert error is not None
    assert error.status == 403
