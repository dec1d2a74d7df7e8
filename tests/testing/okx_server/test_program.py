"""The command `oms-trio sim`: what it prints, and its options."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trustme

from oms_trio.testing.okx_server.faults.kinds import FaultKind
from oms_trio.testing.okx_server.faults.plan import FaultPlan
from oms_trio.testing.okx_server.program import SimSettingsError, run_sim

SETTINGS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "balance": Decimal(500),
    "price": Decimal(50_000),
    "seed": 1,
}


async def uid_of(capsys: pytest.CaptureFixture[str], **settings: Any) -> str:
    """Start the command once and return the account that it serves."""
    async with (
        started(capsys, **settings) as (base, _),
        httpx.AsyncClient(base_url=base) as client,
    ):
        return str((await client.get("/sim/state")).json()["uid"])


async def test_every_start_has_a_new_account_unless_one_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = [await uid_of(capsys) for _ in range(2)]
    assert first != second
    assert len(first) == len(second) == 17
    assert await uid_of(capsys, uid=first) == first


@asynccontextmanager
async def started(
    capsys: pytest.CaptureFixture[str], **settings: Any
) -> AsyncIterator[tuple[str, str]]:
    """Run the command; yield the REST address that it printed, and its standard error."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_sim, **SETTINGS | settings))
        printed = complained = ""
        with trio.fail_after(10):
            while "OKX_API_KEY" not in printed:
                await trio.sleep(0.005)
                out, err = capsys.readouterr()
                printed, complained = printed + out, complained + err
        address = re.search(r"OKX_REST_URL=(\S+)", printed)
        assert address is not None
        yield address[1], complained + capsys.readouterr().err
        nursery.cancel_scope.cancel()


async def test_it_prints_where_it_serves_and_follows_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = tmp_path / "prices"
    prices.write_text("50100\n50200\n", encoding="utf-8")
    async with (
        started(capsys, prices_file=prices) as (base, _),
        httpx.AsyncClient(base_url=base) as client,
    ):
        state = (await client.get("/sim/state")).json()
        assert state["cashBal"] == "500"
        assert state["bid"] in {"50000", "50100"}
        with trio.fail_after(5):
            while state["bid"] != "50200":
                await trio.sleep(0.02)
                state = (await client.get("/sim/state")).json()


async def test_a_plan_is_printed_before_it_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    plan = FaultPlan(3, {FaultKind.DROP_ACK: 1.0}, 600)
    async with started(capsys, plan=plan) as (_, complained):
        assert complained.startswith(str(plan))


async def test_tls_is_served_with_the_certificate_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        started(capsys, tls=(chain, key)) as (base, _),
        httpx.AsyncClient(base_url=base, verify=trusting) as client,
    ):
        assert base.startswith("https://")
        assert (await client.get("/api/v5/public/time")).json()["code"] == "0"


@pytest.mark.parametrize("option", ["tls", "prices_file", "ground_truth_file"])
async def test_a_file_that_cannot_be_used_is_named(option: str, tmp_path: Path) -> None:
    file = tmp_path / "words"
    file.write_text("up, up and away\n", encoding="utf-8")
    value = {"tls": (file, file), "prices_file": file, "ground_truth_file": file / "log"}[option]
    with pytest.raises(SimSettingsError, match="words"):
        await run_sim(**SETTINGS | {option: value})
