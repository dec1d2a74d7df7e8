"""The pages of a running service."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from oms_trio.ops.web.server import listen, url_of
from oms_trio.ops.web.site import PAGES_MAX
from oms_trio.settings.logs import configure
from tests.service.station import Station, serving

TOKEN = "a-token-of-the-test"
COUNTED = "oms_fill_to_publish_seconds_count"


@asynccontextmanager
async def page(station: Station) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=station.url) as client:
        yield client


async def metrics(client: httpx.AsyncClient) -> dict[str, Metric]:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    for family in families.values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise AssertionError(f"no {name} {labels}")


async def test_health_and_readiness(tmp_path: Path) -> None:
    async with serving(tmp_path) as station, page(station) as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert ready.text == "taking actions; position 0, 0 open orders\n"


async def test_metrics_pass_prometheus_own_parser_and_count_what_happened(tmp_path: Path) -> None:
    serve_it = serving(tmp_path, OMS_MAX_ORDER_CONTRACTS="1")
    async with serve_it as station, page(station) as client:
        station.act(1)
        order = (await station.orders(1))[0]
        station.act(2, volume=5)
        assert (await station.heard())["reason"] == "margin_cap"
        station.exchange.fill(order.ord_id, Decimal(1), Decimal(67000))
        assert (await station.heard())["state_id"] == 1
        await station.until(lambda status: status["counts"].get("executions"))
        with trio.fail_after(10):  # what is confirmed is counted a moment later
            while not value(seen := await metrics(client), COUNTED):  # noqa: ASYNC110 - it is polled
                await trio.sleep(0.02)
    assert value(seen, "oms_actions_total") == 2
    assert value(seen, "oms_orders_total") == 1
    assert value(seen, "oms_refusals_total", reason="margin_cap") == 1
    assert value(seen, "oms_controls_acted_total", control="max_order_size") == 1
    assert value(seen, "oms_executions_total") == 1
    assert value(seen, "oms_position_contracts") == 1
    assert value(seen, "oms_position_unexplained") == 0
    assert value(seen, "oms_ready") == 1
    assert value(seen, "oms_unknown_orders") == 0
    for name in ("action_to_order", "order_to_ack", "fill_to_publish"):
        assert value(seen, f"oms_{name}_seconds_count") == 1
        assert 0 < value(seen, f"oms_{name}_seconds_sum") < 10
    for name in ("journal_commit", "broker_confirm", "loop_lag"):
        assert value(seen, f"oms_{name}_seconds_count") >= 1
    assert 0 <= value(seen, "oms_last_reconciliation_age_seconds") < 10


async def test_every_metric_is_explained(tmp_path: Path) -> None:
    async with serving(tmp_path) as station, page(station) as client:
        for family in (await metrics(client)).values():
            assert family.documentation or family.name.endswith("_created"), family.name


async def test_the_page_lets_nothing_in_from_outside(tmp_path: Path) -> None:
    async with serving(tmp_path) as station, page(station) as client:
        answer = await client.get("/")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert policy.count("'sha256-") == 2
        assert "frame-ancestors 'none'" in policy
        assert not re.findall(r"""(?:src|href)=["'](?!data:)""", answer.text)
        assert not re.findall(r"https?://", answer.text)
        for path in ("/", "/status", "/metrics", "/nothing"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"


async def test_a_name_that_was_rebound_to_this_machine_sees_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as station, page(station) as client:
        for path in ("/", "/status", "/metrics", "/events"):
            answer = await client.get(path, headers={"Host": "evil.example"})
            assert answer.status_code == 421
            assert "position" not in answer.text


async def test_without_a_token_the_page_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as station, page(station) as client:
        for headers in ({}, {"Authorization": "Bearer None"}):
            answer = await client.post("/control/pause", headers=headers)
            assert answer.status_code == 403
        for method in ("GET", "PUT", "DELETE"):
            assert (await client.request(method, "/control/pause")).status_code == 405
            assert method == "GET" or (await client.request(method, "/status")).status_code == 405
        status = (await client.get("/status")).json()
        assert (status["controls"]["paused"], status["can_control"]) == (None, False)


async def test_with_the_token_it_steers_and_other_sites_do_not(tmp_path: Path) -> None:
    async with serving(tmp_path, OMS_HTTP_TOKEN=TOKEN) as station, page(station) as client:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        wrong = await client.post("/control/pause", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        for foreign in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "http://evil.example"},
        ):
            refused = await client.post("/control/pause", headers=bearer | foreign)
            assert refused.status_code == 403
        assert (await client.get("/status")).json()["controls"]["paused"] is None
        assert (await client.post("/control/explode", headers=bearer)).status_code == 404
        done = await client.post("/control/pause", headers=bearer)
        assert (done.status_code, done.json()) == (200, {"done": "pause"})
        status = (await client.get("/status")).json()
        assert status["controls"]["paused"] == "pause by http 127.0.0.1"


