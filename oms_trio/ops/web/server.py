"""Serves the pages from inside the service's nursery, and never takes it down."""

from __future__ import annotations

import socket
from functools import partial
from typing import Final

from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.applications import Starlette

from oms_trio.ops.bounded_server import serve_bounded

AT_ONCE: Final = 32
"""Connections open at once: a few browsers with their open pages, Prometheus, health checks."""

IDLE_S: Final = 5.0
"""How long a connection may take for the head of a request, and stay open after an answer."""


def listen(host: str, port: int, setting: str = "OMS_HTTP") -> socket.socket:
    """Open the socket before the service begins, so that a port that is taken is told at once.

    Raises:
        OSError: the address cannot be used; the text names the ``setting`` that it came from.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(64)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        why = f"{setting}={host}:{port} cannot be used: {error.strerror}; choose another, or off"
        raise OSError(error.errno, why) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Return where a browser finds the page."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


async def serve_http(listener: socket.socket, app: Starlette) -> None:
    """Serve for ever; ends only by cancellation or a crash of the server itself."""
    config = HypercornConfig()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024
    config.keep_alive_timeout = IDLE_S
    # What ``hypercorn.trio.serve`` does, but that it would accept any number of connections.
    asgi = wrap_app(app, config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type] # Starlette is ASGI
    handle = partial(TCPServer, asgi, config, WorkerContext(None), ConnectionState({}))
    await serve_bounded(listener, handle, AT_ONCE)
