"""The exchange's REST interface, as far as reconciliation and emergencies need it.

A method returns values, or raises: ``RestUnavailableError`` for no answer (ask again),
``RestRefusedError`` for a refusal that only a person can lift, ``RestError`` for any other. What
the journal records comes as raw bodies (``recorded``). Timeouts are the caller's, and so is asking
again: what takes several requests hands each of them to ``again``, so that one that fails does not
cost the answers to the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

import httpx
import trio

from oms_trio.core.effects import PlaceOrder, RequestListing, RequestSnapshot
from oms_trio.core.model import ClOrdId, Instrument, OrderReport, OrdId, PositionReport
from oms_trio.okx.calls import NS_PER_MS, Calls, decoded
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
from oms_trio.okx.wire import bodies
from oms_trio.okx.wire.bodies import AccountConfig
from oms_trio.okx.wire.foreign import PassedOver
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
from oms_trio.okx.wire.rows import INST_TYPE, SETTLE_CCY
from oms_trio.okx.wire.signing import Credentials
from oms_trio.settings.clock import Clock

Ask = Callable[[], Awaitable[str]]
"""Makes one request; returns the body of a good answer that was read once."""

Again = Callable[[str, Ask], Awaitable[str]]
"""Asks until there is an answer; is told what is asked for."""

_T = TypeVar("_T")

_DAY_MS: Final = 86_400_000

# How far back the quick endpoints reach (fills 3 days, orders 7 days), less an hour so that a
# watermark at the edge does not fall off while the pages are read.
_FILLS_REACH_MS: Final = 3 * _DAY_MS - 3_600_000
_ORDERS_REACH_MS: Final = 7 * _DAY_MS - 3_600_000

# 500 pending orders fit an instrument, 20,000 rows are more than any gap that we can explain:
# beyond, something is wrong, and going on would only fill the memory.
_MAX_PAGES: Final = 200

OLDER_PAGES: Final = 10
"""Pages of ended orders that are read beyond the watermark's. They stand in the order of creation, so
old orders that ended lately lie anywhere behind; what is not found is looked up by its name."""


async def once(_what: str, ask: Ask) -> str:
    """Ask once: a failure is the caller's."""
    return await ask()


