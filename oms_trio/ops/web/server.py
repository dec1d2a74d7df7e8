"""Serves the status page with Hypercorn, inside the service's nursery."""

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
"""Connections at a time: a few browsers, Prometheus, health checks."""

IDLE_S: Final = 5.0
"""How long a connection may take to send a request's head, or stay open after an answer."""


def listen(host: str, port: int, setting: str = "OMS_HTTP") -> socket.socket:
    """Open the socket before the service starts, so that a port in use is reported at once.

    Raises:
        OSError: the address cannot be used; the text names the ``setting`` it came from.
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
        why = f"{setting}={host}:{port} cannot be used: {error.strerror}; choose another address, or off"
        raise OSError(error.errno, why) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the page's URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


async def serve_http(listener: socket.socket, app: Starlette) -> None:
    """Serve until cancelled; an exception that escapes is a bug of the server."""
    config = HypercornConfig()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024
    config.keep_alive_timeout = IDLE_S
    # As ``hypercorn.trio.serve``, which would accept any number of connections.
    asgi = wrap_app(app, config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type] # Starlette is ASGI
    handle = partial(TCPServer, asgi, config, WorkerContext(None), ConnectionState({}))
    await serve_bounded(listener, handle, AT_ONCE)
