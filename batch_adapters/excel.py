"""Excel workbooks (xlsx, xlsm, xlsb, xls, ods) as bounded streams: one sheet, positions are its row numbers.

Read by python-calamine (``streamcore[excel]``), which holds the sheet in memory: a workbook whose
content is above ``max_piece_bytes`` is refused before it is opened. Position 0 is the sheet's row 1.

A column's type follows from all of its cells: booleans, whole numbers (Int64), numbers (Float64),
dates (Date), dates with times (Datetime), times, durations; text, or a mixture, is String ("12" for
12.0, ISO 8601 for dates). Empty cells are null. So are error cells (``#N/A``): calamine does not tell
them from empty ones. Empty rows are skipped; a column with neither name nor cells is left out.
"""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from batch_adapters.column_names import unique_names
from batch_adapters.files import InputFile, digest, reading
from streamcore.batch import FrameChunk, PartitionId
from streamcore.contracts import Split
from streamcore.errors import BadConfig, Permanent, did_you_mean

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

Cell: TypeAlias = int | float | str | bool | dt.time | dt.date | dt.datetime | dt.timedelta
_WHOLE_LIMIT = 2**53
_CELL_BYTES = 60


class ExcelOptions(BaseModel):
    """Options of Excel workbooks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sheet: str | int = Field(1, description="Name of the sheet, or its number counting from 1.")
    header_row: int | None = Field(
        None,
        ge=1,
        description="Row that holds the column names, counting from 1; default: the first non-empty.",
    )
    max_piece_bytes: int = Field(256 << 20, gt=0, description="Largest workbook, in uncompressed bytes.")


@dataclass(frozen=True, slots=True)
class SheetLayout:
    """``places``: columns to read, their names and types in ``schema``; rows ``[begin, end)`` hold data."""

    schema: pl.Schema
    places: tuple[int, ...]
    begin: int
    end: int


def _calamine(file: InputFile) -> AbstractContextManager[None]:
    """Translate errors of calamine and zipfile: whatever they raise, the workbook is at fault."""
    return reading(file, "the workbook is broken, protected or not supported", (Exception,))


def _content(file: InputFile, limit: int) -> io.BytesIO:
    """The workbook's bytes. BadConfig when there is more in it than *limit*; Permanent when it lies."""
    _check_size(file, file.size, limit)
    with _calamine(file), file.open() as handle:
        content = io.BytesIO(handle.read())
    lying = None
    with _calamine(file):
        if zipfile.is_zipfile(content):
            with zipfile.ZipFile(content) as archive:
                _check_size(file, sum(entry.file_size for entry in archive.infolist()), limit)
                # calamine checks no sizes itself; an entry that is longer than it says fails its check sum.
                lying = archive.testzip()
    if lying is not None:
        raise Permanent("the workbook is broken", where=file.name, got=f"bad check sum of {lying}")
    content.seek(0)
    return content


def _check_size(file: InputFile, size: int, limit: int) -> None:
    if size > limit:
        raise BadConfig(
            f"the workbook holds {size} bytes, above max_piece_bytes={limit}",
            where=file.name,
            fix="split it, save it as CSV, or raise max_piece_bytes",
        )


def _open_sheet(file: InputFile, options: ExcelOptions) -> CalamineSheet:
    try:
        from python_calamine import load_workbook
    except ImportError:
        raise BadConfig("Excel needs python-calamine", fix="install streamcore[excel]") from None
    file.check_unchanged()
    content = _content(file, options.max_piece_bytes)
    with _calamine(file), load_workbook(content) as book:
        names, wanted = book.sheet_names, str(options.sheet)
        if wanted in names:
            return book.get_sheet_by_name(wanted)
        if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
            return book.get_sheet_by_index(int(wanted) - 1)
        raise BadConfig(
            "no such sheet", where=file.name, got=wanted, allowed=names, fix=did_you_mean(wanted, names)
        )


@lru_cache(maxsize=64)
def _layout(file: InputFile, options: ExcelOptions) -> SheetLayout:
    sheet = _open_sheet(file, options)
    rows = enumerate(sheet.iter_rows())
    offset = sheet.start[1] if sheet.start else 0
    for number, row in rows:
        if number + 1 == options.header_row or (options.header_row is None and _filled(row)):
            header, begin = row, number + 1
            break
    else:
        if options.header_row is not None:
            raise BadConfig("the sheet has no such row", where=file.name, got=options.header_row)
        return SheetLayout(pl.Schema(), (), 0, 0)
    kinds: list[set[str]] = [set() for _ in header]
    end = begin
    for number, row in rows:
        end = number + 1
        for kind, cell in zip(kinds, row, strict=True):
            kind.add(_kind(cell))
    places = tuple(i for i, name in enumerate(header) if name != "" or kinds[i] - {""})
    names = unique_names([_text(header[i]) or "" for i in places], [i + offset + 1 for i in places])
    schema = pl.Schema({name: _type(kinds[i]) for name, i in zip(names, places, strict=True)})
    return SheetLayout(schema, places, begin, end)


