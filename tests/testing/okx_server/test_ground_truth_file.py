"""The ground truth on disk is complete even if the process is killed; and reading price files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import trio

from oms_trio.settings.clock import system_clock
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.ground_truth import GroundTruth
from oms_trio.testing.okx_server.program import SimSettingsError, read_prices
from tests.testing.okx_server.clients import headers_for, net_exchange, order_args

ORDER = {
    "instId": "BTC-USDT-SWAP",
    "tdMode": "cross",
    "side": "buy",
    "ordType": "limit",
    "px": "66900",
    "sz": "2",
}


def test_every_line_is_written_before_listeners_are_called() -> None:
    written: list[bytes] = []
    exchange = net_exchange(ground_truth=GroundTruth(keep=False, sink=written.append))
    seen: list[int] = []
    with exchange.engine.listening(lambda _: seen.append(len(written))):
        exchange.place(order_args(clOrdId="a"), lambda *_: None)
        exchange.fill("a", Decimal(1), Decimal(66_900))
    assert seen[0] == 1
    assert seen[-1] == 2
    assert [json.loads(line)["state"] for line in written] == ["live", "filled"]
    assert exchange.ground_truth.dump() == b""


def test_the_file_has_what_the_log_has() -> None:
    written: list[bytes] = []
    exchange = net_exchange(ground_truth=GroundTruth(sink=written.append))
    exchange.place(order_args(clOrdId="a"), lambda *_: None)
    exchange.fill("a", Decimal("0.5"), Decimal(66_900))
    assert b"".join(written) == exchange.ground_truth.dump()


async def test_what_a_killed_exchange_has_published_is_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "truth.jsonl"
    command = [sys.executable, "-m", "oms_trio", "sim", "--port", "0", "--manual"]
    process = await trio.lowlevel.open_process(
        [*command, "--ground-truth", str(file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    with trio.fail_after(20):
        said = b""
        while b"OKX_API_KEY" not in said:
            said += await process.stdout.receive_some()
    base = said.decode().split("OKX_REST_URL=")[1].split()[0]
    account = ExchangeAccount()
    async with httpx.AsyncClient(base_url=base) as client:

        async def post(path: str, **body: str) -> str:
            target, sent = f"/api/v5{path}", json.dumps(body)
            headers = headers_for(account, "POST", target, sent, system_clock() // 1_000_000)
            answer = await client.post(target, content=sent, headers=headers)
            return str(answer.json()["code"])

        assert await post("/account/set-position-mode", posMode="net_mode") == "0"
        assert await post("/trade/order", clOrdId="a", **ORDER) == "0"
        fill = {"order": "a", "sz": "0.5", "px": "66900"}
        assert (await client.post("/sim/fill", json=fill)).status_code == 200
        returned = (await client.get("/sim/ground-truth")).content
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert file.read_bytes() == returned
    states = [json.loads(line)["state"] for line in returned.splitlines()]
    assert states == ["live", "partially_filled"]


def test_prices_are_read_one_per_line(tmp_path: Path) -> None:
    file = tmp_path / "prices"
    file.write_text("# recorded\n67000\n\n67001.5\n", encoding="utf-8")
    assert read_prices(file) == [Decimal(67_000), Decimal("67001.5")]
    file.write_text("67000\nup\n", encoding="utf-8")
    with pytest.raises(SimSettingsError, match="line 2: 'up'"):
        read_prices(file)
