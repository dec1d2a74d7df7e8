"""Recordings in the formats of other programs."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType
from oms_trio.replay.recordings.json_lines import (
    ActionLine,
    FrameLine,
    SessionLine,
    UnreadableLineError,
    read_line,
    write_frame,
    write_session,
)
from oms_trio.replay.times import format_time, parse_time

AT_NS = 1_790_000_000_123_000_000
FRAME = '{"arg":{"channel":"orders"},"data":[]}'


@pytest.mark.parametrize(
    "when",
    [
        1_790_000_000.123,
        1_790_000_000_123,
        1_790_000_000_123_000,
        1_790_000_000_123_000_000,
        "1790000000123",
        "1790000000.123",
        "2026-09-21T14:13:20.123Z",
        "2026-09-21T14:13:20.123",
        "2026-09-21T16:13:20.123+02:00",
    ],
)
@pytest.mark.parametrize("key", ["time", "ts", "timestamp", "t"])
def test_time_is_read_in_any_unit(when: float | str, key: str) -> None:
    line = read_line(json.dumps({key: when, "frame": FRAME}).encode())
    assert line.at_ns is not None
    assert abs(line.at_ns - AT_NS) < 1_000


@pytest.mark.parametrize("way", ["out", "send", "sent", "OUT", ">", "tx"])
def test_sent_and_received_frames_are_distinguished(way: str) -> None:
    for key in ("direction", "dir"):
        assert read_line(json.dumps({"ts": AT_NS, key: way, "msg": FRAME}).encode()) == FrameLine(
            AT_NS, FRAME, out=True
        )


@pytest.mark.parametrize("way", [{}, {"dir": "in"}, {"dir": "recv"}, {"direction": "<"}])
@pytest.mark.parametrize("key", ["frame", "msg", "message", "data", "raw", "text", "payload"])
def test_frame_is_read_as_text_and_as_json(way: dict[str, str], key: str) -> None:
    for frame in (FRAME, json.loads(FRAME)):
        line = read_line(json.dumps({"ts": AT_NS, **way, key: frame}).encode())
        assert line == FrameLine(AT_NS, FRAME, out=False)


def test_line_that_is_a_frame_takes_its_time_from_its_rows() -> None:
    frame = {
        "arg": {"channel": "orders"},
        "data": [{"uTime": "1790000000122"}, {"uTime": "1790000000123"}],
    }
    line = read_line(json.dumps(frame).encode())
    assert isinstance(line, FrameLine)
    assert line.at_ns == AT_NS
    assert json.loads(line.text) == frame
    assert read_line(b'{"event":"login","code":"0"}') == FrameLine(
        None, '{"event":"login","code":"0"}', out=False
    )


def test_actions_and_session_changes_are_lines_as_well() -> None:
    body = encode_action(7, OrderType.LIMIT, -0.25, 3.0, Decimal(67000))
    assert read_line(
        json.dumps({"ts": AT_NS, "action": body.hex(), "message_id": "m"}).encode()
    ) == ActionLine(AT_NS, body, "m", redelivered=False)
    assert read_line(write_session(AT_NS, None)) == SessionLine(AT_NS, up=True, why="")
    assert read_line(write_session(AT_NS, "cut")) == SessionLine(AT_NS, up=False, why="cut")
    older = json.dumps({"ts": AT_NS, "link": "down", "why": "cut"}).encode()
    assert read_line(older) == SessionLine(AT_NS, up=False, why="cut")


@given(st.text(), st.booleans(), st.integers(10**18, 4 * 10**18))
def test_what_is_written_is_read_back(text: str, out: bool, at_ns: int) -> None:  # noqa: FBT001
    assert read_line(write_frame(at_ns, text, out=out)) == FrameLine(at_ns, text, out=out)


@given(st.binary(max_size=200))
def test_garbage_raises_unreadable_line_and_nothing_else(line: bytes) -> None:
    with pytest.raises(UnreadableLineError):
        read_line(b"\x00" + line)


@pytest.mark.parametrize(
    "line",
    [
        [],
        {},
        {"ts": 1},
        {"ts": "soon", "msg": FRAME},
        {"ts": AT_NS, "action": "zz"},
        {"ts": -1, "msg": ""},
    ],
)
def test_line_without_frame_action_or_session_is_rejected(line: Any) -> None:
    with pytest.raises(UnreadableLineError):
        read_line(json.dumps(line).encode())


@given(st.integers(0, 4 * 10**18 // 10**6))
def test_formatted_time_is_parsed_back(ms: int) -> None:
    ns = ms * 1_000_000
    assert parse_time(format_time(ns)) == ns


@pytest.mark.parametrize("value", ["", "yesterday", None, True, float("nan"), float("inf"), -5])
def test_invalid_time_is_rejected(value: object) -> None:
    with pytest.raises(ValueError, match="not a valid time"):
        parse_time(value)
