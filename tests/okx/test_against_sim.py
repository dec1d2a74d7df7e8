"""WebSocket and REST against the simulated exchange, on a port of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import attrs
import httpx
import pytest
import trio

from oms_trio.core.effects import PlaceOrder, RequestSnapshot
from oms_trio.core.events import Verdict
from oms_trio.core.model import (
    ClOrdId,
    ExchangeMs,
    OrderReport,
    OrderState,
    OrderType,
    OrdId,
    Side,
)
from oms_trio.okx.errors import AccessRejectedError, LoginRejectedError, SessionLostError
from oms_trio.okx.rest import Rest
from oms_trio.okx.session import Event, OkxSession, Ready, UpgradeAhead
from oms_trio.okx.websocket import OkxConnection, open_okx_connection
from oms_trio.okx.wire.answers import cancel_answers, order_answers
from oms_trio.okx.wire.frames import OpResponse, OrdersPush
from oms_trio.okx.wire.recorded import decode_fills, decode_lookup, decode_snapshot
from oms_trio.okx.wire.requests import encode_batch_cancel, encode_order
from oms_trio.okx.wire.signing import Credentials
from oms_trio.settings.clock import system_clock
from oms_trio.testing.okx_server.auth import ExchangeAccount
from oms_trio.testing.okx_server.exchange import MatchingMode, SimulatedExchange
from oms_trio.testing.okx_server.server import PRIVATE_PATH, serve
from tests.okx.samples import INST_ID

TAG = "rl"
PX = Decimal("66983.2")
ACCOUNT = ExchangeAccount()
CREDENTIALS = Credentials(ACCOUNT.api_key, ACCOUNT.secret, ACCOUNT.passphrase)


@attrs.frozen
class Venue:
    """The exchange, which fills orders only on command, and its port."""

    exchange: SimulatedExchange
    port: int

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{PRIVATE_PATH}"


@attrs.define
class Desk:
    """A ready connection, and REST with the account set up."""

    exchange: SimulatedExchange
    rest: Rest
    connection: OkxConnection
    received: list[Event] = attrs.Factory(list)

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Receive until an event is as wanted, and keep the others."""
        while True:
            with trio.fail_after(5):
                event = (await anext(self.connection)).event
            self.received.append(event)
            if wanted(event):
                return event

    async def answer(self) -> OpResponse:
        event = await self.until(lambda event: isinstance(event, OpResponse))
        assert isinstance(event, OpResponse)
        return event

    async def order_in(self, state: OrderState) -> OrderReport:
        event = await self.until(
            lambda event: isinstance(event, OrdersPush) and event.reports[-1].state is state
        )
        assert isinstance(event, OrdersPush)
        return event.reports[-1]

    async def place(self, name: str, sz: str, tag: str = TAG) -> OrdId:
        """Place a limit buy; returns what the exchange calls it."""
        order = PlaceOrder(
            ClOrdId(name),
            Side.BUY,
            OrderType.LIMIT,
            PX,
            Decimal(sz),
            0,
            exp_time_ms=ExchangeMs(system_clock() // 1_000_000 + 5_000),
            inst_id_code=self.exchange.instrument.inst_id_code,
        )
        await self.connection.send(encode_order(order, tag=tag, request_id=name))
        (answer,) = order_answers(await self.answer(), [order.cl_ord_id])
        assert answer.verdict is Verdict.ACCEPTED
        assert answer.ord_id is not None
        return answer.ord_id


@asynccontextmanager
async def venue() -> AsyncIterator[Venue]:
    exchange = SimulatedExchange(account=ACCOUNT, mode=MatchingMode.MANUAL)
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, exchange)
        yield Venue(exchange, port)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def rest_of(place: Venue, credentials: Credentials = CREDENTIALS) -> AsyncIterator[Rest]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{place.port}") as client:
        yield Rest(client, credentials, system_clock, inst_id=INST_ID)


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    async with venue() as place, rest_of(place) as rest:
        await rest.set_position_mode()
        await rest.set_leverage(Decimal(100))
        session = OkxSession(CREDENTIALS, INST_ID)
        async with open_okx_connection(place.ws_url, session, system_clock) as connection:
            ready = Desk(place.exchange, rest, connection)
            await ready.until(lambda event: isinstance(event, Ready))
            yield ready


