"""Tables for a notebook."""

from __future__ import annotations

import csv
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types
import pytest

from oms_trio.replay.export.table_files import FileFormat, export_rows
from oms_trio.replay.export.tables import COLUMNS, TableName
from oms_trio.replay.recordings.recording import RecordingError
from oms_trio.replay.times import parse_time
from tests.replay.journals import JournalWriter, write_journal


@pytest.fixture
def writer(tmp_path: Path) -> JournalWriter:
    return write_journal(
        tmp_path / "journal.sqlite",
        [("buy", "67000"), ("buy", "66950"), ("buy", "66901"), ("sell", "67100")],
    )


async def table(tmp_path: Path, table_name: TableName) -> list[dict[str, str]]:
    output = tmp_path / "table.csv"
    await export_rows(tmp_path / "journal.sqlite", table_name, FileFormat.CSV, output)
    with output.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("writer")
@pytest.mark.parametrize("table_name", list(TableName))
async def test_parquet_and_csv_hold_the_same(tmp_path: Path, table_name: TableName) -> None:
    texts = await table(tmp_path, table_name)
    output = tmp_path / "table.parquet"
    await export_rows(tmp_path / "journal.sqlite", table_name, FileFormat.PARQUET, output)
    found = pq.read_table(output)
    assert found.schema.names == list(COLUMNS[table_name]) == list(texts[0])
    rows = found.to_pylist()
    assert len(rows) == len(texts) > 0
    for row, text in zip(rows, texts, strict=True):
        for name, value in row.items():
            exported = text[name]
            if value is None:
                assert exported == ""
            elif isinstance(value, Decimal):
                assert value == Decimal(exported)
            elif hasattr(value, "to_datetime64"):
                assert abs(value.value - parse_time(exported)) < 1_000_000
            elif isinstance(value, float):
                assert value == float(exported)


@pytest.mark.usefixtures("writer")
async def test_open_trade_and_averages_are_exported(tmp_path: Path) -> None:
    (trade,) = await table(tmp_path, TableName.TRADES)
    assert (trade["closed"], trade["reward"], trade["fills"]) == ("", "", "4")
    # The average has a third in it, so it is rounded to 12 places.
    assert trade["entry_px"] == "66950.333333333333"


async def test_fills_and_orders_are_all_there(tmp_path: Path, writer: JournalWriter) -> None:
    fills = await table(tmp_path, TableName.FILLS)
    assert [row["fill_px"] for row in fills] == ["67000", "66950", "66901", "67100"]
    assert Decimal(fills[-1]["position"]) == writer.state.book.position
    orders = await table(tmp_path, TableName.ORDERS)
    assert [row["order_state"] for row in orders] == ["filled"] * 4
    assert [row["state_id"] for row in orders] == ["1", "2", "3", "4"]
    executions = await table(tmp_path, TableName.EXECUTIONS)
    assert len(executions) == 4
    assert len({row["message_id"] for row in executions}) == 4


@pytest.mark.usefixtures("writer")
async def test_table_goes_to_standard_output_without_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await export_rows(tmp_path / "journal.sqlite", TableName.FILLS, FileFormat.CSV, None)
    assert capsys.readouterr().out.splitlines()[0] == ",".join(COLUMNS[TableName.FILLS])


@pytest.mark.usefixtures("writer")
async def test_missing_pyarrow_and_bad_files_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, missing = tmp_path / "journal.sqlite", tmp_path / "no" / "x"
    for form in FileFormat:
        with pytest.raises(RecordingError, match="No such file"):
            await export_rows(path, TableName.FILLS, form, missing)
    with pytest.raises(RecordingError, match="name a file with -o"):
        await export_rows(path, TableName.FILLS, FileFormat.PARQUET, None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RecordingError, match=r"pip install 'oms-trio\[parquet\]'"):
        await export_rows(path, TableName.FILLS, FileFormat.PARQUET, tmp_path / "x")
