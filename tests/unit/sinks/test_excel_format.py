"""What the Excel sink writes is what the Excel source reads; what Excel can't hold is refused."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from python_calamine import load_workbook

from batch_adapters.catalogue import open_source
from streamcore.batch import PartitionId
from streamcore.errors import BadConfig
from streamcore.sinks import Excel, excel_format
from streamcore.sinks.column_checks import ColumnChecks
from streamcore.sinks.excel_format import ExcelFormat

SOURCE = PartitionId("excel", 0, "excel")


def read(path: Path) -> pl.DataFrame:
    reader = open_source(path).splits(1)[0].open(SOURCE, 0)
    chunk = reader.read(1 << 24)
    assert chunk is not None
    assert chunk.frame is not None
    return chunk.frame


def test_types_come_back_as_they_were(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "whole": [2**53, -(2**53), None],
            "number": [1 / 3, -5e-324, 1.5],
            "yes": [True, False, None],
            "text": ["=1+1", "http://a.example", "_x0041_\x01\r\n"],
            "day": [dt.date(1900, 3, 1), dt.date(9999, 12, 31), None],
            "at": [dt.datetime(2026, 11, 29, 23, 59, 59, 999_000), dt.datetime(1970, 1, 1), None],
            "time": [dt.time(0, 0, 1), dt.time(23, 59, 59), None],
        }
    )
    with (tmp_path / "x.xlsx").open("wb") as file:
        ExcelFormat().write(frame, file)
    assert_frame_equal(read(tmp_path / "x.xlsx"), frame, check_exact=True)


def test_more_rows_than_a_sheet_holds_go_to_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excel_format, "SHEET_ROWS", 3)
    with (tmp_path / "x.xlsx").open("wb") as file:
        ExcelFormat().write(pl.DataFrame({"n": range(7)}), file)
    book = load_workbook(tmp_path / "x.xlsx")
    sheets = [book.get_sheet_by_index(i).to_python() for i in range(len(book.sheet_names))]
    assert sheets == [[["n"], [0], [1], [2]], [["n"], [3], [4], [5]], [["n"], [6]]]


def test_rows_that_excel_can_not_hold_are_refused() -> None:
    frame = pl.DataFrame(
        {
            "n": [1, 2**53 + 1, 3, 4, 5],
            "d": [dt.date(2026, 1, 1), None, dt.date(1900, 2, 28), dt.date(2026, 1, 1), dt.date(2026, 1, 1)],
            "t": ["a", "b", "c", "x" * 32_768, "x" * 32_767],
            "_offset": [0, 1, 2, 3, 4],
            "_sub": [0, 0, 0, 0, 0],
        }
    )
    columns = frame.drop("_offset", "_sub").schema
    good, bad = ColumnChecks(ExcelFormat().columns(columns), ()).refused(frame, "excel")
    assert good["_offset"].to_list() == [0, 4]
    assert bad.frame["code"].to_list() == ["range", "range", "too_large"]


def test_options_and_a_missing_library_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadConfig, match="a sheet has no room for roll_rows, got 2000000"):
        Excel("out", roll_rows=2_000_000)
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(BadConfig, match=r"pip install 'streamcore\[excel\]'"):
        Excel("out").check(pl.Schema({"n": pl.Int64}))
