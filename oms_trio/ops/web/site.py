"""The pages: health, metrics, status, its stream, and commands for who has the token."""

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
from oms_trio.ops.web.guard import SHOWS_ONLY, refuse_control, refuse_host
from oms_trio.ops.web.pages import HEADERS, PAGE

log = structlog.get_logger()

PUSH_EVERY_S = 0.5
"""How often an open page is told. What it does not take in time it is not told at all: each turn
looks anew, so nothing gathers for a page that is slow."""

PAGES_MAX = 8
"""Pages open at once; building the status for each costs about a millisecond a second."""


@attrs.frozen
class Site:
    """What the pages show, and what they may do. ``command`` raises ``failure`` with one line.

    Without a ``token`` there are no commands, and ``shows_only`` says why.
    """

    status: Callable[[], Status | None]
    metrics: Metrics
    command: Callable[[Verb, str], Awaitable[None]]
    failure: type[Exception]
    token: str | None
    host: str
    shows_only: str = SHOWS_ONLY

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
        return Starlette(routes=routes, middleware=[Middleware(_Border, self.host)])


@attrs.frozen
class _Border:
    """Refuses foreign names, and puts the headers on every answer."""

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

        refusal = refuse_host(Request(scope).headers.get("host", ""), self.host)
        app = self.app
        if refusal is not None:
            app = PlainTextResponse(refusal.why + "\n", refusal.status)
        try:
            await app(scope, receive, send_with_headers)  # type: ignore[arg-type] # messages are dicts
        except ClientDisconnect:
            log.debug("http_client_left", path=scope["path"])
        except Exception:
            # The server would answer 500 and say nothing: its own log is off.
            log.exception("http_request_failed", path=scope["path"])
            raise


@attrs.define
class _Views:
    site: Site
    open_pages: int = 0

    async def page(self, _request: Request) -> Response:
        return HTMLResponse(PAGE)

    async def healthz(self, _request: Request) -> Response:
        """Alive: the event loop turns, and the writer has taken something in."""
        alive = self.site.status() is not None
        return PlainTextResponse("ok\n" if alive else "starting\n", 200 if alive else 503)

    async def readyz(self, _request: Request) -> Response:
        """Ready: actions are taken from the queue."""
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
            return PlainTextResponse("too many pages are open\n", 503, {"Retry-After": "5"})
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
        refusal = refuse_control(request.headers, self.site.token, self.site.shows_only)
        client = request.client.host if request.client is not None else "unknown"
        if refusal is not None:
            log.warning("http_command_refused", why=refusal.why, client=client)
            return JSONResponse({"error": refusal.why}, refusal.status)
        try:
            verb = Verb(request.path_params["verb"])
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 404)
        try:
            await self.site.command(verb, f"http {client}")
        except self.site.failure as error:
            return JSONResponse({"error": str(error)}, 503)
        return JSONResponse({"done": verb.value})
