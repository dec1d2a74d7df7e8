"""The exchange's REST interface, as far as reconciliation needs it.

A method returns values, or raises: ``RestUnavailableError`` for no answer (ask again),
``RestRefusedError`` for a refusal that only a person can lift, ``RestError`` for any other. What
the journal records comes as raw bodies (``recorded``). Timeouts are the caller's.

Orders go by the WebSocket. Should REST have to take them (the WebSocket of demo trading once refused
its own ``instIdCode`` for hours), ``_exchange`` already sends and signs any body, and the answer has
the elements of an ``OpResponse``; only ``call``, which judges queries, is not for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, Self, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec
import structlog

from oms_trio.clock import Clock
from oms_trio.core.effects import RequestSnapshot
from oms_trio.core.model import ClOrdId, Instrument, OrderReport, OrdId, PositionReport
from oms_trio.okx import bodies
from oms_trio.okx.bodies import AccountConfig
from oms_trio.okx.codes import QueryOutcome, outcome_of_query
from oms_trio.okx.endpoints import (
    BALANCE,
    CANCEL_ALL_AFTER,
    CONFIG,
    FILLS,
    FILLS_HISTORY,
    INSTRUMENTS,
    LEVERAGE,
    MARK_PRICE,
    ORDER,
    ORDERS_ARCHIVE,
    ORDERS_HISTORY,
    ORDERS_PENDING,
    POSITIONS,
    SET_LEVERAGE,
    SET_POSITION_MODE,
    TIME,
    Endpoint,
)
from oms_trio.okx.errors import (
    ProtocolError,
    RestError,
    RestRefusedError,
    RestUnavailableError,
)
from oms_trio.okx.frames import Balance
from oms_trio.okx.limits import Limiter
from oms_trio.okx.recorded import (
    FillsBodies,
    LookupBody,
    SnapshotBodies,
    decode_fills,
    decode_lookup,
    decode_snapshot,
)
from oms_trio.okx.requests import plain
from oms_trio.okx.rows import INST_TYPE, SETTLE_CCY
from oms_trio.okx.signing import Credentials, rest_headers

log = structlog.get_logger()

_B = TypeVar("_B")
_T = TypeVar("_T")

_NS_PER_MS: Final = 1_000_000
_DAY_MS: Final = 86_400_000

# How far back the quick endpoints reach (fills 3 days, orders 7 days), less an hour so that a
# watermark at the edge does not fall off while the pages are read.
_FILLS_REACH_MS: Final = 3 * _DAY_MS - 3_600_000
_ORDERS_REACH_MS: Final = 7 * _DAY_MS - 3_600_000

# 500 pending orders fit an instrument, 20,000 rows are more than any gap that we can explain:
# beyond, something is wrong, and going on would only fill the memory.
_MAX_PAGES: Final = 200


class Rest:
    """Signed requests over one HTTP client, for one instrument of one account.

    The client brings ``base_url``, TLS and its own timeouts; ``demo`` marks every request as demo
    trading, public ones too, because instruments differ there.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        credentials: Credentials,
        clock: Clock,
        *,
        inst_id: str,
        demo: bool = False,
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._clock = clock
        self._inst_id = inst_id
        self._marks = {"x-simulated-trading": "1"} if demo else {}
        self._offset_ns = 0
        self._limiters: dict[Endpoint, Limiter] = {}  # one per endpoint: bounded by their list

    def __repr__(self) -> str:
        return f"<Rest {self._client.base_url} {self._inst_id} offset_ns={self._offset_ns}>"

    @property
    def offset_ns(self) -> int:
        """The exchange's clock minus ours, as of the last measurement."""
        return self._offset_ns

    async def measure_offset(self) -> int:
        """Measure ``offset_ns``: the exchange's time against the middle of the round trip."""
        sent = self._clock()
        body = await self.call(TIME)
        answered = self._clock()
        self._offset_ns = _decoded(bodies.server_time, body) * _NS_PER_MS - (sent + answered) // 2
        log.info("okx_clock_measured", offset_ms=self._offset_ns / _NS_PER_MS)
        return self._offset_ns

    async def instrument(self) -> Instrument:
        """Read the instrument's rules; ``InstrumentUnfitError`` when it cannot be traded."""
        body = await self._instrument_body()
        return _decoded(lambda text: bodies.instrument(text, self._inst_id), body)

    async def account_config(self) -> AccountConfig:
        """Read how the account is set up."""
        return _decoded(bodies.account_config, await self.call(CONFIG))

    async def set_position_mode(self) -> None:
        """Set net mode. Refused (59000) while there are positions or orders."""
        await self.call(SET_POSITION_MODE, body={"posMode": "net_mode"})

    async def leverage(self) -> Decimal:
        """Read the instrument's leverage for cross margin."""
        query = {"instId": self._inst_id, "mgnMode": "cross"}
        return _decoded(bodies.leverage, await self.call(LEVERAGE, query))

    async def set_leverage(self, lever: Decimal) -> Decimal:
        """Set the instrument's leverage for cross margin; returns what the exchange has set."""
        body = {"instId": self._inst_id, "lever": plain(lever), "mgnMode": "cross"}
        return _decoded(bodies.leverage, await self.call(SET_LEVERAGE, body=body))

    async def balance(self) -> Balance | None:
        """Read the USDT balance; None when the exchange says that there is none."""
        return _decoded(bodies.balance, await self._balance_body())

    async def position(self) -> PositionReport | None:
        """Read the net position; None when the exchange says that there is none."""
        body = await self._position_body()
        return _decoded(lambda text: bodies.position(text, self._inst_id), body)

    async def order(self, cl_ord_id: ClOrdId) -> OrderReport | None:
        """Look an order up by our name: the latest of that name, None when there is none."""
        body = await self._order_body(cl_ord_id)
        return _decoded(lambda text: bodies.order(text, self._inst_id), body)

    async def cancel_all_after(self, timeout_s: int, tag: str) -> None:
        """Have the exchange cancel our orders unless it is told again within ``timeout_s``.

        10 to 120 seconds; 0 disarms. Orders with another tag are left alone.
        """
        await self.call(CANCEL_ALL_AFTER, body={"timeOut": str(timeout_s), "tag": tag})

    async def mark_price(self) -> Decimal:
        """Read the instrument's mark price."""
        body = await self.call(MARK_PRICE, self._query())
        return _decoded(lambda text: bodies.mark_price(text, self._inst_id), body)

    async def orders_pending(self) -> tuple[OrderReport, ...]:
        """Read all pending orders of the instrument, ours or not."""
        pages = await self._pending_pages()
        return tuple(report for page in pages for report in bodies.orders(page, self._inst_id))

    async def lookup_body(self, cl_ord_id: ClOrdId) -> LookupBody:
        """Look an order up, for the record (``decode_lookup``)."""
        asked_at_ns = self._clock()
        record = LookupBody(cl_ord_id, asked_at_ns, await self._order_body(cl_ord_id))
        _decoded(lambda whole: decode_lookup(whole, at_ns=0, inst_id=self._inst_id), record)
        return record

    async def fills_bodies(self, ord_id: OrdId) -> FillsBodies:
        """Ask for all fills of one order of the last 3 days, for the record (``decode_fills``)."""
        query = self._query(ordId=ord_id)
        record = FillsBodies(ord_id, await self._pages(FILLS, query, bodies.fills_cursor))
        _decoded(lambda whole: decode_fills(whole, at_ns=0, inst_id=self._inst_id), record)
        return record

    async def snapshot_bodies(self, wanted: RequestSnapshot) -> SnapshotBodies:
        """Ask for everything that a snapshot is made of, for the record (``decode_snapshot``).

        The order of the questions matters, as the market does not wait: an order that ends
        meanwhile leaves the pending ones for the history, so that is asked after; fills come
        last and so explain the position and whatever the orders tell.
        """
        asked_at_ns = self._clock()
        instrument = await self._instrument_body()
        mark_price = await self.call(MARK_PRICE, self._query())
        balance = await self._balance_body()
        pending = await self._pending_pages()
        history = await self._history_pages(wanted.since_ms)
        position = await self._position_body()
        fills = await self._fills_pages(wanted.since_ms)
        record = SnapshotBodies(
            request=wanted.request,
            asked_at_ns=asked_at_ns,
            instrument=instrument,
            balance=balance,
            pending=pending,
            history=history,
            position=position,
            fills=fills,
            mark_price=mark_price,
        )
        # What is recorded must be readable for ever, so it is read once before.
        _decoded(
            lambda whole: decode_snapshot(whole, at_ns=0, inst_id=self._inst_id, tag=""), record
        )
        return record

    async def call(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, str] | None = None,
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
        text = await self._exchange(endpoint, query, body)
        answer = _decoded(bodies.envelope, text)
        outcome = outcome_of_query(answer.code)
        if outcome is QueryOutcome.RESYNC and endpoint.signed:
            await self.measure_offset()
            text = await self._exchange(endpoint, query, body)
            answer = _decoded(bodies.envelope, text)
            outcome = outcome_of_query(answer.code)
        match outcome:
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

    async def _exchange(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str] | None,
        body: Mapping[str, str] | None,
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
        if endpoint.signed:
            at_ms = (self._clock() + self._offset_ns) // _NS_PER_MS
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

    def _query(self, **more: str) -> dict[str, str]:
        return {"instType": INST_TYPE, "instId": self._inst_id, **more}

    async def _instrument_body(self) -> str:
        return await self.call(INSTRUMENTS, self._query())

    async def _balance_body(self) -> str:
        return await self.call(BALANCE, {"ccy": SETTLE_CCY})

    async def _position_body(self) -> str:
        return await self.call(POSITIONS, self._query())

    async def _order_body(self, cl_ord_id: ClOrdId) -> str:
        query = {"instId": self._inst_id, "clOrdId": cl_ord_id}
        return await self.call(ORDER, query, may_be_missing=True)

    async def _pending_pages(self) -> tuple[str, ...]:
        return await self._pages(ORDERS_PENDING, self._query(), bodies.orders_cursor)

    async def _history_pages(self, since_ms: int) -> tuple[str, ...]:
        """Ask for the orders created since; with ``begin`` alone pages would start at the oldest."""
        now_ms = (self._clock() + self._offset_ns) // _NS_PER_MS
        query = self._query(begin=str(since_ms), end=str(now_ms + _DAY_MS))
        near = now_ms - since_ms < _ORDERS_REACH_MS
        return await self._pages(
            ORDERS_HISTORY if near else ORDERS_ARCHIVE, query, bodies.orders_cursor
        )

    async def _fills_pages(self, since_ms: int) -> tuple[str, ...]:
        now_ms = (self._clock() + self._offset_ns) // _NS_PER_MS
        near = now_ms - since_ms < _FILLS_REACH_MS
        query = self._query(begin=str(since_ms))
        return await self._pages(FILLS if near else FILLS_HISTORY, query, bodies.fills_cursor)

    async def _pages(
        self, endpoint: Endpoint, query: Mapping[str, str], cursor: Callable[[str], str | None]
    ) -> tuple[str, ...]:
        """Walk back from the newest page until one that is not full."""
        pages: list[str] = []
        after: str | None = None
        while len(pages) < _MAX_PAGES:
            page = {**query, "limit": str(bodies.PAGE)}
            if after is not None:
                page["after"] = after
            pages.append(await self.call(endpoint, page))
            before, after = after, _decoded(cursor, pages[-1])
            if after is None:
                return tuple(pages)
            if after == before:
                break
        raise RestUnavailableError(f"{endpoint.path}: the pages do not end")


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


def _decoded(decode: Callable[[_B], _T], body: _B) -> _T:
    """Read a body; one that cannot be read tells nothing, so the question is still open."""
    try:
        return decode(body)
    except ProtocolError as error:
        raise RestUnavailableError(f"unreadable answer: {error}") from error
