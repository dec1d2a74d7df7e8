"""Signed requests to the exchange's REST interface: one client, its rate limits, its clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec
import structlog

from oms_trio.okx.endpoints import TIME, Endpoint
from oms_trio.okx.errors import (
    OurRowError,
    ProtocolError,
    RestError,
    RestRefusedError,
    RestUnavailableError,
    RowUnreadableError,
)
from oms_trio.okx.rate_limits import Limiter
from oms_trio.okx.wire import bodies
from oms_trio.okx.wire.codes import QueryOutcome, outcome_of_query
from oms_trio.okx.wire.signing import Credentials, rest_headers
from oms_trio.settings.clock import Clock

log = structlog.get_logger()

Body = Mapping[str, object] | Sequence[Mapping[str, object]]

_B = TypeVar("_B")
_T = TypeVar("_T")

NS_PER_MS: Final = 1_000_000

SLOW_NS: Final = 1_000_000_000
"""The clock's answer is from some moment of its round trip. One that took longer than this replaces
an earlier estimate only where it proves that wrong."""

MOVED_NS: Final = 100_000_000
"""A change of the estimate that is worth a line in the log; it is measured every minute."""


class Calls:
    """Requests over one HTTP client.

    The client brings ``base_url``, TLS and its own timeouts; ``demo`` marks every request as demo
    trading, public ones too, because instruments differ there.
    """

    def __init__(
        self, client: httpx.AsyncClient, credentials: Credentials, clock: Clock, *, demo: bool
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._clock = clock
        self._marks = {"x-simulated-trading": "1"} if demo else {}
        self._offset_ns = 0
        self._measured = False
        self._limiters: dict[Endpoint, Limiter] = {}  # one per endpoint: bounded by their list

    @property
    def offset_ns(self) -> int:
        """The exchange's clock minus ours, as of the last measurement."""
        return self._offset_ns

    async def measure_offset(self) -> int:
        """Measure ``offset_ns``: the exchange's time against the middle of the round trip.

        Raises:
            RestUnavailableError: no answer, or none that can be a time; ask again later.
            RestRefusedError: refused for good.
        """
        sent = self._clock()
        try:
            body = await self.call(TIME)
        except RestRefusedError:
            raise
        except RestError as error:
            raise RestUnavailableError(f"{TIME.path}: {error}") from error
        answered = self._clock()
        told = decoded(bodies.server_time, body) * NS_PER_MS
        least, most = told - answered, told - sent
        known = self._measured and least <= self._offset_ns <= most
        if not known or answered - sent <= SLOW_NS:
            self._take_offset((least + most) // 2)
        return self._offset_ns

    def _take_offset(self, offset_ns: int) -> None:
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
        """Make one request within its rate limit and return the body of a good answer.

        With ``may_be_missing`` "order not found" is a good answer too. A refused timestamp is
        answered by measuring the clock again, once.

        Raises:
            RestUnavailableError: nothing was learnt; ask again later.
            RestRefusedError: refused for good.
            RestError: refused.
        """
        text = await self._in_time(endpoint, query, body)
        answer = decoded(bodies.envelope, text)
        match outcome_of_query(answer.code):
            case QueryOutcome.OK:
                return text
            case QueryOutcome.NOT_FOUND if may_be_missing:
                return text
            case QueryOutcome.REPEAT | QueryOutcome.RESYNC:
                raise RestUnavailableError(f"{endpoint.path}: {answer.code} ({answer.msg})")
            case QueryOutcome.FATAL:
                raise RestRefusedError(answer.code, answer.msg)
            case QueryOutcome.REFUSED | QueryOutcome.NOT_FOUND:
                raise RestError(answer.code, answer.msg)

    async def operate(self, endpoint: Endpoint, body: Body, exp_time_ms: int | None = None) -> str:
        """Have an order placed or cancelled; returns the answer, whatever it says.

        Its elements have codes of their own, so ``answers`` judges it. After ``exp_time_ms`` (the
        exchange's clock) the request does nothing any more. A refused timestamp is answered by
        measuring the clock again, once: nothing has happened then.

        Raises:
            RestUnavailableError: no answer, HTTP 5xx, or one that cannot be read: what became of
                the request is unknown.
        """
        return await self._in_time(endpoint, None, body, exp_time_ms)

    async def _in_time(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str] | None,
        body: Body | None,
        exp_time_ms: int | None = None,
    ) -> str:
        text = await self._exchange(endpoint, query, body, exp_time_ms)
        code = decoded(bodies.envelope, text).code
        if outcome_of_query(code) is not QueryOutcome.RESYNC or not endpoint.signed:
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
        """Send one request and return the text of whatever came back."""
        await self._limiter(endpoint).acquire()
        content = "" if body is None else msgspec.json.encode(body).decode()
        target = f"{endpoint.path}?{urlencode(query)}" if query else endpoint.path
        request = self._client.build_request(
            endpoint.method, target, content=content or None, headers=self._marks
        )
        request.stream = _Content(content.encode())
        if content:
            request.headers["Content-Type"] = "application/json"
        if exp_time_ms is not None:
            request.headers["expTime"] = str(exp_time_ms)
        if endpoint.signed:
            at_ms = (self._clock() + self._offset_ns) // NS_PER_MS
            sent_target = request.url.raw_path.decode("ascii")  # what goes out, to the byte
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

    httpx's own is an async generator, and one that a cancellation leaves half-way warns that
    nobody has closed it.
    """

    def __init__(self, content: bytes) -> None:
        self._left = [content] if content else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def _body_of(response: httpx.Response, endpoint: Endpoint) -> str:
    """Take the body whatever the status is, unless it is no answer of the exchange at all."""
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
    """Read a body; one that cannot be read tells nothing, so the question is still open."""
    try:
        return decode(body)
    except OurRowError as error:
        raise RowUnreadableError(f"unreadable answer: {error}") from error
    except ProtocolError as error:
        raise RestUnavailableError(f"unreadable answer: {error}") from error