async def test_no_secret_is_on_any_surface(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure("console", "debug")
    async with serving(tmp_path, OMS_HTTP_TOKEN=TOKEN) as station, page(station) as client:
        account = station.exchange.account
        station.act(1)
        await station.orders(1)
        await client.post("/control/pause", headers={"Authorization": "Bearer wrong-token-here"})
        await client.post("/control/pause", headers={"Authorization": f"Bearer {TOKEN}"})
        surfaces = [
            (await client.get(path)).text for path in ("/", "/status", "/metrics", "/readyz")
        ]
        surfaces.append(json.dumps(await station.ask("status")))
        log = capfd.readouterr()
        surfaces += [log.out, log.err]
        journal = b"".join(
            file.read_bytes() for file in station.state_dir.glob("journal.sqlite*")
        ).decode("latin-1")
        for secret in (account.secret, account.passphrase, TOKEN, "wrong-token-here"):
            assert not any(secret in surface for surface in surfaces)
            assert secret not in journal


async def opened(station: Station) -> trio.SocketStream:
    """Open a page's stream, and read nothing of it."""
    where = urlsplit(station.url)
    assert where.hostname is not None
    assert where.port is not None
    stream = await trio.open_tcp_stream(where.hostname, where.port)
    stream.setsockopt(6, 10, 4096)  # TCP_WINDOW_CLAMP: the kernel takes little for us
    await stream.send_all(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return stream


async def test_an_open_page_is_told_of_changes(tmp_path: Path) -> None:
    async with serving(tmp_path) as station, await opened(station) as stream:
        heard, orders = b"", list[int]()
        with trio.fail_after(10):
            while not orders or orders[-1] < 2:
                heard += await stream.receive_some()
                told = re.findall(rb"^data: (.*)\r?\n\r?$", heard, re.MULTILINE)
                orders = [json.loads(status)["orders"]["open"] for status in told]
                if len(orders) > station.broker.depth:
                    station.act(len(orders))
        assert b"content-type: text/event-stream" in heard
        assert orders[0] == 0


async def test_pages_that_never_read_hold_up_nobody_and_cannot_be_many(tmp_path: Path) -> None:
    """Their connections fill, and stay filled; orders go on as fast as before."""
    async with serving(tmp_path) as station, page(station) as client:
        stuck = [await opened(station) for _ in range(PAGES_MAX)]
        with trio.fail_after(10):
            while (await client.get("/events")).status_code != 503:  # noqa: ASYNC110 - it is polled
                await trio.sleep(0.05)
        began = time.perf_counter()
        for number in range(50):
            station.act(number + 1, volume=0.066)
        await station.orders(50)
        # The exchange takes 60 in 2 s: less than that is no delay. Far more would be one.
        assert time.perf_counter() - began < 8
        for stream in stuck:
            await stream.aclose()
        with trio.fail_after(10):
            heard = b""
            while b"HTTP/1.1 200" not in heard:
                async with await opened(station) as again:
                    heard = await again.receive_some(100)
                await trio.sleep(0.05)


async def test_a_port_that_is_taken_is_said_before_anything_begins() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"OMS_HTTP=127.0.0.1:{port} cannot be used"):
            listen("127.0.0.1", port)


def test_urls_of_both_families() -> None:
    with listen("127.0.0.1", 0) as four:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url_of(four))
    with listen("::1", 0) as six:
        assert re.fullmatch(r"http://\[::1\]:\d+/", url_of(six))
