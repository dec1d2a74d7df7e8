"""Serves the pages from inside the service's nursery, and never takes it down."""

from __future__ import annotations

import os
import socket

import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve
from starlette.applications import Starlette

log = structlog.get_logger()


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
    # It closes what it is given, and may have to be started again.
    config.bind = [f"fd://{os.dup(listener.fileno())}"]
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024
    # Whoever says nothing is let go soon: connections cost descriptors that trading needs as well.
    config.keep_alive_timeout = 10
    # Signals are the service's: without a trigger hypercorn would take them itself.
    await serve(app, config, shutdown_trigger=trio.sleep_forever, mode="asgi")  # type: ignore[arg-type] # Starlette is ASGI
