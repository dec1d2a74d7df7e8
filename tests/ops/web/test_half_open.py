"""Connections that send or read nothing delay the page, and nothing else."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from oms_trio.ops.control.protocol import SOCKET
from oms_trio.ops.web.server import AT_ONCE
from tests.amqp.proxy import open_proxy
from tests.rabbitmq import RabbitNode
from tests.service.programs import (
    PATIENCE_S,
    broker_at,
    environment,
    exchange_at,
    running,
    simulated_exchange,
)
from tests.service.station import Station, serving

DESCRIPTORS = 200
HALF_OPEN = 300


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.rabbitmq
async def test_half_open_connections_leave_descriptors_for_the_exchange(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    """There are more of them than the process may open files, and then the session is lost."""
    page = free_port()
    (tmp_path / "sim").mkdir()
    with ExitStack() as stack:
        settings = stack.enter_context(simulated_exchange(tmp_path / "sim"))
        port = int(settings["OKX_REST_URL"].rpartition(":")[2])
        async with open_proxy(port) as exchange:
            env = environment(
                tmp_path,
                **exchange_at(exchange.port),
                **broker_at(rabbitmq_node.port),
                OMS_HTTP=f"127.0.0.1:{page}",
                OMS_STATE_DIR=str(tmp_path / "state"),
            )
            service = stack.enter_context(running("run", env=env, output=tmp_path / "log"))
            await trio.to_thread.run_sync(service.wait_for, r"\bready\b")
            limits = (DESCRIPTORS, DESCRIPTORS)
            resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, limits)
            for number in range(HALF_OPEN):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", page))
                if number % 2:
                    await trio.sleep(0.002)
                    with suppress(OSError):  # not connected yet, or not any more
                        client.send(b"GET / HTTP/1.1\r\nHost: 127.")
            control = str(tmp_path / "state" / SOCKET)
            for _ in range(HALF_OPEN):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect_ex(control)
            await trio.sleep(0.5)
            held = descriptors(service.process.pid)
            exchange.cut()
            with trio.fail_after(6):
                wait = partial(service.wait_for, r"\bokx_session_ready\b", 2)
                await trio.to_thread.run_sync(wait)
            assert held < DESCRIPTORS - 50, "descriptors are left, not by luck"
            ended = await trio.to_thread.run_sync(service.stop)
            assert (ended.code, ended.seconds < 5) == (0, True)


async def connected(station: Station, request: bytes) -> trio.SocketStream:
    where = urlsplit(station.url)
    assert where.hostname is not None
    assert where.port is not None
    stream = await trio.open_tcp_stream(where.hostname, where.port)
    stream.setsockopt(6, 10, 4096)  # TCP_WINDOW_CLAMP: the kernel takes little for us
    await stream.send_all(request)
    return stream


async def test_pages_that_never_read_do_not_delay_the_stop(tmp_path: Path) -> None:
    """A laptop was suspended with the page open: its connection stays until it times out."""
    request = b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with serving(tmp_path) as station:
        stuck = [await connected(station, request * 2000) for _ in range(4)]
        await trio.sleep(1)
        began = trio.current_time()
    assert trio.current_time() - began < 5
    for stream in stuck:
        await stream.aclose()


async def test_silent_connections_are_closed_for_others(tmp_path: Path) -> None:
    async with serving(tmp_path) as station:
        silent = [await connected(station, b"GET /st") for _ in range(AT_ONCE)]
        async with httpx.AsyncClient(base_url=station.url, timeout=PATIENCE_S) as client:
            answer = await client.get("/healthz")
        assert answer.status_code == 200
        for stream in silent:
            await stream.aclose()
