"""The socket of a connection: closed, lost and aborted, in any order."""

from __future__ import annotations

import asyncio
import socket

from oms_trio.amqp.connection import Transport
from oms_trio.amqp.settings import BrokerSettings

MUCH = 50_000_000
"""More bytes than fit into the sockets' buffers."""


def test_a_connection_that_is_lost_after_its_close_can_still_be_aborted() -> None:
    """It is closed with a full buffer, which the broker then reads completely, as after an alarm."""

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
            transport.abort()

    asyncio.run(run())


def test_aborting_discards_unsent_data() -> None:
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
            transport.abort()
            await writer.wait_closed()
            transport.abort()

    asyncio.run(run())


def test_a_transport_that_was_never_opened_can_be_aborted() -> None:
    Transport(BrokerSettings(), None).abort()
