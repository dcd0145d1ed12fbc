"""Rules of single formats: headers, delimiters, types of Excel columns, real files."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter

from batch_adapters.catalogue import open_source
from batch_adapters.column_names import unique_names
from streamcore.batch import PartitionId
from streamcore.errors import BadConfig
from streamcore.testing.sources import read_source


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (["a", "b"], ("a", "b")),
        (["a", "", "a", ""], ("a", "column_2", "a_2", "column_4")),
        (["a", "a", "a_2", "a"], ("a", "a_3", "a_2", "a_4")),
        (["column_2", ""], ("column_2", "column_2_2")),
        ([], ()),
    ],
)
def test_header_names_are_made_unique(header: list[str], expected: tuple[str, ...]) -> None:
    assert unique_names(header) == expected


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b;c\n1,2;3\n", ["a", "b;c"]),
        ("a;b\n1,5;2\n2,5;3\n", ["a", "b"]),
        ("a\tb\n1\t2\n", ["a", "b"]),
        ("a|b|c\n1|2|3\n", ["a", "b", "c"]),
        ('"x,y";b\n1;2\n', ["x,y", "b"]),
        ("a,b,c;d\n1,2;3\n4,5;6\n", ["a,b,c", "d"]),
        ("only\n1\n", ["only"]),
    ],
)
def test_the_delimiter_is_found(text: str, columns: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    found = open_source(tmp_path / "x.csv").columns()
    assert found is not None
    assert found.names() == columns


def test_tsv_is_split_at_tabs_only(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("a,b\n1,2\n")
    assert [r.value for r in read_source(open_source(tmp_path / "x.tsv"))] == [("1,2",)]


def test_a_header_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("größe,b\n".encode("latin-1"))
    with pytest.raises(BadConfig, match=r"x\.csv:1: the header is not valid text.*give encoding="):
        open_source(tmp_path / "x.csv").columns()


def test_bird_strikes_are_read_as_the_csv_module_reads_them() -> None:
    path = Path(__file__).parents[3] / "data" / "birdstrikes.csv"
    with path.open(newline="") as handle:
        header, *expected = csv.reader(handle)
    source = open_source(path)
    columns = source.columns()
    assert columns is not None
    assert columns.names() == header
    assert [[field or "" for field in r.value] for r in read_source(source)] == expected  # type: ignore[attr-defined]


def _fewer_rows(*_: object, schema: pl.Schema, **__: object) -> pl.DataFrame:
    return schema.to_frame()


def _failure(*_: object, **__: object) -> pl.DataFrame:
    raise pl.exceptions.ComputeError("malformed")


@pytest.mark.parametrize("read_csv", [_fewer_rows, _failure])
def test_our_rules_decide_where_polars_sees_other_rows(
    read_csv: Callable[..., pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.csv").write_bytes('a,b\r\n1,"x\r\n""y"""\r\n"",\n5" p,é'.encode())
    expected = [("1", 'x\r\n"y"'), ("", None), ('5" p', "é")]
    assert [r.value for r in read_source(open_source(tmp_path / "x.csv"))] == expected
    monkeypatch.setattr(pl, "read_csv", read_csv)
    assert [r.value for r in read_source(open_source(tmp_path / "x.csv"))] == expected


def test_an_original_of_csv_is_the_line_and_of_parquet_the_row(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'a,b\r\n1,"x\r\ny"\r\n')
    pl.DataFrame({"a": [1, 2]}).write_parquet(tmp_path / "x.parquet")
    source = PartitionId("t", 0, "id")
    chunk = open_source(tmp_path / "x.csv").splits(1)[0].open(source, 0).read(1000)
    assert chunk is not None
    assert chunk.original(5) == (b'1,"x\r\ny"', "bytes")
    chunk = open_source(tmp_path / "x.parquet").splits(1)[0].open(source, 0).read(1000)
    assert chunk is not None
    data, encoding = chunk.original(1)
    assert encoding == "arrow"
    assert pl.read_ipc_stream(data or b"").rows() == [(2,)]


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    path = tmp_path / "x.xlsx"
    with xlsxwriter.Workbook(path) as book:
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        hour = book.add_format({"num_format": "hh:mm:ss"})
        sheet = book.add_worksheet("Strikes")
        sheet.write_row(
            2, 1, ["text", "whole", "number", "day", "moment", "flag", "mixed", "", "error", "text"]
        )
        for row, values in enumerate([("x", 1, 1.5, True, 2), ("y", 2, 2, False, "n/a")], 3):
            sheet.write_row(row, 1, values[:3])
            sheet.write_datetime(row, 4, dt.datetime(2020, 1, row), day)
            sheet.write_datetime(row, 5, dt.datetime(2020, 1, row, 6 * (row - 3)), day)
            sheet.write(row, 6, values[3])
            sheet.write(row, 7, values[4])
            sheet.write_formula(row, 9, "=1/0", None, "#DIV/0!")
        sheet.write_datetime(6, 8, dt.time(1, 2, 3), hour)
        book.add_worksheet("Empty")
    return path


def test_excel_columns_have_the_types_of_their_cells(workbook: Path) -> None:
    source = open_source(workbook)
    assert source.columns() == {
        "text": pl.String,
        "whole": pl.Int64,
        "number": pl.Float64,
        "day": pl.Date,
        "moment": pl.Datetime("us"),
        "flag": pl.Boolean,
        "mixed": pl.String,
        "column_9": pl.Time,
        "error": pl.String,
        "text_2": pl.String,
    }
    first, second, third = read_source(source)
    assert (first.position, second.position, third.position) == (3, 4, 6)
    assert first.value == (
        "x", 1, 1.5, dt.date(2020, 1, 3), dt.datetime(2020, 1, 3), True, "2", None, None, None,
    )  # fmt: skip
    assert second.value[6] == "n/a"  # type: ignore[index]
    assert third.value[7] == dt.time(1, 2, 3)  # type: ignore[index]


def test_excel_sheets_are_named_or_counted(workbook: Path) -> None:
    assert open_source(workbook, sheet="Strikes").columns() == open_source(workbook, sheet=1).columns()
    assert open_source(f"{workbook}?sheet=2").columns() is None
    with pytest.raises(BadConfig, match="no such sheet, got 'Strike', allowed: Strikes, Empty; did you mean"):
        open_source(workbook, sheet="Strike").columns()
    with pytest.raises(BadConfig, match="no such row, got 99"):
        open_source(workbook, header_row=99).columns()
    columns = open_source(workbook, header_row=4).columns()
    assert columns is not None
    assert columns.names()[0] == "x"
