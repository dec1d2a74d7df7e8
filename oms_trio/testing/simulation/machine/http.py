"""httpx on the simulated network: with its own transport and pool, only the sockets are simulated."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import httpcore
import httpx
import trio

from oms_trio.testing.simulation.machine.network import NetworkStream

Dial = Callable[[str], NetworkStream]
"""Connects to the exchange and returns the client's end; the argument is the kind of connection."""

CONNECTIONS = 8

_UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""No connection here uses TLS, and loading the machine's certificates would take as long as a start."""


def open_transport(dial: Dial) -> httpx.AsyncHTTPTransport:
    """Return httpx's own transport on connections that ``dial`` makes.

    Idle connections do not expire, since httpcore reads their age from the machine's clock, which a
    simulation must not depend on.
    """
    transport = httpx.AsyncHTTPTransport(verify=_UNUSED)
    transport._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001 - httpx has no parameter for a network backend
        max_connections=CONNECTIONS, keepalive_expiry=None, network_backend=_Backend(dial)
    )
    return transport


@contextmanager
def _translated(
    broken: type[Exception], late: type[Exception], timeout: float | None
) -> Iterator[None]:
    try:
        with trio.fail_after(float("inf") if timeout is None else timeout):
            yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise broken(repr(error)) from error
    except trio.TooSlowError as error:
        raise late("timed out") from error


@attrs.define(eq=False)
class _Backend(httpcore.AsyncNetworkBackend):
    dial: Dial

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - there is one exchange
        port: int,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - httpcore's interface
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        return _Stream(self.dial("rest"))


@attrs.define(eq=False)
class _Stream(httpcore.AsyncNetworkStream):
    end: NetworkStream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's interface
        with _translated(httpcore.ReadError, httpcore.ReadTimeout, timeout):
            return await self.end.receive_some(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - likewise
        with _translated(httpcore.WriteError, httpcore.WriteTimeout, timeout):
            await self.end.send_all(buffer)

    async def aclose(self) -> None:
        await self.end.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - likewise
    ) -> httpcore.AsyncNetworkStream:
        raise NotImplementedError("the simulated network has no TLS")

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's interface
        return self.end.readable if info == "is_readable" else None