def wanted() -> RequestSnapshot:
    return RequestSnapshot(1, ExchangeMs(system_clock() // 1_000_000 - 60_000))


async def test_an_account_is_set_up_and_read() -> None:
    async with venue() as place, rest_of(place) as rest:
        assert abs(await rest.measure_offset()) < 1_000_000_000
        assert await rest.instrument() == place.exchange.instrument
        assert not (await rest.account_config()).net_mode
        await rest.set_position_mode()
        config = await rest.account_config()
        assert config.net_mode
        assert config.may_trade
        assert await rest.leverage() == ACCOUNT.lever
        assert await rest.set_leverage(Decimal(100)) == 100
        assert await rest.leverage() == 100
        balance = await rest.balance()
        assert balance is not None
        assert balance.cash_bal == ACCOUNT.balance


async def test_an_order_is_followed_from_its_answer_to_its_last_fill() -> None:
    async with desk() as ours:
        ord_id = await ours.place("a1", "3.5")
        ours.exchange.fill(ord_id, Decimal("1.2"), PX)
        first = await ours.order_in(OrderState.PARTIALLY_FILLED)
        ours.exchange.fill(ord_id, Decimal("2.3"), PX)
        last = await ours.order_in(OrderState.FILLED)
        assert first.fill is not None
        assert last.fill is not None
        assert (first.fill.sz, last.fill.sz) == (Decimal("1.2"), Decimal("2.3"))
        assert (last.acc_fill_sz, last.cl_ord_id, last.tag) == (Decimal("3.5"), "a1", TAG)

        record = await ours.rest.fills_bodies(ord_id)
        fills = decode_fills(record, inst_id=INST_ID).fills
        assert [fill.trade_id for fill in fills] == [first.fill.trade_id, last.fill.trade_id]
        lookup = await ours.rest.lookup_body(ClOrdId("a1"))
        found = decode_lookup(lookup, inst_id=INST_ID).report
        assert found is not None
        assert found == attrs.evolve(last, fill=None)


async def test_a_snapshot_reports_what_was_missed() -> None:
    async with desk() as ours:
        filled = await ours.place("filled", "1")
        open_order = await ours.place("open", "2")
        await ours.place("byHand", "1", tag="hand")
        ours.exchange.fill(filled, Decimal(1), PX)
        record = await ours.rest.snapshot_bodies(wanted())
        snapshot = decode_snapshot(record, inst_id=INST_ID, tag=TAG)
        assert {report.ord_id: report.state for report in snapshot.orders} == {
            filled: OrderState.FILLED,
            open_order: OrderState.LIVE,
        }
        (fill,) = snapshot.fills
        assert (fill.ord_id, fill.sz, fill.px) == (filled, Decimal(1), PX)
        assert snapshot.position is not None
        assert snapshot.position.pos == 1
        assert snapshot.position.trade_id == fill.trade_id


async def test_a_snapshot_reads_every_page() -> None:
    """210 fills are three pages."""
    async with desk() as ours:
        ord_id = await ours.place("many", "2.5")
        for _ in range(210):
            ours.exchange.fill(ord_id, Decimal("0.01"), PX)
        record = await ours.rest.snapshot_bodies(wanted())
        fills = decode_snapshot(record, inst_id=INST_ID, tag=TAG).fills
        assert len(record.fills) == 3
        assert [fill.trade_id for fill in fills] == [
            fill.trade_id for fill in ours.exchange.ground_truth.fills()
        ]


async def test_each_cancel_of_a_batch_is_answered() -> None:
    async with desk() as ours:
        first, second = await ours.place("c1", "1"), await ours.place("c2", "1")
        ours.exchange.fill(first, Decimal(1), PX)
        code = ours.exchange.instrument.inst_id_code
        await ours.connection.send(
            encode_batch_cancel([first, second], inst_id_code=code, request_id="batch")
        )
        names = [ClOrdId("c1"), ClOrdId("c2")]
        answers = cancel_answers(await ours.answer(), names)
        assert [answer.verdict for answer in answers] == [Verdict.GONE, Verdict.ACCEPTED]
        assert (await ours.order_in(OrderState.CANCELED)).cl_ord_id == "c2"


async def test_an_upgrade_is_announced_and_a_closed_connection_is_a_lost_session() -> None:
    async with desk() as ours:
        ours.exchange.faults.announce_upgrade(60)
        await ours.until(lambda event: isinstance(event, UpgradeAhead))
        ours.exchange.faults.cut()
        with pytest.raises(SessionLostError):
            await ours.until(lambda _event: False)


@pytest.mark.parametrize(
    "wrong", [{"secret_key": "wrong"}, {"passphrase": "wrong"}, {"api_key": "wrong"}]
)
async def test_wrong_credentials_are_final_on_websocket_and_rest(wrong: dict[str, str]) -> None:
    credentials = attrs.evolve(CREDENTIALS, **wrong)
    async with venue() as place, rest_of(place, credentials) as rest:
        with pytest.raises(AccessRejectedError):
            await rest.balance()
        with pytest.raises(LoginRejectedError, match="OKX_"):
            async with open_okx_connection(
                place.ws_url, OkxSession(credentials, INST_ID), system_clock
            ) as connection:
                await anext(connection)
