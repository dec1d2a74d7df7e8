"""Tables of what happened in a recording, as CSV or Parquet.

Rows are written while the recording is played, so memory does not grow with it. In Parquet sizes, prices and
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

from oms_trio.replay.export.tables import (
    COLUMNS,
    ColumnType,
    TableName,
    TableRow,
    WriteRow,
    rows_of,
)
from oms_trio.replay.player import play
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.recordings.recording import RecordingError
from oms_trio.replay.times import format_time

_PLACES: Final = 12
_DIGITS: Final = 38
_QUANTUM: Final = Decimal(1).scaleb(-_PLACES)
_ROUNDED: Final = Context(prec=_DIGITS)

_ROWS_AT_ONCE: Final = 10_000
"""Rows of one row group of a Parquet file, held in memory until they are written."""


class FileFormat(StrEnum):
    """A file format that ``export --format`` writes."""

    CSV = "csv"
    PARQUET = "parquet"


async def export_rows(
    path: Path, table: TableName, file_format: FileFormat, output: Path | None
) -> None:
    """Play a recording and write one table of it, without ``output`` to standard output.

    Raises:
        RecordingError, StateError: the recording cannot be read, the file cannot be written, or
            pyarrow, which writes Parquet, is not installed.
    """
    opened = _csv(table, output) if file_format is FileFormat.CSV else _parquet(table, output)
    with open_recording(path) as recording, opened as write:
        rows = rows_of(table, write)
        await play(recording, [rows.watch])
        for row in rows.unfinished():
            write(row)


@contextmanager
def _csv(table: TableName, output: Path | None) -> Iterator[WriteRow]:
    columns = COLUMNS[table]
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


def _as_text(value: Any, kind: ColumnType) -> Any:  # noqa: ANN401 - whatever a row holds
    if value is None:
        return ""
    match kind:
        case ColumnType.TIME:
            return format_time(value)
        case ColumnType.DECIMAL:
            return format(_rounded(value), "f")
        case ColumnType.YES_NO:
            return "true" if value else "false"
        case _:
            return value


def _rounded(value: Decimal) -> Decimal:
    """Round to 12 places; only results of a division have more."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_PLACES:
        return value.quantize(_QUANTUM, context=_ROUNDED)
    return value


@contextmanager
def _parquet(table: TableName, output: Path | None) -> Iterator[WriteRow]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped] # it has no types  # noqa: PLC0415
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        raise RecordingError(
            "Parquet needs pyarrow: pip install 'oms-trio[parquet]', or use --format csv"
        ) from None
    if output is None:
        raise RecordingError("Parquet is not written to standard output: name a file with -o")
    types = {
        ColumnType.TEXT: pa.string(),
        ColumnType.TIME: pa.timestamp("ns", tz="UTC"),
        ColumnType.WHOLE: pa.int64(),
        ColumnType.FLOAT: pa.float64(),
        ColumnType.DECIMAL: pa.decimal128(_DIGITS, _PLACES),
        ColumnType.YES_NO: pa.bool_(),
    }
    columns = COLUMNS[table]
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    try:
        writer = pq.ParquetWriter(str(output), schema)
    except OSError as error:
        raise _unwritable(output, error) from None
    with writer:
        group: list[TableRow] = []

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            group.clear()

        def write(row: TableRow) -> None:
            group.append({name: _as_arrow(row.get(name), kind) for name, kind in columns.items()})
            if len(group) == _ROWS_AT_ONCE:
                flush()

        yield write
        flush()


def _as_arrow(value: Any, kind: ColumnType) -> Any:  # noqa: ANN401 - whatever a row holds
    return _rounded(value) if kind is ColumnType.DECIMAL and value is not None else value


def _unwritable(output: Path, error: OSError) -> RecordingError:
    return RecordingError(f"{output}: {os.strerror(error.errno) if error.errno else error}")
