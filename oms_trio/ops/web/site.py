"""The HTTP routes: page, health, metrics, status, its event stream, and commands with the token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import structlog
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from oms_trio.core.events import Verb
from oms_trio.ops.metrics import CONTENT_TYPE, Metrics
from oms_trio.ops.status import Status, encode_status
from oms_trio.ops.web.guard import READ_ONLY_PAGE, check_control, check_host
from oms_trio.ops.web.pages import HEADERS, PAGE

log = structlog.get_logger()

PUSH_EVERY_S = 0.5
"""How often an open page gets the status. Each time the present status is sent, so nothing queues
up for a slow page."""

PAGES_MAX = 8
"""Event streams at a time; each costs about a millisecond of processor time a second."""


@attrs.frozen
class Site:
    """What the routes show and do. ``command`` raises ``failure`` with one line for the operator.

    Without a ``token`` commands are forbidden, with the message ``without_token``.
    """

    status: Callable[[], Status | None]
    metrics: Metrics
    command: Callable[[Verb, str], Awaitable[None]]
    failure: type[Exception]
    token: str | None
    host: str
    without_token: str = READ_ONLY_PAGE

    def app(self) -> Starlette:
        """Return the ASGI application."""
        views = _Views(self)
        routes = [
            Route("/", views.page),
            Route("/healthz", views.healthz),
            Route("/readyz", views.readyz),
            Route("/metrics", views.metrics),
            Route("/status", views.status),
            Route("/events", views.events),
            Route("/control/{verb}", views.control, methods=["POST"]),
        ]
        return Starlette(routes=routes, middleware=[Middleware(_Guard, self.host)])


@attrs.frozen
class _Guard:
    """Middleware that checks the ``Host`` header and adds the security headers to every answer."""

    app: ASGIApp
    host: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                assert isinstance(headers, list)
                headers += [
                    (name.lower().encode(), text.encode()) for name, text in HEADERS.items()
                ]
            await send(message)

        error = check_host(Request(scope).headers.get("host", ""), self.host)
        app = self.app
        if error is not None:
            app = PlainTextResponse(error.message + "\n", error.status)
        try:
            await app(scope, receive, send_with_headers)  # type: ignore[arg-type] # messages are dicts
        except ClientDisconnect:
            log.debug("http_client_left", path=scope["path"])
        except Exception:
            # The server answers 500 without logging it: its own log is off.
            log.exception("http_request_failed", path=scope["path"])
            raise


@attrs.define
class _Views:
    site: Site
    open_pages: int = 0

    async def page(self, _request: Request) -> Response:
        return HTMLResponse(PAGE)

    async def healthz(self, _request: Request) -> Response:
        """200 when the event loop runs and the first input has been applied."""
        alive = self.site.status() is not None
        return PlainTextResponse("ok\n" if alive else "starting\n", 200 if alive else 503)

    async def readyz(self, _request: Request) -> Response:
        """200 while actions are taken from the queue."""
        status = self.site.status()
        if status is None:
            return PlainTextResponse("starting\n", 503)
        return PlainTextResponse(status.line + "\n", 200 if status.ready else 503)

    async def metrics(self, _request: Request) -> Response:
        status = self.site.status()
        if status is None:
            return PlainTextResponse("starting\n", 503)
        return Response(self.site.metrics.exposition(status), media_type=CONTENT_TYPE)

    async def status(self, _request: Request) -> Response:
        status = self.site.status()
        if status is None:
            return JSONResponse({"error": "the service is starting"}, 503)
        return Response(encode_status(status), media_type="application/json")

    async def events(self, _request: Request) -> Response:
        if self.open_pages >= PAGES_MAX:
            return PlainTextResponse(
                "too many status pages are open: close one\n", 503, {"Retry-After": "5"}
            )
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[bytes]:
        self.open_pages += 1
        try:
            while True:
                status = self.site.status()
                if status is not None:
                    yield b"data: " + encode_status(status) + b"\n\n"
                await trio.sleep(PUSH_EVERY_S)
        finally:
            self.open_pages -= 1

    async def control(self, request: Request) -> Response:
        error = check_control(request.headers, self.site.token, self.site.without_token)
        client = request.client.host if request.client is not None else "unknown"
        if error is not None:
            log.warning("http_command_rejected", why=error.message, client=client)
            return JSONResponse({"error": error.message}, error.status)
        try:
            verb = Verb(request.path_params["verb"])
        except ValueError as invalid:
            return JSONResponse({"error": str(invalid)}, 404)
        try:
            await self.site.command(verb, f"http {client}")
        except self.site.failure as failure:
            return JSONResponse({"error": str(failure)}, 503)
        return JSONResponse({"done": verb.value})
