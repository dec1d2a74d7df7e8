"""The control socket: its permissions, its answers, and that no request can harm the service."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from oms_trio.cli import main
from oms_trio.core.events import Verb
from oms_trio.ops.control.client import ControlError, ask
from oms_trio.ops.control.protocol import SOCKET, listen
from oms_trio.ops.control.server import REQUEST_S, serve_control
from tests.service.station import serving


class TestError(Exception):
    """Raised by commands of a test."""

    __test__ = False


@contextmanager
def another_user() -> Iterator[None]:
    """Access files as another user, in this thread; only root can."""
    libc = ctypes.CDLL(None)
    libc.setfsuid(65534)
    try:
        yield
    finally:
        libc.setfsuid(0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_socket_and_folder_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with serving(tmp_path) as station:
            assert mode(station.state_dir) == 0o700
            assert mode(station.state_dir / SOCKET) == 0o600
        assert not (station.state_dir / SOCKET).exists()
    finally:
        os.umask(before)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_connect() -> None:
    """Not even when the folder is open to all: the socket has permissions of its own."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    try:
        with listen(folder):
            for allowed, user in ((True, nullcontext()), (False, another_user())):
                with socket.socket(socket.AF_UNIX) as client, user:
                    outcome = nullcontext() if allowed else pytest.raises(PermissionError)
                    with outcome:
                        client.connect(str(folder / SOCKET))
    finally:
        shutil.rmtree(folder)


async def test_a_socket_that_a_killed_service_left_behind_is_replaced(tmp_path: Path) -> None:
    listen(tmp_path).close()
    assert (tmp_path / SOCKET).exists()
    with listen(tmp_path):
        pass


async def test_the_state_folder_may_be_deeper_than_a_socket_address_is_long(tmp_path: Path) -> None:
    async with serving(tmp_path / ("x" * 60) / ("y" * 60)) as station:
        assert (await station.ask("status"))["instrument"] == "BTC-USDT-SWAP"


async def test_an_answer_comes_when_the_command_is_on_disk(tmp_path: Path) -> None:
    """A process that is killed right after the answer starts paused."""
    with trio.CancelScope() as killed:
        async with serving(tmp_path) as station:
            await station.ask("pause")
            killed.cancel()
            await trio.sleep_forever()
    async with serving(tmp_path) as station:
        controls = (await station.ask("status"))["controls"]
        assert controls["paused"].startswith(f"pause by uid {os.getuid()} (pid {os.getpid()})")


async def _fine(_verb: Verb, _by: str) -> None:
    await trio.lowlevel.checkpoint()


async def _failing(_verb: Verb, _by: str) -> None:
    await trio.lowlevel.checkpoint()
    raise TestError("not now")


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (b'{"ask":"status"}\n', b'{"ok":true,"status":{}}\n'),
        (b'{"ask":"pause"}\n', b'{"ok":true}\n'),
        (b'{"ask":"pau', b"truncated"),
        (b'{"ask":"explode"}\n', b"'explode' is not a valid Verb"),
        (b"\x00\xff\n", b'"ok":false'),
        (b"[" * 100_000, b'"ok":false'),
        (b"", b'"ok":false'),
    ],
)
async def test_every_request_is_answered(
    tmp_path: Path, request_line: bytes, answer: bytes
) -> None:
    async with trio.open_nursery() as nursery:
        with listen(tmp_path) as listener:
            serve = partial(serve_control, status=lambda: b"{}", command=_fine, failure=TestError)
            nursery.start_soon(serve, listener)
            async with await trio.open_unix_socket(str(tmp_path / SOCKET)) as stream:
                try:
                    await stream.send_all(request_line)
                    await stream.send_eof()
                except trio.BrokenResourceError:
                    pass  # it answered before it read everything
                received = b""
                try:
                    async for part in stream:
                        received += part
                except trio.BrokenResourceError:
                    pass  # unread bytes make the kernel reset the connection
                assert answer in received
            nursery.cancel_scope.cancel()


async def test_an_error_is_one_line(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        with listen(tmp_path) as listener:
            serve = partial(serve_control, status=lambda: None, command=_failing, failure=TestError)
            nursery.start_soon(serve, listener)
            for what, why in (("kill", "not now"), ("status", "the service is starting")):
                with pytest.raises(ControlError, match=why):
                    await ask(tmp_path, what)
            nursery.cancel_scope.cancel()


async def test_silent_clients_do_not_keep_others_out_for_good(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        with listen(tmp_path) as listener:
            serve = partial(serve_control, status=lambda: b"{}", command=_fine, failure=TestError)
            nursery.start_soon(serve, listener)
            silent = [socket.socket(socket.AF_UNIX) for _ in range(16)]
            for connection in silent:
                connection.connect(str(tmp_path / SOCKET))
            assert await ask(tmp_path, "status") == b"{}"
            for connection in silent:
                connection.close()
            nursery.cancel_scope.cancel()
    assert autojump_clock.current_time() == REQUEST_S


async def test_without_a_service_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="--state-dir"):
        await ask(tmp_path, "status")


async def test_the_commands_of_the_terminal(tmp_path: Path) -> None:
    async with serving(tmp_path) as station:
        station.act(1)
        await station.orders(1)
        await station.until(lambda status: status["orders"]["open"])
        where = ["--state-dir", str(station.state_dir)]

        async def run(*arguments: str) -> tuple[int, str]:
            def call() -> tuple[int, str]:
                result = CliRunner().invoke(main, [*arguments, *where])
                return result.exit_code, result.output

            return await trio.to_thread.run_sync(call)

        code, text = await run("status")
        assert code == 0
        assert "TAKING ACTIONS" in text
        assert "BTC-USDT-SWAP" in text
        code, text = await run("status", "--json")
        assert '"can_control": false' in text
        code, text = await run("ctl", "kill")
        assert (code, text.splitlines()[-1]) == (0, "kill: done, and on disk")
        code, text = await run("status")
        assert (code, "PAUSED  kill by uid" in text) == (0, True)
        code, text = await run("ctl", "explode")
        assert code == 2


def test_no_service_is_one_line_and_exit_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["status", "--state-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith(f"oms-trio: no service runs in {tmp_path}")
