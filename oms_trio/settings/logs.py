"""Structured logging: event names with fields, on stderr, with every known secret masked."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import urllib.parse
from collections.abc import Iterable, Mapping
from enum import Enum
from types import TracebackType
from typing import Final, Literal, TextIO

import attrs
import structlog
from structlog.typing import EventDict, WrappedLogger

Style = Literal["console", "json"]

MASK: Final = "***"


def configure(
    style: Style = "console",
    level: str = "info",
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Configure logging for the whole process; call it once, before anything is logged.

    ``secrets`` are masked wherever they appear in a value, including tracebacks. Records of the
    standard library's loggers appear in the same format from WARNING up, and so do uncaught
    exceptions. ``stream`` is stderr, except in tests.
    """
    out = sys.stderr if stream is None else stream
    levels = logging.getLevelNamesMapping()
    # Tracebacks become text before they are masked, and never show local variables.
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _Mask.of(secrets),
    ]
    renderer = _renderer(style, colors=out.isatty())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level.upper()]),
        logger_factory=lambda *_: _Lines(out),
    )
    handler = _Handler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            keep_exc_info=False,
        )
    )
    logging.basicConfig(
        handlers=[handler], level=max(logging.WARNING, levels[level.upper()]), force=True
    )
    # It repeats as errors what we log ourselves of a lost connection.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _renderer(style: Style, *, colors: bool) -> structlog.typing.Processor:
    if style == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )


@attrs.frozen
class _Mask:
    """A processor that turns every value into plain data without secrets.

    It runs before the renderer, so that masking cannot break a line's syntax.
    """

    texts: tuple[str, ...]

    @classmethod
    def of(cls, secrets: Iterable[str]) -> _Mask:
        """Return a mask for each secret as it is, and as URLs, JSON and reprs write it."""
        texts = {
            form
            for secret in secrets
            if secret
            for form in (
                secret,
                urllib.parse.quote(secret, safe=""),
                urllib.parse.quote_plus(secret),
                json.dumps(secret)[1:-1],
                repr(secret)[1:-1],
            )
        }
        # Longest first: a secret may be part of another one.
        return cls(tuple(sorted(texts, key=lambda text: (-len(text), text))))

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        # structlog's own entries, which begin with an underscore, must stay as they are.
        return {
            key: value if key.startswith("_") else self._plain(value)
            for key, value in event.items()
        }

    def _plain(self, value: object) -> object:
        match value:
            case Enum():
                return self._plain(value.value)
            case None | bool() | int() | float():
                return MASK if str(value) in self.texts else value
            case str():
                return self._masked(value)
            case bytes():
                return self._masked(value.decode(errors="backslashreplace"))
            case Mapping():
                return {self._masked(str(key)): self._plain(item) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._plain(item) for item in value]
            case BaseException():
                return self._masked(repr(value))  # str of a TimeoutError is empty
            case _:
                return self._masked(str(value))

    def _masked(self, text: str) -> str:
        for secret in self.texts:
            text = text.replace(secret, MASK)
        return text


class _Lines:
    """Writes lines; a full disk or a closed pipe must not stop trading."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = log = msg


class _Handler(logging.Handler):
    """Handles the records of libraries."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._lines = _Lines(stream)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.msg(self.format(record))


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        structlog.get_logger().critical("uncaught_exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
