"""Recorded frames become trades, with or without their actions."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from oms_trio.amqp.codec import encode_action
from oms_trio.core.effects import Effect, PlaceOrder, PublishClosure, PublishExecution
from oms_trio.core.events import SessionDown, SessionUp
from oms_trio.core.model import OrderType
from oms_trio.core.state import TradeState
from oms_trio.replay.player import play
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.recordings.recording import PlayedStep, RecordingError
from oms_trio.replay.report.summary import Summary
from oms_trio.service.state_codec import digest
from tests.core.desk import START_NS
from tests.replay.journals import fill_push, orders_push, position_push

LOGIN = '{"event":"login","code":"0","msg":"","connId":"a"}'
MS = 1_000_000


@attrs.define
class Played:
    """The outcome of a replay."""

    state: TradeState
    played_steps: list[PlayedStep]
    summary: Summary

    @property
    def effects(self) -> list[Effect]:
        return [effect for played in self.played_steps for effect in played.effects]

    def published(self) -> list[str]:
        """Return the executions and closures by kind and okx id."""
        return [
            f"{type(effect).__name__[7:].lower()} {effect.ord_id}"
            for effect in self.effects
            if isinstance(effect, PublishExecution | PublishClosure)
        ]


def lines(*frames: str, start_ms: int = START_NS // MS, step_ms: int = 1000) -> str:
    """Write frames as a recorder does, one a second."""
    return "".join(
        json.dumps({"ts": start_ms + number * step_ms, "dir": "recv", "msg": frame}) + "\n"
        for number, frame in enumerate(frames)
    )


async def played(tmp_path: Path, text: str, *, all_orders: bool | None = None) -> Played:
    file = tmp_path / "frames.jsonl"
    file.write_text(text)
    played_steps: list[PlayedStep] = []
    summary = Summary()
    with open_recording(file, all_orders=all_orders) as recording:
        state = await play(recording, [played_steps.append, summary])
    return Played(state, played_steps, summary)


def foreign(ord_id: str, side: str, sz: str, px: str, trade_id: int) -> str:
    """A fill of an order that some other program has sent."""
    return fill_push(ord_id, f"x{ord_id}", side, sz, px, trade_id, tag="")


TRADE = (LOGIN, foreign("11", "buy", "2", "67000", 5), foreign("12", "sell", "2", "67100", 9))


async def test_frames_of_other_programs_become_trades(tmp_path: Path) -> None:
    found = await played(tmp_path, lines(*TRADE))
    assert found.published() == ["execution 11", "execution 12", "closure 12"]
    closure = next(e for e in found.effects if isinstance(e, PublishClosure))
    assert closure.reward == pytest.approx(2.0)
    assert closure.portions == (("11", 1.0), ("12", 1.0))


async def test_drawdown_is_read_from_position_pushes(tmp_path: Path) -> None:
    found = await played(
        tmp_path, lines(TRADE[0], TRADE[1], position_push("2", "-0.1", 5), TRADE[2])
    )
    closure = next(e for e in found.effects if isinstance(e, PublishClosure))
    assert closure.reward == pytest.approx(2.0 * 0.8)


async def test_compressed_and_truncated_files_are_read_as_far_as_possible(tmp_path: Path) -> None:
    whole = gzip.compress(lines(*TRADE).encode())
    file = tmp_path / "frames.jsonl.gz"
    for content, closures in ((whole, 1), (whole[:-9], 1)):
        file.write_bytes(content)
        summary = Summary()
        with open_recording(file) as recording:
            await play(recording, [summary])
        assert summary.effects[PublishClosure] == closures


async def test_invalid_lines_are_skipped(tmp_path: Path) -> None:
    text = "not json\n\n" + lines(*TRADE).replace("\n", '\n{"half": \n')
    assert (await played(tmp_path, text)).published() == [
        "execution 11",
        "execution 12",
        "closure 12",
    ]


async def test_file_without_any_frame_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no line is a frame"):
        await played(tmp_path, "# Title\n\nA text.\n")


async def test_fill_whose_push_is_missing_is_derived_from_the_growth(tmp_path: Path) -> None:
    """2 contracts at 67000 are missing: the next push shows 3 at an average of 67010."""
    last = orders_push(
        "11", "x11", "buy", "3", tag="", state="filled", accFillSz="3", avgPx="67010",
        fillPx="67030", fillSz="1", fillTime=str(START_NS // MS + 20), tradeId="20",
    )  # fmt: skip
    quiet = [position_push("3", "", 20)] * 10
    found = await played(tmp_path, lines(LOGIN, last, *quiet))
    booked = [one for played in found.played_steps for one in played.booked]
    assert [(one.fill.sz, one.fill.px) for one in booked] == [
        (Decimal(2), Decimal(67000)),
        (Decimal(1), Decimal(67030)),
    ]
    assert found.state.book.position == 3


async def test_another_login_and_session_lines_are_lost_sessions(tmp_path: Path) -> None:
    text = lines(*TRADE[:2], LOGIN, TRADE[2])
    text += json.dumps({"ts": START_NS // MS + 10_000, "session": "down", "why": "cut"}) + "\n"
    found = await played(tmp_path, text)
    links = [
        type(event)
        for played in found.played_steps
        for event in played.step.journaled_input.events
        if isinstance(event, SessionUp | SessionDown)
    ]
    assert links == [SessionUp, SessionDown, SessionUp, SessionDown]
    assert found.published() == ["execution 11", "execution 12", "closure 12"]
    assert found.summary.gaps.since_ns is not None


async def test_only_our_orders_count_when_there_are_some(tmp_path: Path) -> None:
    """An order without our tag is in no trade, unless all orders are requested."""
    ours = fill_push("21", "oms00000007aaaaaaaaaaaaaaaaaaaa", "buy", "1", "67000", 3)
    text = lines(LOGIN, ours, *TRADE[1:])
    found = await played(tmp_path, text)
    assert found.published() == ["execution 21"]
    assert found.summary.foreign == 2
    everything = await played(tmp_path, text, all_orders=True)
    assert everything.published()[:2] == ["execution 21", "execution 11"]


async def test_actions_become_orders_and_match_their_answers(tmp_path: Path) -> None:
    """The trade state derives the clOrdIds that are in the recorded frames."""
    account = '{"arg":{"channel":"account"},"data":[{"uTime":"1790000000000","details":[{"ccy":"USDT","cashBal":"10000","uTime":"1790000000000"}]}]}'
    body = encode_action(7, OrderType.LIMIT, -0.25, 3.0, Decimal(67000))
    act = json.dumps({"ts": START_NS // MS + 3_000, "action": body.hex(), "message_id": "m"}) + "\n"
    first = await played(tmp_path, lines(LOGIN, account) + act)
    (placed,) = [e for e in first.effects if isinstance(e, PlaceOrder)]
    assert (placed.side.value, placed.px, placed.sz) == ("buy", Decimal("66983.2"), Decimal("4.5"))
    name = placed.cl_ord_id
    request = {"id": "r1", "op": "order", "args": [{"clOrdId": name, "sz": "4.5"}]}
    answer = {
        "id": "r1",
        "op": "order",
        "code": "0",
        "msg": "",
        "data": [{"ordId": "31", "sCode": "0"}],
    }
    start = START_NS // MS + 3_000
    after = (
        json.dumps({"ts": start + 5, "dir": "sent", "msg": request})
        + "\n"
        + json.dumps({"ts": start + 40, "dir": "recv", "msg": answer})
        + "\n"
        + lines(fill_push("31", name, "buy", "4.5", "66983.2", 5), start_ms=start + 1_000)
    )
    found = await played(tmp_path, lines(LOGIN, account) + act + after)
    assert found.published() == ["execution 31"]
    assert found.summary.ack.count == 1
    assert found.summary.ack.longest_ns == 40 * MS
    assert found.summary.to_fill.longest_ns == 1_000 * MS


async def test_two_recordings_of_the_same_frames_give_the_same_state(tmp_path: Path) -> None:
    plain = await played(tmp_path, lines(*TRADE))
    spaced = await played(
        tmp_path,
        "".join(
            json.dumps({"time": (START_NS // MS + n * 1000) / 1000, "frame": json.loads(frame)})
            + "\n"
            for n, frame in enumerate(TRADE)
        ),
    )
    assert digest(plain.state) == digest(spaced.state)