class Rest(Calls):
    """Questions and operations for one instrument of one account."""

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
        self.passed_over = PassedOver()
        """Rows of others that could not be read."""

    def __repr__(self) -> str:
        return f"<Rest {self._client.base_url} {self._inst_id} offset_ns={self._offset_ns}>"

    async def instrument(self) -> Instrument:
        """Read the instrument's rules; ``InstrumentUnfitError`` when it cannot be traded."""
        body = await self.call(INSTRUMENTS, self._query())
        return decoded(lambda text: bodies.instrument(text, self._inst_id), body)

    async def account_config(self) -> AccountConfig:
        """Read how the account is set up."""
        return decoded(bodies.account_config, await self.call(CONFIG))

    async def set_position_mode(self) -> None:
        """Set net mode. Refused (59000) while there are positions or orders."""
        await self.call(SET_POSITION_MODE, body={"posMode": "net_mode"})

    async def leverage(self) -> Decimal:
        """Read the instrument's leverage for cross margin."""
        query = {"instId": self._inst_id, "mgnMode": "cross"}
        return decoded(bodies.leverage, await self.call(LEVERAGE, query))

    async def set_leverage(self, lever: Decimal) -> Decimal:
        """Set the instrument's leverage for cross margin; returns what the exchange has set."""
        body = {"instId": self._inst_id, "lever": plain(lever), "mgnMode": "cross"}
        return decoded(bodies.leverage, await self.call(SET_LEVERAGE, body=body))

    async def balance(self) -> Balance | None:
        """Read the USDT balance; None when the exchange says that there is none."""
        return decoded(bodies.balance, await self.call(BALANCE, {"ccy": SETTLE_CCY}))

    async def position(self) -> PositionReport | None:
        """Read the net position; None when the exchange says that there is none."""
        body = await self.call(POSITIONS, self._query())
        return decoded(lambda text: bodies.position(text, self._inst_id), body)

    async def order(self, cl_ord_id: ClOrdId) -> OrderReport | None:
        """Look an order up by our name: the latest of that name, None when there is none."""
        body = await self._order_body(cl_ord_id)
        return decoded(lambda text: bodies.order(text, self._inst_id), body)

    async def cancel_all_after(self, timeout_s: int, tag: str) -> None:
        """Have the exchange cancel our orders unless it is told again within ``timeout_s``.

        10 to 120 seconds; 0 disarms. Orders with another tag are left alone.
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
        """Place an order where no session can; see ``operate`` for what comes back."""
        body = order_body(order, inst_id=self._inst_id, tag=tag)
        return await self.operate(PLACE_ORDER, body, order.exp_time_ms)

    async def cancel_orders(self, ord_ids: Sequence[OrdId]) -> str:
        """Cancel up to 20 orders where no session can; see ``operate`` for what comes back."""
        orders = [{"instId": self._inst_id, "ordId": ord_id} for ord_id in ord_ids]
        return await self.operate(CANCEL_ORDERS, orders)

    async def lookup_body(self, cl_ord_id: ClOrdId) -> LookupBody:
        """Look an order up, for the record (``decode_lookup``)."""
        asked_at_ns = self._clock()
        record = LookupBody(cl_ord_id, asked_at_ns, await self._order_body(cl_ord_id))
        decoded(lambda whole: decode_lookup(whole, inst_id=self._inst_id), record)
        return record

    async def fills_bodies(self, ord_id: OrdId) -> FillsBodies:
        """Ask for all fills of one order of the last 3 days, for the record (``decode_fills``)."""
        query = self._query(ordId=ord_id)
        # Whatever is asked for by its order's id is ours, with or without our tag.
        pages = await self._pages(FILLS, query, bodies.bills_cursor, self._read_fills, once)
        record = FillsBodies(ord_id, pages)
        decoded(lambda whole: decode_fills(whole, inst_id=self._inst_id), record)
        return record

    async def listing_bodies(
        self, wanted: RequestListing, *, tag: str = "", again: Again = once
    ) -> ListingBodies:
        """Ask what is pending and what the position is, for the record (``decode_listing``)."""
        return ListingBodies(
            request=wanted.request,
            asked_at_ns=self._clock(),
            pending=await self._pending_pages(tag, again),
            position=await self._read(POSITIONS, self._query(), self._read_position, again),
        )

    async def snapshot_bodies(
        self, wanted: RequestSnapshot, *, tag: str = "", again: Again = once
    ) -> SnapshotBodies:
        """Ask for everything that a snapshot is made of, for the record (``decode_snapshot``).

        What the market moves is asked for in an order that matters, as it does not wait: an order
        that ends meanwhile leaves the pending ones for the history, so that is asked after; fills
        and bills come last and so explain the position and whatever the orders tell. The rest is
        asked beside it. What is recorded must be readable for ever, so each answer is read once.
        """
        asked_at_ns = self._clock()
        read = partial(self._read, again=again)
        instrument, mark_price, balance, _ = await _side_by_side(
            lambda: read(INSTRUMENTS, self._query(), self._read_instrument),
            lambda: read(MARK_PRICE, self._query(), self._read_mark_price),
            lambda: read(BALANCE, {"ccy": SETTLE_CCY}, self._read_balance),
            lambda: again("clock", self._measured_offset),
        )
        pending = await self._pending_pages(tag, again)
        history = await self._history_pages(wanted.since_ms, tag, again)
        position = await read(POSITIONS, self._query(), self._read_position)
        fills, *bills = await _side_by_side(
            lambda: self._fills_pages(wanted.since_ms, tag, again),
            *(partial(self._bills_pages, of, wanted.since_ms, again) for of in BILL_TYPES),
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

    async def _pending_pages(self, tag: str, again: Again) -> tuple[str, ...]:
        read = partial(self._read_orders, tag)
        query = self._query()
        return await self._pages(ORDERS_PENDING, query, bodies.orders_cursor, read, again)

    async def _history_pages(self, since_ms: int, tag: str, again: Again) -> tuple[str, ...]:
        """Ask for the orders that have ended since, from the one that was created last.

        The filters go by creation, and an order may end long after it. All that were created since
        are read, and older ones while there are some that changed since, for some pages.
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
        return await self._pages(endpoint, query, bodies.orders_cursor, read, again, enough)

    async def _fills_pages(self, since_ms: int, tag: str, again: Again) -> tuple[str, ...]:
        near = self._now_ms() - since_ms < _FILLS_REACH_MS
        endpoint = FILLS if near else FILLS_HISTORY
        read = partial(self._read_fills, tag=tag)
        query = self._query(begin=str(since_ms))
        return await self._pages(endpoint, query, bodies.bills_cursor, read, again)

    async def _bills_pages(self, of: str, since_ms: int, again: Again) -> tuple[str, ...]:
        """Ask for bills of one type; with ``begin`` alone pages would start at the oldest."""
        span = {"begin": str(since_ms), "end": str(self._now_ms() + _DAY_MS)}
        query = {"instType": INST_TYPE, "type": of, **span}
        return await self._pages(BILLS, query, bodies.bills_cursor, self._read_bills, again)

    async def _pages(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str],
        cursor: Callable[[str], str | None],
        read: Callable[[str], object],
        again: Again,
        enough: Callable[[str], bool] = lambda _: False,
    ) -> tuple[str, ...]:
        """Walk back from the newest page until one that is not full, or that is ``enough``."""

        def whole(page: str) -> None:
            read(page)
            cursor(page)

        pages: list[str] = []
        after: str | None = None
        while len(pages) < _MAX_PAGES:
            page = {**query, "limit": str(bodies.PAGE)}
            if after is not None:
                page["after"] = after
            pages.append(await self._read(endpoint, page, whole, again))
            before, after = after, cursor(pages[-1])
            if after is None or enough(pages[-1]):
                return tuple(pages)
            if after == before:
                break
        raise RestUnavailableError(f"{endpoint.path}: the pages do not end")

    async def _read(
        self,
        endpoint: Endpoint,
        query: Mapping[str, str],
        read: Callable[[str], object],
        again: Again,
    ) -> str:
        """Make one request, and read its answer to know that it can be read."""

        async def ask() -> str:
            body = await self.call(endpoint, query)
            decoded(read, body)
            return body

        return await again(endpoint.path, ask)

    def _read_instrument(self, body: str) -> object:
        return bodies.instrument(body, self._inst_id)

    def _read_mark_price(self, body: str) -> object:
        return bodies.mark_price(body, self._inst_id)

    def _read_balance(self, body: str) -> object:
        return bodies.balance(body, self.passed_over)

    def _read_position(self, body: str) -> object:
        return bodies.position(body, self._inst_id, self.passed_over)

    def _read_orders(self, tag: str, body: str) -> object:
        return bodies.orders(body, self._inst_id, tag=tag, note=self.passed_over)

    def _read_fills(self, body: str, tag: str = "") -> object:
        return bodies.fills(body, self._inst_id, tag=tag, note=self.passed_over)

    def _read_bills(self, body: str) -> object:
        return bodies.bills(body, self._inst_id, strict=True, note=self.passed_over)


async def _side_by_side(*asks: Callable[[], Awaitable[_T]]) -> list[_T]:
    """Ask all at once; returns the answers in the order of the questions.

    Raises:
        OkxError: the first that failed, not a group.
    """
    answers: dict[int, _T] = {}

    async def take(index: int, ask: Callable[[], Awaitable[_T]]) -> None:
        answers[index] = await ask()

    try:
        async with trio.open_nursery() as nursery:
            for index, ask in enumerate(asks):
                nursery.start_soon(take, index, ask)
    except BaseExceptionGroup as group:
        refused, others = group.split(OkxError)
        if refused is None or others is not None:
            raise
        error: BaseException = refused
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
    return [answers[index] for index in range(len(asks))]
