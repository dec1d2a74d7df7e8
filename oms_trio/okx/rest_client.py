"""Signed requests to the exchange's REST API: rate limits, clock offset, and outcomes by code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec
import structlog

from oms_trio.core.model import NS_PER_MS
from oms_trio.okx.endpoints import TIME, Endpoint
from oms_trio.okx.errors import (
    AccessRejectedError,
    OurRowUnreadableError,
    ProtocolError,
    RestRejectedError,
    RestRowUnreadableError,
    RestUnavailableError,
)
from oms_trio.okx.rate_limits import Limiter
from oms_trio.okx.wire import bodies
from oms_trio.okx.wire.codes import QueryOutcome, query_outcome
from oms_trio.okx.wire.signing import Credentials, rest_headers
from oms_trio.settings.clock import Clock

log = structlog.get_logger()

Body = Mapping[str, object] | Sequence[Mapping[str, object]]

_B = TypeVar("_B")
_T = TypeVar("_T")


SLOW_NS: Final = 1_000_000_000
"""The exchange's time was read at some moment of the round trip. A slower answer than this replaces
an earlier estimate only if it proves that wrong."""

MOVED_NS: Final = 100_000_000
"""A change of the estimate that is logged; the offset is measured every minute."""


class RestClient:
    """Requests over one HTTP client.

    The HTTP client has the ``base_url``, TLS and timeouts. ``demo`` marks every request as demo
    trading, even public ones, because the instruments of demo trading differ.
    """

    def __init__(
        self, client: httpx.AsyncClient, credentials: Credentials, clock: Clock, *, demo: bool
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._clock = clock
        self._demo_headers = {"x-simulated-trading": "1"} if demo else {}
        self._offset_ns = 0
        self._measured = False
        self._limiters: dict[Endpoint, Limiter] = {}  # at most one per endpoint

    @property
    def offset_ns(self) -> int:
        """The exchange's clock minus ours, as of the last measurement."""
        return self._offset_ns

    async def measure_offset(self) -> int:
        """Measure ``offset_ns``: the exchange's time against the middle of the round trip.

        Raises:
            RestUnavailableError: no answer, or one that cannot be a time; repeat it later.
            AccessRejectedError: every request of this key is rejected.
        """
        sent = self._clock()
        try:
            body = await self.call(TIME)
        except AccessRejectedError:
            raise
        except RestRejectedError as error:
            raise RestUnavailableError(f"{TIME.path}: {error}") from error
        answered = self._clock()
        server_ns = decoded(bodies.server_time, body) * NS_PER_MS
        least, most = server_ns - answered, server_ns - sent
        known = self._measured and least <= self._offset_ns <= most
        if not known or answered - sent <= SLOW_NS:
            self._set_offset((least + most) // 2)
        return self._offset_ns

    def _set_offset(self, offset_ns: int) -> None:
        if not self._measured or abs(offset_ns - self._offset_ns) >= MOVED_NS:
            log.info("okx_clock_measured", offset_ms=offset_ns / NS_PER_MS)
        self._offset_ns, self._measured = offset_ns, True

    async def call(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        may_be_missing: bool = False,
    ) -> str:
        """Make one request within its rate limit and return the body of a successful answer.

        With ``may_be_missing``, "order not found" counts as successful. After a rejected timestamp
        the clock offset is measured and the request is repeated, once.

        Raises:
            RestUnavailableError: there was no usable answer; repeat the request later.
            AccessRejectedError: every request of this key is rejected.
            RestRejectedError: this request is rejected.
        """
        text = await self._with_resync(endpoint, query, body)
        answer = decoded(bodies.envelope, text)
        match query_outcome(answer.code):
            case QueryOutcome.OK:
                return text
            case QueryOutcome.NOT_FOUND if may_be_missing:
                return text
            case QueryOutcome.REPEAT | QueryOutcome.RESYNC:
                raise RestUnavailableError(f"{endpoint.path}: {answer.code} ({answer.msg})")
            case QueryOutcome.FATAL:
                raise AccessRejectedError(answer.code, answer.msg)
            case QueryOutcome.REJECTED | QueryOutcome.NOT_FOUND:
                raise RestRejectedError(answer.code, answer.msg)

    async def operate(self, endpoint: Endpoint, body: Body, exp_time_ms: int | None = None) -> str:
        """Send a request that places or cancels orders; returns the answer, whatever its code.

        The elements of the answer have their own codes, which ``wire.answers`` interprets. The
        exchange discards the request after ``exp_time_ms`` (its clock). After a rejected timestamp,
        which changes nothing, the clock offset is measured and the request is repeated, once.

        Raises:
            RestUnavailableError: no answer, HTTP 5xx, or an unreadable answer: the outcome of the
                request is unknown.
        """
        return await self._with_resync(endpoint, None, body, exp_time_ms)

    async def _with_resync(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str] | None,
        body: Body | None,
        exp_time_ms: int | None = None,
    ) -> str:
        text = await self._exchange(endpoint, query, body, exp_time_ms)
        code = decoded(bodies.envelope, text).code
        if query_outcome(code) is not QueryOutcome.RESYNC or not endpoint.signed:
            return text
        await self.measure_offset()
        return await self._exchange(endpoint, query, body, exp_time_ms)

    async def _exchange(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str] | None,
        body: Body | None,
        exp_time_ms: int | None,
    ) -> str:
        """Send one request and return the text of its answer, whatever its code."""
        await self._limiter(endpoint).acquire()
        content = "" if body is None else msgspec.json.encode(body).decode()
        target = f"{endpoint.path}?{urlencode(query)}" if query else endpoint.path
        request = self._client.build_request(
            endpoint.method, target, content=content or None, headers=self._demo_headers
        )
        request.stream = _Content(content.encode())
        if content:
            request.headers["Content-Type"] = "application/json"
        if exp_time_ms is not None:
            request.headers["expTime"] = str(exp_time_ms)
        if endpoint.signed:
            at_ms = (self._clock() + self._offset_ns) // NS_PER_MS
            sent_target = request.url.raw_path.decode("ascii")  # exactly the bytes that are sent
            request.headers.update(
                rest_headers(self._credentials, at_ms, endpoint.method, sent_target, content)
            )
        try:
            response = await self._client.send(request)
        except httpx.HTTPError as error:
            why = f"{endpoint.path}: {type(error).__name__} {error}".strip()
            raise RestUnavailableError(why) from error
        return _body_of(response, endpoint)

    def _limiter(self, endpoint: Endpoint) -> Limiter:
        return self._limiters.setdefault(endpoint, Limiter(endpoint.limit, endpoint.period_s))


