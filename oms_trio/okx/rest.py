"""The exchange's REST API, as far as reconciliation and emergencies need it.

A method returns values or raises: ``RestUnavailableError`` without a usable answer (repeat it),
``AccessRejectedError`` for a rejection that only a person can resolve, ``RestRejectedError`` for any other.
Methods whose answers are recorded in the journal return raw bodies (``wire.recorded``). Timeouts and
retries are the caller's: a method that needs several requests passes each of them to ``retry``, so that
one failed request does not discard the answers to the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

import httpx
import trio

from oms_trio.core.effects import PlaceOrder, RequestListing, RequestSnapshot
from oms_trio.core.model import NS_PER_MS, ClOrdId, Instrument, OrderReport, OrdId, PositionReport
from oms_trio.okx.endpoints import (
    BALANCE,
    BILLS,
    CANCEL_ALL_AFTER,
    CANCEL_ORDERS,
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
    PLACE_ORDER,
    POSITIONS,
    SET_LEVERAGE,
    SET_POSITION_MODE,
    Endpoint,
)
from oms_trio.okx.errors import OkxError, RestUnavailableError
from oms_trio.okx.rest_client import RestClient, decoded
from oms_trio.okx.wire import bodies
from oms_trio.okx.wire.bodies import AccountConfig
from oms_trio.okx.wire.frames import Balance
from oms_trio.okx.wire.liquidation import BILL_TYPES
from oms_trio.okx.wire.recorded import (
    FillsBodies,
    ListingBodies,
    LookupBody,
    SnapshotBodies,
    decode_fills,
    decode_lookup,
)
from oms_trio.okx.wire.requests import order_body, plain
from oms_trio.okx.wire.row_reader import IgnoredRows
from oms_trio.okx.wire.rows import INST_TYPE, SETTLE_CCY
from oms_trio.okx.wire.signing import Credentials
from oms_trio.settings.clock import Clock

Attempt = Callable[[], Awaitable[str]]
"""Makes one request; returns the body of a successful answer that has been decoded once."""

Retry = Callable[[str, Attempt], Awaitable[str]]
"""Calls an attempt until it succeeds; the first argument names the request for the log."""

_T = TypeVar("_T")

_DAY_MS: Final = 86_400_000

# How far back the fast endpoints reach (fills 3 days, orders 7 days), less an hour so that a
# watermark at this limit stays within reach while the pages are read.
_FILLS_REACH_MS: Final = 3 * _DAY_MS - 3_600_000
_ORDERS_REACH_MS: Final = 7 * _DAY_MS - 3_600_000

# An instrument can have 500 pending orders, and no explicable gap has 20,000 rows: beyond that
# something is wrong, and reading on would only fill the memory.
_MAX_PAGES: Final = 200

OLDER_PAGES: Final = 10
"""Pages of ended orders that are read beyond the watermark's. They are sorted by creation, so old orders
that ended recently may be on any later page; an order that is not found is looked up by its name."""


async def once(_what: str, attempt: Attempt) -> str:
    """Call the attempt once, and let the caller handle a failure."""
    return await attempt()


class Rest(RestClient):
    """Queries and operations for one instrument of one account."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        credentials: Credentials,
        clock: Clock,
        *,
        inst_id: str,
        demo: bool = False,
    ) -> None:
        super().__init__(client, credentials, clock, demo=demo)
        self._inst_id = inst_id
        self.ignored_rows = IgnoredRows()
        """Unreadable rows of somebody else, and fees in another currency."""

    def __repr__(self) -> str:
        return f"<Rest {self._client.base_url} {self._inst_id} offset_ns={self._offset_ns}>"

    async def instrument(self) -> Instrument:
        """Read the instrument's rules; ``InstrumentNotTradableError`` when it cannot be traded."""
        body = await self.call(INSTRUMENTS, self._query())
        return decoded(lambda text: bodies.instrument(text, self._inst_id), body)

    async def account_config(self) -> AccountConfig:
        """Read the account's configuration."""
        return decoded(bodies.account_config, await self.call(CONFIG))

    async def set_position_mode(self) -> None:
        """Set net mode. Rejected with 59000 while there are positions or orders."""
        await self.call(SET_POSITION_MODE, body={"posMode": "net_mode"})

    async def leverage(self) -> Decimal:
        """Read the instrument's leverage for cross margin."""
        query = {"instId": self._inst_id, "mgnMode": "cross"}
        return decoded(bodies.leverage, await self.call(LEVERAGE, query))

    async def set_leverage(self, lever: Decimal) -> Decimal:
        """Set the instrument's leverage for cross margin; returns the leverage that is now set."""
        body = {"instId": self._inst_id, "lever": plain(lever), "mgnMode": "cross"}
        return decoded(bodies.leverage, await self.call(SET_LEVERAGE, body=body))

    async def balance(self) -> Balance | None:
        """Read the USDT balance; None when the exchange reports none."""
        return decoded(bodies.balance, await self.call(BALANCE, {"ccy": SETTLE_CCY}))

    async def position(self) -> PositionReport | None:
        """Read the net position; None when the exchange reports none."""
        body = await self.call(POSITIONS, self._query())
        return decoded(lambda text: bodies.position(text, self._inst_id), body)

    async def order(self, cl_ord_id: ClOrdId) -> OrderReport | None:
        """Look an order up by its ``clOrdId``: the latest of that name, or None."""
        body = await self._order_body(cl_ord_id)
        return decoded(lambda text: bodies.order(text, self._inst_id), body)

    async def cancel_all_after(self, timeout_s: int, tag: str) -> None:
        """Have the exchange cancel our orders unless this is repeated within ``timeout_s``.

        10 to 120 seconds; 0 disarms it. Orders with another tag are not affected.
        """
        await self.call(CANCEL_ALL_AFTER, body={"timeOut": str(timeout_s), "tag": tag})

    async def mark_price(self) -> Decimal:
        """Read the instrument's mark price."""
        body = await self.call(MARK_PRICE, self._query())
        return decoded(lambda text: bodies.mark_price(text, self._inst_id), body)

    async def orders_pending(self) -> tuple[OrderReport, ...]:
        """Read all pending orders of the instrument, ours or not."""
        pages = await self._pending_pages("", once)
        return tuple(report for page in pages for report in bodies.orders(page, self._inst_id))

    async def place_order(self, order: PlaceOrder, *, tag: str) -> str:
        """Place an order without a session; see ``operate`` for the answer."""
        body = order_body(order, inst_id=self._inst_id, tag=tag)
        return await self.operate(PLACE_ORDER, body, order.exp_time_ms)

    async def cancel_orders(self, ord_ids: Sequence[OrdId]) -> str:
        """Cancel up to 20 orders without a session; see ``operate`` for the answer."""
        orders = [{"instId": self._inst_id, "ordId": ord_id} for ord_id in ord_ids]
        return await self.operate(CANCEL_ORDERS, orders)

    async def lookup_body(self, cl_ord_id: ClOrdId) -> LookupBody:
        """Look an order up; returns the body to record (``decode_lookup``)."""
        asked_at_ns = self._clock()
        record = LookupBody(cl_ord_id, asked_at_ns, await self._order_body(cl_ord_id))
        decoded(lambda whole: decode_lookup(whole, inst_id=self._inst_id), record)
        return record

    async def fills_bodies(self, ord_id: OrdId) -> FillsBodies:
        """Query all fills of one order in the last 3 days; returns the bodies to record (``decode_fills``)."""
        query = self._query(ordId=ord_id)
        # The fills of this order are ours, with or without our tag.
        pages = await self._pages(FILLS, query, bodies.bills_cursor, self._read_fills, once)
        record = FillsBodies(ord_id, pages)
        decoded(lambda whole: decode_fills(whole, inst_id=self._inst_id), record)
        return record

    async def listing_bodies(
        self, wanted: RequestListing, *, tag: str = "", retry: Retry = once
    ) -> ListingBodies:
        """Query pending orders and position; returns the bodies to record (``decode_listing``)."""
        return ListingBodies(
            request=wanted.request,
            asked_at_ns=self._clock(),
            pending=await self._pending_pages(tag, retry),
            position=await self._read(POSITIONS, self._query(), self._read_position, retry),
        )

    async def snapshot_bodies(
        self, wanted: RequestSnapshot, *, tag: str = "", retry: Retry = once
    ) -> SnapshotBodies:
        """Query all parts of a snapshot; returns the bodies to record (``decode_snapshot``).

        The market moves while these requests are made, so their sequence matters. An order that
        ends meanwhile moves from the pending orders to the history, so the history is queried after
        them; fills and bills are queried last, and so explain the position and the orders. The
        other requests run concurrently. A record must stay readable, so each answer is decoded once.
        """
        asked_at_ns = self._clock()
        read = partial(self._read, retry=retry)
        instrument, mark_price, balance, _ = await _concurrently(
            lambda: read(INSTRUMENTS, self._query(), self._read_instrument),
            lambda: read(MARK_PRICE, self._query(), self._read_mark_price),
            lambda: read(BALANCE, {"ccy": SETTLE_CCY}, self._read_balance),
            lambda: retry("clock", self._measured_offset),
        )
        pending = await self._pending_pages(tag, retry)
        history = await self._history_pages(wanted.since_ms, tag, retry)
        position = await read(POSITIONS, self._query(), self._read_position)
        fills, *bills = await _concurrently(
            lambda: self._fills_pages(wanted.since_ms, tag, retry),
            *(
                partial(self._bills_pages, bill_type, wanted.since_ms, retry)
                for bill_type in BILL_TYPES
            ),
        )
        return SnapshotBodies(
            request=wanted.request,
            asked_at_ns=asked_at_ns,
            instrument=instrument,
            balance=balance,
            pending=pending,
            history=history,
            position=position,
            fills=fills,
            mark_price=mark_price,
            bills=tuple(page for pages in bills for page in pages),
            offset_ns=self._offset_ns,
        )

    def _query(self, **more: str) -> dict[str, str]:
        return {"instType": INST_TYPE, "instId": self._inst_id, **more}

    def _now_ms(self) -> int:
        return (self._clock() + self._offset_ns) // NS_PER_MS

    async def _measured_offset(self) -> str:
        return str(await self.measure_offset())

    async def _order_body(self, cl_ord_id: ClOrdId) -> str:
        query = {"instId": self._inst_id, "clOrdId": cl_ord_id}
        return await self.call(ORDER, query, may_be_missing=True)

    async def _pending_pages(self, tag: str, retry: Retry) -> tuple[str, ...]:
        read = partial(self._read_orders, tag)
        query = self._query()
        return await self._pages(ORDERS_PENDING, query, bodies.orders_cursor, read, retry)

    async def _history_pages(self, since_ms: int, tag: str, retry: Retry) -> tuple[str, ...]:
        """Query the orders that have ended since, starting with the newest.

        The exchange filters by time of creation, and an order may end long after it. All orders
        created since are read, and older pages while they have an order that changed since, up to
        ``OLDER_PAGES``.
        """
        older = 0

        def enough(page: str) -> bool:
            nonlocal older
            if bodies.created_since(page, since_ms):
                return False
            older += 1
            return older == OLDER_PAGES or not bodies.changed_since(page, since_ms)

        near = self._now_ms() - since_ms < _ORDERS_REACH_MS
        endpoint = ORDERS_HISTORY if near else ORDERS_ARCHIVE
        read = partial(self._read_orders, tag)
        query = self._query()
        return await self._pages(endpoint, query, bodies.orders_cursor, read, retry, enough)

    async def _fills_pages(self, since_ms: int, tag: str, retry: Retry) -> tuple[str, ...]:
        near = self._now_ms() - since_ms < _FILLS_REACH_MS
        endpoint = FILLS if near else FILLS_HISTORY
        read = partial(self._read_fills, tag=tag)
        query = self._query(begin=str(since_ms))
        return await self._pages(endpoint, query, bodies.bills_cursor, read, retry)

    async def _bills_pages(self, bill_type: str, since_ms: int, retry: Retry) -> tuple[str, ...]:
        """Query bills of one type; with ``begin`` alone the pages would start at the oldest."""
        span = {"begin": str(since_ms), "end": str(self._now_ms() + _DAY_MS)}
        query = {"instType": INST_TYPE, "type": bill_type, **span}
        return await self._pages(BILLS, query, bodies.bills_cursor, self._read_bills, retry)

    async def _pages(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str],
        cursor: Callable[[str], str | None],
        read: Callable[[str], object],
        retry: Retry,
        enough: Callable[[str], bool] = lambda _: False,
    ) -> tuple[str, ...]:
        """Read pages, newest first, up to one that is not full or for which ``enough`` is true."""

        def whole(page: str) -> None:
            read(page)
            cursor(page)

        pages: list[str] = []
        after: str | None = None
        while len(pages) < _MAX_PAGES:
            page = {**query, "limit": str(bodies.PAGE)}
            if after is not None:
                page["after"] = after
            pages.append(await self._read(endpoint, page, whole, retry))
            before, after = after, cursor(pages[-1])
            if after is None or enough(pages[-1]):
                return tuple(pages)
            if after == before:
                break
        raise RestUnavailableError(f"{endpoint.path}: no last page after {len(pages)} pages")

    async def _read(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str],
        read: Callable[[str], object],
        retry: Retry,
    ) -> str:
        """Make one request, and decode its answer to check that it can be decoded."""

        async def attempt() -> str:
            body = await self.call(endpoint, query)
            decoded(read, body)
            return body

        return await retry(endpoint.path, attempt)

    def _read_instrument(self, body: str) -> object:
        return bodies.instrument(body, self._inst_id)

    def _read_mark_price(self, body: str) -> object:
        return bodies.mark_price(body, self._inst_id)

    def _read_balance(self, body: str) -> object:
        return bodies.balance(body, self.ignored_rows)

    def _read_position(self, body: str) -> object:
        return bodies.position(body, self._inst_id, self.ignored_rows)

    def _read_orders(self, tag: str, body: str) -> object:
        return bodies.orders(body, self._inst_id, tag=tag, on_ignored=self.ignored_rows)

    def _read_fills(self, body: str, tag: str = "") -> object:
        return bodies.fills(body, self._inst_id, tag=tag, on_ignored=self.ignored_rows)

    def _read_bills(self, body: str) -> object:
        return bodies.bills(body, self._inst_id, strict=True, on_ignored=self.ignored_rows)


async def _concurrently(*requests: Callable[[], Awaitable[_T]]) -> list[_T]:
    """Make all requests at once; returns the answers in the same order.

    Raises:
        OkxError: the first failure, not a group.
    """
    answers: dict[int, _T] = {}

    async def run(index: int, request: Callable[[], Awaitable[_T]]) -> None:
        answers[index] = await request()

    try:
        async with trio.open_nursery() as nursery:
            for index, request in enumerate(requests):
                nursery.start_soon(run, index, request)
    except BaseExceptionGroup as group:
        expected, others = group.split(OkxError)
        if expected is None or others is not None:
            raise
        error: BaseException = expected
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
    return [answers[index] for index in range(len(requests))]
