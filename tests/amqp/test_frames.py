"""Which of a message's properties reach aiormq."""

from __future__ import annotations

import datetime as dt

import pamqp.frame
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from oms_trio.amqp.frames import DEATH_QUEUE, DEATH_REASON, FLAW, FrameFilter, reduced

NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
FIXED = bytes.fromhex("003c0000000000000000000019")[:12]
"""Class, weight and a body of 25 bytes."""


def header(flags: int, properties: bytes) -> bytes:
    return FIXED + flags.to_bytes(2) + properties


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def table(*entries: bytes) -> bytes:
    joined = b"".join(entries)
    return len(joined).to_bytes(4) + joined


def decoded(payload: bytes) -> Basic.Properties:
    """Decode as aiormq does."""
    content = ContentHeader()
    content.unmarshal(payload)
    return content.properties


def nested(depth: int) -> bytes:
    """A value of tables within tables."""
    value = b"V"
    for _ in range(depth):
        value = b"F" + table(short(b"k") + value)
    return value


def died(reason: str, queue: str) -> bytes:
    """The properties of a message that RabbitMQ has dead-lettered."""
    first = {"reason": reason, "queue": queue, "count": 1, "time": NOON, "routing-keys": ["a"]}
    headers = {"x-first-death-reason": "other", "x-death": [first, {"reason": "old", "queue": "q"}]}
    properties = Basic.Properties(headers=headers, message_id="id")  # type: ignore[arg-type]
    return ContentHeader(body_size=25, properties=properties).marshal()


def test_properties_in_use_are_kept_and_all_others_removed() -> None:
    full = Basic.Properties(
        content_type="application/x",
        content_encoding="gzip",
        headers={"a": 1},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="5000",
        message_id="id",
        timestamp=NOON,
        message_type="t",
        user_id="guest",
        app_id="agent",
    )
    left = decoded(reduced(ContentHeader(body_size=7, properties=full).marshal()))
    assert left == Basic.Properties(content_type="application/x", message_id="id", timestamp=NOON)
    assert reduced(ContentHeader(body_size=7, properties=full).marshal())[4:12] == (7).to_bytes(8)


def test_a_message_without_properties_stays_without() -> None:
    assert reduced(header(0, b"")) == header(0, b"")


@pytest.mark.parametrize("stamp", [1_763_985_600_000, 1_763_985_600_000_000, 2**63, 2**64 - 1])
def test_a_timestamp_that_is_not_in_seconds_is_dropped(stamp: int) -> None:
    payload = header(1 << 7 | 1 << 6, short(b"id") + stamp.to_bytes(8))
    assert decoded(reduced(payload)) == Basic.Properties(message_id="id")


def test_headers_are_dropped_however_deep_they_are() -> None:
    deep = table(short(b"deep") + nested(5_000))
    payload = header(1 << 13 | 1 << 7, deep + short(b"id"))
    assert decoded(reduced(payload)) == Basic.Properties(message_id="id")


def test_a_message_id_that_is_not_utf_8_makes_the_message_unusable() -> None:
    left = decoded(reduced(header(1 << 7, short(b"\xff\xfe"))))
    assert left.message_id is None
    assert left.headers == {FLAW: "the AMQP message_id is not UTF-8"}


def test_a_content_type_that_is_not_utf_8_is_dropped() -> None:
    payload = header(1 << 15 | 1 << 7, short(b"\xff") + short(b"id"))
    assert decoded(reduced(payload)) == Basic.Properties(message_id="id")


@pytest.mark.parametrize("flags", [1 << 7, 1 << 7 | 1, 1 << 13])
def test_truncated_properties_make_the_message_unusable(flags: int) -> None:
    left = decoded(reduced(header(flags, b"\x09short")))
    assert left.headers == {FLAW: "the AMQP properties cannot be read"}


def test_the_newest_death_is_kept() -> None:
    left = decoded(reduced(died("expired", "actions")))
    assert left.headers == {DEATH_REASON: "expired", DEATH_QUEUE: "actions"}
    assert left.message_id == "id"


def test_deaths_are_found_after_entries_that_cannot_be_decoded() -> None:
    payload = died("expired", "actions")
    at = len(FIXED) + 2
    size = int.from_bytes(payload[at : at + 4])
    entries = short(b"deep") + nested(3_000) + short(b"\xff") + b"T" + b"\xff" * 8
    entries += payload[at + 4 : at + 4 + size]
    changed = payload[:at] + table(entries) + payload[at + 4 + size :]
    left = decoded(reduced(changed))
    assert left.headers == {DEATH_REASON: "expired", DEATH_QUEUE: "actions"}


@pytest.mark.parametrize(
    "value", [nested(3_000), b"A" + table(nested(3_000)), b"A" + table(), b"S" + table(b"x"), b"V"]
)
def test_deaths_that_rabbitmq_did_not_write_are_ignored(value: bytes) -> None:
    payload = header(1 << 13, table(short(b"x-death") + value))
    assert not decoded(reduced(payload)).headers


@given(st.integers(0, 2**16 - 1), st.binary(max_size=200))
@example(1 << 13, table(short(b"k") + b"?"))
@example(1 << 13, table(b"\xff"))
def test_aiormq_can_decode_the_rest_of_any_properties(flags: int, properties: bytes) -> None:
    left = decoded(reduced(header(flags, properties)))
    assert set(left.headers or {}) <= {FLAW, DEATH_REASON, DEATH_QUEUE}


@given(st.lists(st.integers(1, 40), max_size=30))
def test_frames_are_recognized_however_the_stream_is_split(cuts: list[int]) -> None:
    properties = Basic.Properties(message_id="id", headers={"a": 1})
    sent = b"".join(
        pamqp.frame.marshal(one, 1)
        for one in (
            Basic.Deliver("tag", 1, redelivered=False, exchange="e", routing_key="k"),
            ContentHeader(body_size=3, properties=properties),
            ContentBody(b"\x02ab"),
            Basic.Ack(7),
        )
    )
    filtered = FrameFilter()
    got, at = b"", 0
    for cut in cuts:
        got += filtered.feed(sent[at : at + cut])
        at += cut
    got += filtered.feed(sent[at:]) + filtered.end()
    frames = []
    while got:
        size, channel, frame = pamqp.frame.unmarshal(got)
        frames.append((channel, frame))
        got = got[size:]
    assert [type(frame) for _, frame in frames] == [
        Basic.Deliver,
        ContentHeader,
        ContentBody,
        Basic.Ack,
    ]
    assert {channel for channel, _ in frames} == {1}
    content, body = frames[1][1], frames[2][1]
    assert isinstance(content, ContentHeader)
    assert (content.body_size, content.properties) == (3, Basic.Properties(message_id="id"))
    assert isinstance(body, ContentBody)
    assert body.value == b"\x02ab"


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_bytes_that_are_not_amqp_pass_unchanged(chunks: list[bytes]) -> None:
    greeting = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    filtered = FrameFilter()
    got = b"".join(filtered.feed(chunk) for chunk in (greeting, *chunks)) + filtered.end()
    assert got == greeting + b"".join(chunks)


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_raise_an_exception(chunks: list[bytes]) -> None:
    filtered = FrameFilter()
    for chunk in chunks:
        filtered.feed(chunk)
    filtered.end()


def test_a_stream_that_ends_within_a_frame_is_passed_on_completely() -> None:
    filtered = FrameFilter()
    cut = pamqp.frame.marshal(ContentHeader(body_size=3), 1)[:-1]
    assert filtered.feed(cut) + filtered.end() == cut
    assert filtered.end() == b""