class _Content(httpx.AsyncByteStream):
    """A request's body, sent once.

    httpx's own stream is an async generator, which warns that it was not closed when a request is
    cancelled half-way.
    """

    def __init__(self, content: bytes) -> None:
        self._unsent = [content] if content else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._unsent:
            raise StopAsyncIteration
        return self._unsent.pop()


def _body_of(response: httpx.Response, endpoint: Endpoint) -> str:
    """Return the body for any HTTP status, unless the answer does not come from the exchange."""
    try:
        text = response.content.decode()
        bodies.envelope(text)
    except (UnicodeDecodeError, ProtocolError) as error:
        why = f"{endpoint.path}: HTTP {response.status_code} without a readable body"
        raise RestUnavailableError(why) from error
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        answer = bodies.envelope(text)
        why = f"{endpoint.path}: HTTP {response.status_code}, {answer.code} ({answer.msg})"
        raise RestUnavailableError(why)
    return text


def decoded(decode: Callable[[_B], _T], body: _B) -> _T:
    """Decode a body. An unreadable one answers nothing, so the request has to be repeated."""
    try:
        return decode(body)
    except OurRowUnreadableError as error:
        raise RestRowUnreadableError(f"unreadable answer: {error}") from error
    except ProtocolError as error:
        raise RestUnavailableError(f"unreadable answer: {error}") from error
