"""The socket under a link: closed, lost and cut, in any order."""

from __future__ import annotations

import asyncio
import socket

from oms_trio.amqp.connection import Transport
from oms_trio.amqp.settings import BrokerSettings

MUCH = 50_000_000
"""More than the sockets' buffers hold."""


def test_a_connection_that_is_lost_after_its_close_can_still_be_cut() -> None:
    """Closed with a full buffer, which the broker then reads to its end, as after an alarm."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            port = server.getsockname()[1]
            transport = Transport(BrokerSettings(host="127.0.0.1", port=port), None)
            _, writer = await transport.create()
            peer, _ = await loop.sock_accept(server)
        with peer:
            writer.write(b"x" * MUCH)
            writer.close()
            left = MUCH
            while left:
                left -= len(await loop.sock_recv(peer, 1 << 20))
            await writer.wait_closed()
            transport.cut()

    asyncio.run(run())


def test_a_cut_drops_what_was_not_sent() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            port = server.getsockname()[1]
            transport = Transport(BrokerSettings(host="127.0.0.1", port=port), None)
            _, writer = await transport.create()
            peer, _ = await loop.sock_accept(server)
        with peer:
            writer.write(b"x" * MUCH)
            transport.cut()
            await writer.wait_closed()
            transport.cut()

    asyncio.run(run())


def test_what_was_never_opened_can_be_cut() -> None:
    Transport(BrokerSettings(), None).cut()
