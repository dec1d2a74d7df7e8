"""Tables of what happened in a recording, as CSV or Parquet.

Rows are written while the recording is played, so memory stays flat. In Parquet sizes, prices and
money are decimals with 12 places and times are timestamps in UTC; in CSV both are text.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Context, Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

from oms_trio.replay.export.tables import COLUMNS, Kind, Row, What, Write, table_of
from oms_trio.replay.player import play
from oms_trio.replay.recordings.files import open_recording
from oms_trio.replay.recordings.model import RecordingError
from oms_trio.replay.times import iso

_PLACES: Final = 12
_DIGITS: Final = 38
_QUANTUM: Final = Decimal(1).scaleb(-_PLACES)
_ROUNDED: Final = Context(prec=_DIGITS)

_GROUP: Final = 10_000
"""Rows of one row group of a Parquet file, which wait in memory."""


class Format(StrEnum):
    """Which kind of file."""

    CSV = "csv"
    PARQUET = "parquet"


async def export_rows(path: Path, what: What, form: Format, output: Path | None) -> None:
    """Play a recording and write one table of it; without ``output`` to standard output.

    Raises:
        RecordingError, StateError: it cannot be read, the file cannot be written, or what writes
            Parquet is not installed.
    """
    opened = _csv(what, output) if form is Format.CSV else _parquet(what, output)
    with open_recording(path) as recording, opened as write:
        table = table_of(what, write)
        await play(recording, [table])
        table.finish()


@contextmanager
def _csv(what: What, output: Path | None) -> Iterator[Write]:
    columns = COLUMNS[what]
    with _text_file(output) as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        yield lambda row: writer.writerow(
            {name: _as_text(value, columns[name]) for name, value in row.items()}
        )


@contextmanager
def _text_file(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    try:
        file = output.open("w", newline="", encoding="utf-8")
    except OSError as error:
        raise _unwritable(output, error) from None
    with file:
        yield file


def _as_text(value: Any, kind: Kind) -> Any:  # noqa: ANN401 - whatever a row holds
    if value is None:
        return ""
    match kind:
        case Kind.TIME:
            return iso(value)
        case Kind.DECIMAL:
            return format(_rounded(value), "f")
        case Kind.YES_NO:
            return "true" if value else "false"
        case _:
            return value


def _rounded(value: Decimal) -> Decimal:
    """Write what the wire said as it is; only what came of a division has more places."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_PLACES:
        return value.quantize(_QUANTUM, context=_ROUNDED)
    return value


@contextmanager
def _parquet(what: What, output: Path | None) -> Iterator[Write]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped] # it has no types  # noqa: PLC0415
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        raise RecordingError(
            "Parquet needs pyarrow: pip install 'oms-trio[parquet]', or use --format csv"
        ) from None
    if output is None:
        raise RecordingError("Parquet goes into a file: name it with -o")
    types = {
        Kind.TEXT: pa.string(),
        Kind.TIME: pa.timestamp("ns", tz="UTC"),
        Kind.WHOLE: pa.int64(),
        Kind.FLOAT: pa.float64(),
        Kind.DECIMAL: pa.decimal128(_DIGITS, _PLACES),
        Kind.YES_NO: pa.bool_(),
    }
    columns = COLUMNS[what]
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    try:
        writer = pq.ParquetWriter(str(output), schema)
    except OSError as error:
        raise _unwritable(output, error) from None
    with writer:
        group: list[Row] = []

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            group.clear()

        def write(row: Row) -> None:
            group.append({name: _as_arrow(row.get(name), kind) for name, kind in columns.items()})
            if len(group) == _GROUP:
                flush()

        yield write
        flush()


def _as_arrow(value: Any, kind: Kind) -> Any:  # noqa: ANN401 - whatever a row holds
    return _rounded(value) if kind is Kind.DECIMAL and value is not None else value


def _unwritable(output: Path, error: OSError) -> RecordingError:
    return RecordingError(f"{output}: {os.strerror(error.errno) if error.errno else error}")
