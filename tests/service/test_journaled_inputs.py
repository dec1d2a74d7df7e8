"""Records: what the journal keeps of an input is enough to have the same input again."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from hypothesis import assume, given
from hypothesis import strategies as st
from trio.testing import MockClock

from oms_trio.amqp.codec import (
    ActionLayout,
    decode_action,
    encode_action,
    encode_publication,
)
from oms_trio.amqp.model import Delivery
from oms_trio.core.effects import PublishClosure, PublishExecution, PublishRejection
from oms_trio.core.events import Verdict
from oms_trio.core.model import ClOrdId, OrderType, RejectReason
from oms_trio.core.state import TradeState
from oms_trio.journal.journal import Journal
from oms_trio.okx.wire.codec import decode_answer, decode_frame
from oms_trio.okx.wire.frames import AccountPush, ErrorEvent, OpResponse, OrdersPush, PositionsPush
from oms_trio.okx.wire.recorded import FillsBodies, ListingBodies, LookupBody, SnapshotBodies
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import JournaledInput, Kind, OwnAnswer
from oms_trio.service.state_codec import digest
from oms_trio.testing.okx_server.exchange import MatchingMode
from tests.core.desk import RULES
from tests.okx import samples
from tests.service.jumping import serving
from tests.tasks.venue import CONTEXT, open_venue

AT_NS = st.integers(1, 2**62)
NAMES = st.lists(st.from_regex(r"[a-z0-9]{1,31}", fullmatch=True), min_size=1, max_size=20)
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=60)


def assert_same(arrival: JournaledInput) -> None:
    """Read an input back from what the journal keeps of it: equal, with equal events."""
    again = journaled_inputs.read(arrival.kind.value, arrival.raw, arrival.context, CONTEXT)
    assert again == arrival
    assert again.events, "it says something"


@given(
    received_ns=AT_NS,
    state_id=st.integers(0, 2**32 - 1),
    price=st.floats(-0.999, 0.999),
    volume=st.floats(0, 1023),
    cents=st.integers(1, 100_000_000),
    market=st.booleans(),
    message_id=st.none() | TEXT,
    redelivered=st.booleans(),
    tag=st.integers(1, 2**40),
    expired=st.booleans(),
    layout=st.sampled_from([ActionLayout.BYTES_25, ActionLayout.BYTES_23]),
)
def test_an_action_is_read_back(
    received_ns: int,
    state_id: int,
    price: float,
    volume: float,
    cents: int,
    market: bool,  # noqa: FBT001 - drawn by hypothesis
    message_id: str | None,
    redelivered: bool,  # noqa: FBT001 - drawn by hypothesis
    tag: int,
    expired: bool,  # noqa: FBT001 - drawn by hypothesis
    layout: ActionLayout,
) -> None:
    """Whatever layout is accepted today."""
    assume(not -1e-18 < price < 0)
    state_id %= 2**32 if layout is ActionLayout.BYTES_25 else 2**16
    kind = OrderType.MARKET if market else OrderType.LIMIT
    body = encode_action(state_id, kind, price, volume, Decimal(cents) / 100, layout)
    delivery = Delivery(tag, body, message_id, redelivered, expired)
    assert_same(journaled_inputs.action(decode_action(delivery, received_ns, layout)))


@given(
    names=NAMES,
    cancel=st.booleans(),
    verdict=st.sampled_from(Verdict),
    detail=TEXT,
    reason=st.sampled_from(RejectReason),
)
def test_an_own_answer_is_read_back(
    names: list[str],
    cancel: bool,  # noqa: FBT001 - drawn by hypothesis
    verdict: Verdict,
    detail: str,
    reason: RejectReason,
) -> None:
    answer = OwnAnswer(tuple(map(ClOrdId, names)), cancel, verdict, detail, reason)
    assert_same(journaled_inputs.own_answer(answer))


@given(why=TEXT)
def test_the_link_and_the_process_are_read_back(why: str) -> None:
    for arrival in (
        journaled_inputs.session_up(),
        journaled_inputs.session_up(-90 * 10**9),
        journaled_inputs.session_down(why),
        journaled_inputs.started(RULES),
        journaled_inputs.TICK,
        journaled_inputs.DRAIN,
    ):
        assert_same(arrival)


@given(names=NAMES, codes=st.lists(st.sampled_from(["0", "51008", "50001"]), min_size=1))
def test_answers_of_the_exchange_are_read_back(names: list[str], codes: list[str]) -> None:
    rows = [{"ordId": "7", "clOrdId": name, "sCode": codes[0], "sMsg": ""} for name in names]
    text = json.dumps({"id": "r1", "op": "order", "code": codes[0], "msg": "", "data": rows})
    frame = decode_frame(text, CONTEXT.inst_id)
    assert isinstance(frame, OpResponse | ErrorEvent)
    asked = [ClOrdId(name) for name in names]
    assert_same(journaled_inputs.order_answer(text, frame, asked))
    assert_same(journaled_inputs.cancel_answer(text, frame, asked))


@pytest.mark.parametrize(
    "text",
    [
        samples.orders_push(samples.order_row(), samples.live_row()),
        samples.positions_push(),
        samples.ACCOUNT,
    ],
)
def test_pushes_are_read_back(text: str) -> None:
    event = decode_frame(text, CONTEXT.inst_id)
    assert isinstance(event, OrdersPush | PositionsPush | AccountPush)
    assert_same(journaled_inputs.push(text, event))


def test_answers_by_rest_are_read_back() -> None:
    body = SnapshotBodies(
        request=3,
        asked_at_ns=5,
        instrument=samples.INSTRUMENT,
        balance=samples.rest_body(*json.loads(samples.ACCOUNT)["data"]),
        pending=(samples.rest_body(samples.live_row()),),
        history=(),
        looked_up={"nobody": samples.NO_SUCH_ORDER},
        position=samples.rest_body(*json.loads(samples.POSITION)["data"]),
        fills=(samples.FILLS,),
    )
    assert_same(journaled_inputs.snapshot(body, CONTEXT))
    assert_same(journaled_inputs.listing(ListingBodies(3, 5, body.pending, body.position), CONTEXT))
    assert_same(journaled_inputs.fills(FillsBodies("1", (samples.FILLS,)), CONTEXT))
    assert_same(journaled_inputs.lookup(LookupBody("nobody", 4, samples.NO_SUCH_ORDER), CONTEXT))


def test_a_session_of_the_first_release_has_no_offset() -> None:
    old = journaled_inputs.read("session_up", b"", "", CONTEXT)
    assert old.events == journaled_inputs.session_up(0).events


def test_answers_of_operations_by_rest_are_read_back() -> None:
    row = {"ordId": "7", "clOrdId": "a", "sCode": "0", "sMsg": ""}
    text = json.dumps({"code": "0", "msg": "", "data": [row], "inTime": "1", "outTime": "2"})
    frame = decode_answer(text)
    assert_same(journaled_inputs.order_answer(text, frame, [ClOrdId("a")]))
    assert_same(journaled_inputs.cancel_answer(text, frame, [ClOrdId("a")]))


def test_a_kind_of_another_release_is_refused() -> None:
    with pytest.raises(ValueError, match="telepathy"):
        journaled_inputs.read("telepathy", b"", "", CONTEXT)


async def test_a_replayed_journal_gives_the_same_state_and_the_same_messages(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A moving market, cuts, refusals and a restart: all of it again from the records alone."""
    told = []
    async with open_venue(mode=MatchingMode.AUTO) as venue:
        for life in range(2):
            async with serving(tmp_path, venue) as service:
                for number in range(1, 121):
                    service.act(
                        life * 1000 + number, -0.1 if number % 3 else 0.1, 2.0 * (number % 7)
                    )
                    await trio.sleep(0.3)
                    if number % 40 == 0:
                        venue.exchange.faults.cut()
                await trio.sleep(30)
            told += service.heard()
    state = TradeState(RULES)
    again = []
    kinds = set()
    with Journal.open(tmp_path / "journal.sqlite", read_only=True) as journal:
        for _, record in journal.tail(0):
            arrival = journaled_inputs.read(record.kind, record.raw, record.context, CONTEXT)
            kinds.add(arrival.kind)
            for event in arrival.events:
                again += [
                    encode_publication(effect)
                    for effect in state.apply(event, record.at_ns)
                    if isinstance(effect, PublishExecution | PublishClosure | PublishRejection)
                ]
        snapshot = journal.latest_snapshot()
        assert snapshot is not None
        assert (snapshot.seq, snapshot.digest) == (journal.last_seq, digest(state))
    assert again == told
    assert len(told) > 50
    assert {Kind.ACTION, Kind.PUSH, Kind.SESSION_DOWN, Kind.SNAPSHOT, Kind.DRAIN} <= kinds
