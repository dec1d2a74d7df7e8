"""Log lines: events with fields, UTC times, and no secret in any form."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import attrs
import pytest
import structlog

from oms_trio.settings import logs

SECRET = 'p@ss/"wörd" 7f3a'


class Colour(Enum):
    RED = "red"


@attrs.frozen
class Holder:
    """Stands for a library's object whose repr reveals a secret."""

    password: str


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Give a stream to log to, and restore logging afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:], sys.excepthook, threading.excepthook = before[0], before[2], before[3]
    root.setLevel(before[1])


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_the_event_its_fields_its_level_and_a_utc_time(
    stream: io.StringIO,
) -> None:
    logs.configure("json", stream=stream)
    structlog.get_logger().warning(
        "connection_lost", why="eof", px=Decimal("67000.10"), c=Colour.RED
    )
    (line,) = lines(stream)
    age = datetime.now(UTC) - datetime.fromisoformat(line.pop("timestamp"))
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert line == {
        "event": "connection_lost",
        "level": "warning",
        "why": "eof",
        "px": "67000.10",
        "c": "red",
    }


def test_a_console_line_has_the_event_and_its_fields(stream: io.StringIO) -> None:
    logs.configure("console", stream=stream)
    structlog.get_logger().info("started", port=9464)
    assert "started" in stream.getvalue()
    assert "port=9464" in stream.getvalue()
    assert "\x1b" not in stream.getvalue(), "no colour codes outside a terminal"


def test_events_below_the_level_are_not_logged(stream: io.StringIO) -> None:
    logs.configure("json", "warning", stream=stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def fail(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        f"amqp://user:{urllib.parse.quote(SECRET, safe='')}@host",
        urllib.parse.urlencode({"p": SECRET}),
        json.dumps({"passphrase": SECRET}),
        repr([SECRET]),
        {"deep": [{"er": (SECRET,)}], SECRET: 1},
        Holder(SECRET),
        RuntimeError(f"refused {SECRET}"),
        f"auth {SECRET}".encode(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_is_masked_in_every_value(
    stream: io.StringIO, style: logs.Style, value: object
) -> None:
    logs.configure(style, secrets=[SECRET], stream=stream)
    structlog.get_logger().info("tried", value=value)
    assert "7f3a" not in stream.getvalue()
    assert logs.MASK in stream.getvalue()


def test_a_secret_is_masked_in_a_traceback_and_locals_are_not_shown(
    stream: io.StringIO,
) -> None:
    logs.configure("console", secrets=[SECRET], stream=stream)
    hidden = "of-the-frame"
    try:
        fail(ValueError(SECRET), KeyError(SECRET))
    except ValueError:
        structlog.get_logger().exception("failed", hint=len(hidden))
    text = stream.getvalue()
    assert "Traceback" in text
    assert "ValueError: ***" in text
    assert "7f3a" not in text
    assert "of-the-frame" not in text


def test_a_secret_of_digits_is_masked_as_a_number_too(stream: io.StringIO) -> None:
    logs.configure("json", secrets=["90210"], stream=stream)
    structlog.get_logger().info("tried", code=90210, size=902100, ok=True, none=None)
    (line,) = lines(stream)
    assert (line["code"], line["size"], line["ok"], line["none"]) == ("***", 902100, True, None)


def test_a_secret_that_contains_another_is_masked_whole(stream: io.StringIO) -> None:
    logs.configure("json", secrets=["key", "key-and-more"], stream=stream)
    structlog.get_logger().info("tried", value="key-and-more")
    assert lines(stream)[0]["value"] == "***"


def test_without_secrets_nothing_is_masked(stream: io.StringIO) -> None:
    logs.configure("json", secrets=[""], stream=stream)
    structlog.get_logger().info("plain", value="abc")
    assert lines(stream)[0]["value"] == "abc"


def test_records_of_libraries_are_logged_from_warning_up_and_masked(stream: io.StringIO) -> None:
    logs.configure("json", "debug", secrets=[SECRET], stream=stream)
    library = logging.getLogger("trio_websocket.server")
    library.info("chatter")
    library.warning("lost %s", SECRET)
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["level"]) == (
        "lost ***",
        "trio_websocket.server",
        "warning",
    )


def test_a_library_traceback_is_masked(stream: io.StringIO) -> None:
    logs.configure("json", secrets=[SECRET], stream=stream)
    try:
        fail(OSError(SECRET))
    except OSError:
        logging.getLogger("httpx").exception("request failed")
    (line,) = lines(stream)
    assert "OSError: ***" in line["exception"]
    assert "7f3a" not in stream.getvalue()


def test_an_uncaught_exception_is_logged_and_masked(stream: io.StringIO) -> None:
    logs.configure("json", secrets=[SECRET], stream=stream)
    error = RuntimeError(SECRET)
    sys.excepthook(RuntimeError, error, None)
    (line,) = lines(stream)
    assert line["event"] == "uncaught_exception"
    assert "RuntimeError: ***" in line["exception"]


def test_an_uncaught_exception_of_a_thread_is_logged_and_masked(stream: io.StringIO) -> None:
    logs.configure("json", secrets=[SECRET], stream=stream)

    thread = threading.Thread(target=fail, args=[RuntimeError(SECRET)])
    thread.start()
    thread.join()
    assert "RuntimeError: ***" in lines(stream)[0]["exception"]


class FullDisk(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.usefixtures("stream")
def test_a_stream_that_fails_does_not_stop_the_caller() -> None:
    logs.configure("json", stream=FullDisk())
    structlog.get_logger().error("nobody_reads_this")
    logging.getLogger("httpx").error("nor this")
    closed = io.StringIO()
    logs.configure("json", stream=closed)
    closed.close()
    structlog.get_logger().error("nobody_reads_this_either")
