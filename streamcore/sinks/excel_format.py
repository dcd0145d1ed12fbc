"""What the files of an Excel sink look like inside: one sheet with a header, by XlsxWriter.

Only here XlsxWriter is imported (``streamcore[excel]``). Rows are written cell by cell, in order, so that
memory does not grow with them; it is slow for what it is, some 100,000 cells a second.

Excel knows numbers of 64 bits in floating point, texts, booleans, and times as numbers with a format:

================================  ===============================================================
in the stream                     in the sheet
================================  ===============================================================
integers, floats, booleans        as they are; NaN and infinities are empty cells
text, categories                  texts, never formulas or links; an empty text is an empty cell
date, time, datetime without zone  with a format; Excel keeps times to the millisecond
================================  ===============================================================

Rows that Excel can't hold are refused: ``range`` (an integer beyond 2^53, a time before March 1900),
``too_large`` (a text of more than 32,767 characters).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from types import ModuleType
from typing import Any, BinaryIO

import polars as pl

from streamcore.errors import BadConfig
from streamcore.sinks.column_checks import Checked
from streamcore.sinks.file_formats import refuse

SHEET_ROWS = 1_048_575
"""Beside the header."""
_CELL_CHARACTERS, _WHOLE_LIMIT = 32_767, 2**53
_DAY_US, _EPOCH = 86_400_000_000, 25_569
_FIRST, _LAST = date(1900, 3, 1), date(9999, 12, 31)
"""Excel believes that there was a 29th of February in 1900; before it nobody agrees."""
_FORMATS: dict[type[pl.DataType], str] = {
    pl.Date: "yyyy-mm-dd",
    pl.Time: "hh:mm:ss.000",
    pl.Datetime: "yyyy-mm-dd hh:mm:ss.000",
}
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


@dataclass(frozen=True, slots=True)
class ExcelFormat:
    """A workbook of one sheet; more rows than that holds go to further sheets."""

    suffix: str = ".xlsx"

    def check(self, columns: pl.Schema) -> None:
        _driver()
        refuse(columns, "Excel", _is_unknown)

    def columns(self, columns: pl.Schema) -> Sequence[Checked]:
        return [_Column(name, dtype) for name, dtype in columns.items()]

    def write(self, frame: pl.DataFrame, file: BinaryIO) -> None:
        driver = _driver()
        book = driver.Workbook(file, {"constant_memory": True})
        formats = {kind: book.add_format({"num_format": text}) for kind, text in _FORMATS.items()}
        cells = frame.select(_cells(name, dtype) for name, dtype in frame.schema.items())
        styles = [formats.get(type(dtype)) for dtype in frame.dtypes]
        for start in range(0, max(1, frame.height), SHEET_ROWS):
            sheet = book.add_worksheet(worksheet_class=_sheet_class())
            for place, name in enumerate(frame.columns):
                sheet.write_string(0, place, name)
            writers = [_writer(sheet, dtype) for dtype in frame.dtypes]
            for row, values in enumerate(cells[start : start + SHEET_ROWS].iter_rows(), 1):
                for place, (value, write, style) in enumerate(zip(values, writers, styles, strict=True)):
                    if value is not None:
                        write(row, place, value, style)
        book.close()


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    dtype: pl.DataType

    def checks(self) -> Iterator[tuple[str, str, pl.Expr]]:
        column = pl.col(self.name)
        if self.dtype.is_integer():
            beyond = (column > _WHOLE_LIMIT) | (column < -_WHOLE_LIMIT)
            yield "range", f"{self.name} is a number of more than 53 bits", beyond
        elif isinstance(self.dtype, (pl.Date, pl.Datetime)):
            day = column.dt.date() if isinstance(self.dtype, pl.Datetime) else column
            yield "range", f"{self.name} is a time that Excel does not know", (day < _FIRST) | (day > _LAST)
        elif isinstance(self.dtype, _TEXTS):
            too_long = column.cast(pl.String).str.len_chars() > _CELL_CHARACTERS
            yield "too_large", f"{self.name} is a text too long for a cell", too_long


def _is_unknown(dtype: pl.DataType) -> bool:
    zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
    known = dtype.is_integer() or dtype.is_float() or isinstance(dtype, (pl.Boolean, *_TEXTS, *_FORMATS))
    return zoned or not known


def _cells(name: str, dtype: pl.DataType) -> pl.Expr:
    """The column as Excel's values: texts, booleans, or numbers; times are days since 1899-12-30."""
    column = pl.col(name)
    if dtype.is_float():
        return pl.when(column.is_finite()).then(column)
    if isinstance(dtype, pl.Date):
        return column.cast(pl.Int32) + _EPOCH
    if isinstance(dtype, pl.Datetime):
        return column.dt.epoch("us") / _DAY_US + _EPOCH
    if isinstance(dtype, pl.Time):
        return column.cast(pl.Int64) / (_DAY_US * 1000)
    return column.cast(pl.String) if isinstance(dtype, _TEXTS) else column


def _writer(sheet: Any, dtype: pl.DataType) -> Any:
    if isinstance(dtype, _TEXTS):
        return sheet.write_string
    return sheet.write_boolean if isinstance(dtype, pl.Boolean) else sheet.write_number


def _sheet_class() -> Any:
    """XlsxWriter's sheet with all digits of a number, not 16 of up to 17."""
    from xlsxwriter.worksheet import Worksheet

    class Sheet(Worksheet):  # type: ignore[misc]
        def _xml_number_element(self, number: float, attributes: Any = ()) -> None:
            text = "".join(f' {key}="{self._escape_attributes(value)}"' for key, value in attributes)
            self.fh.write(f"<c{text}><v>{number!r}</v></c>")

    return Sheet


def _driver() -> ModuleType:
    try:
        import xlsxwriter
    except ImportError:
        raise BadConfig(
            "writing Excel needs a library that is not installed", fix="pip install 'streamcore[excel]'"
        ) from None
    module: ModuleType = xlsxwriter
    return module