@dataclass(frozen=True, slots=True)
class ExcelFile:
    """One sheet of a workbook as a source."""

    file: InputFile
    options: ExcelOptions

    @property
    def uri(self) -> str:
        return self.file.name

    def fingerprint(self) -> str:
        return digest(self.file, self.options.model_dump_json())

    def columns(self) -> pl.Schema | None:
        """The sheet's columns with the types of their cells; None for an empty sheet."""
        try:
            return _layout(self.file, self.options).schema or None
        except Permanent as error:
            raise BadConfig(error.what, where=error.where, got=error.got, fix=error.fix) from error

    def splits(self, wanted: int) -> Sequence[Split]:
        """One: the sheet."""
        return [ExcelSplit(self.file, self.options)]


@dataclass(frozen=True, slots=True)
class ExcelSplit:
    """All rows of the sheet; positions are row numbers, counting from 0."""

    file: InputFile
    options: ExcelOptions
    bookmark = b""

    @property
    def name(self) -> str:
        return f"{self.file.name}[{self.options.sheet}]"

    @property
    def size(self) -> int:
        """Rows, the header and what is above it included."""
        return _layout(self.file, self.options).end

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> ExcelReader:
        return ExcelReader(self, source, position)


class ExcelReader:
    """Reads a sheet; cell by cell, as calamine hands them out."""

    def __init__(self, split: ExcelSplit, source: PartitionId, position: int) -> None:
        self._file, self._source, self._first = split.file, source, position
        self._layout = _layout(split.file, split.options)
        self._sheet = _open_sheet(split.file, split.options)
        self._next = max(position, self._layout.begin)
        self._rows = islice(self._sheet.iter_rows(), self._next, None)

    def read(self, max_bytes: int) -> FrameChunk | None:
        limit = max(1, max_bytes // (_CELL_BYTES * max(1, len(self._layout.places))))
        offsets: list[int] = []
        rows: list[Sequence[Cell]] = []
        with _calamine(self._file):
            for row in self._rows:
                if _filled(row):
                    offsets.append(self._next)
                    rows.append(row)
                self._next += 1
                if len(rows) == limit:
                    break
        if not rows:
            return None
        frame = pl.DataFrame(
            [
                pl.Series(name, [_value(row[place], kind) for row in rows], kind)
                for place, (name, kind) in zip(self._layout.places, self._layout.schema.items(), strict=True)
            ]
        )
        first, self._first = self._first, self._next
        return FrameChunk(self._source, np.array(offsets, np.int64), frame, first=first, end=self._next)

    def close(self) -> None:
        self._rows = islice((), 0)


# ---------------------------------------------------------------- cells


def _filled(row: Sequence[Cell]) -> bool:
    return any(cell != "" for cell in row)


def _kind(cell: Cell) -> str:
    """What a cell holds, in a word; "" for an empty one."""
    if isinstance(cell, str):
        return "text" if cell else ""
    if isinstance(cell, float):
        return "whole" if cell.is_integer() and abs(cell) <= _WHOLE_LIMIT else "number"
    return type(cell).__name__


def _type(kinds: set[str]) -> pl.DataType:
    """The type of a column whose cells hold *kinds*."""
    found = kinds - {""}
    if not found:
        return pl.String()
    types: tuple[tuple[set[str], pl.DataType], ...] = (
        ({"bool"}, pl.Boolean()),
        ({"whole", "int"}, pl.Int64()),
        ({"whole", "int", "number"}, pl.Float64()),
        ({"date"}, pl.Date()),
        ({"date", "datetime"}, pl.Datetime("us")),
        ({"time"}, pl.Time()),
        ({"timedelta"}, pl.Duration("us")),
    )
    return next((dtype for members, dtype in types if found <= members), pl.String())


def _value(cell: Cell, dtype: pl.DataType) -> Cell | None:
    """*cell* as a value of its column."""
    if cell == "" and isinstance(cell, str):
        return None
    if dtype == pl.String:
        return _text(cell)
    if dtype == pl.Int64 and isinstance(cell, int | float):
        return int(cell)
    if dtype == pl.Datetime and isinstance(cell, dt.date) and not isinstance(cell, dt.datetime):
        return dt.datetime.combine(cell, dt.time())
    return cell


def _text(cell: Cell) -> str | None:
    """A cell of a mixed column."""
    if isinstance(cell, str):
        return cell or None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if _kind(cell) == "whole" else repr(cell)
    return cell.isoformat() if isinstance(cell, dt.date | dt.time) else str(cell)
