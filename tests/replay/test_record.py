"""Recording the exchange's frames without trading, from the simulated exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import trio

from oms_trio.okx.errors import LoginRejectedError
from oms_trio.replay.player import play
from oms_trio.replay.recordings.json_lines import FrameLine, SessionLine, read_line
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.recordings.recorder import record_frames
from oms_trio.replay.recordings.recording import RecordingError
from oms_trio.replay.report.summary import Summary
from oms_trio.settings.config import Config
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import serve


@asynccontextmanager
async def exchange_and_config(**changed: str) -> AsyncIterator[tuple[SimulatedExchange, Config]]:
    exchange = SimulatedExchange(mode=MatchingMode.MANUAL)
    account = exchange.account
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, exchange))
        environ = {
            "OKX_API_KEY": account.api_key,
            "OKX_SECRET_KEY": account.secret,
            "OKX_PASSPHRASE": account.passphrase,
            "OKX_WS_URL": f"ws://127.0.0.1:{port}/ws/v5/private",
            "OKX_REST_URL": f"http://127.0.0.1:{port}",
        }
        yield exchange, Config.from_environ({**environ, **changed})
        nursery.cancel_scope.cancel()


async def lines_in(path: Path, count: int) -> None:
    """Wait until the file has this many lines."""
    with trio.fail_after(10):
        while not path.exists() or path.read_bytes().count(b"\n") < count:  # noqa: ASYNC110, ASYNC240 - a file has no event
            await trio.sleep(0.01)


async def test_frames_of_both_directions_are_recorded_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    async with exchange_and_config() as (exchange, config):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(record_frames, config, path, None)
            await lines_in(path, 9)
            exchange.faults.cut()
            await lines_in(path, 19)
            nursery.cancel_scope.cancel()
        assert not exchange.ground_truth.orders()
        found = [read_line(line) for line in path.read_bytes().splitlines()]
        text = path.read_text()
        for secret in (exchange.account.secret, exchange.account.passphrase):
            assert secret not in text
    assert [line.up for line in found if isinstance(line, SessionLine)] == [True, False, True]
    frames = [line for line in found if isinstance(line, FrameLine)]
    assert [line.text for line in frames if line.out and "subscribe" in line.text]
    assert not [line.text for line in frames if '"login"' in line.text and line.out]
    summary = Summary()
    with open_recording(path) as recording:
        state = await play(recording, [summary])
    assert state.balance == Decimal(10000)
    assert summary.gaps.count == 2


async def test_rejected_login_that_repeats_the_request_shows_no_secret(tmp_path: Path) -> None:
    """The exchange repeats some rejected logins in its message."""
    path = tmp_path / "frames.jsonl"
    passphrase = 'a "quoted" pass\\phrase'
    async with exchange_and_config(OKX_PASSPHRASE=passphrase) as (_, config):
        with pytest.RaisesGroup(LoginRejectedError, flatten_subgroups=True):
            await record_frames(config, path, None)
    assert "60024" in path.read_text()
    assert "quoted" not in path.read_text()


async def test_recording_ends_after_its_seconds_and_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl.gz"
    async with exchange_and_config() as (_, config):
        await record_frames(config, path, 0.5)
    with open_recording(path) as recording:
        assert (await play(recording)).balance == Decimal(10000)


async def test_existing_recording_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text("precious")
    async with exchange_and_config() as (_, config):
        with pytest.raises(RecordingError, match="File exists"):
            await record_frames(config, path, 1.0)
    assert path.read_text() == "precious"
