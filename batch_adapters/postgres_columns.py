"""PostgreSQL's columns as polars columns: which are read as they are, and which as PostgreSQL's text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from streamcore.systems.postgres import identifier
from streamcore.systems.postgres_reading import ReadSession

TEXT = pl.String()
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_MOST_DIGITS = 38
_MISREAD = ("money", "oid")
"""Types that the driver gives as numbers that mean something else."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, its polars type, and of a table's column the type as it was declared: ``numeric(10,2)``."""

    name: str
    dtype: pl.DataType
    declared: str
    as_text: bool = False

    @property
    def sql(self) -> str:
        """What is asked for."""
        name = identifier(self.name)
        return f"{name}::text as {name}" if self.as_text else name


def columns_of(session: ReadSession, sql: str, declared: Mapping[str, str]) -> list[Column]:
    """The columns of *sql*; *declared* are the types of those that are a table's."""
    return [_column(field, declared.get(field.name, "")) for field in session.schema(sql)]


def _column(field: pa.Field, declared: str) -> Column:
    kind = field.type
    if isinstance(kind, pa.OpaqueType) and kind.type_name == "numeric":
        return Column(field.name, _decimal(declared), declared)
    if declared.startswith(_MISREAD) or isinstance(kind, pa.BaseExtensionType) or _unknown(kind):
        return Column(field.name, TEXT, declared, as_text=True)
    dtype = pl.DataFrame(pa.table({"c": pa.nulls(0, kind)})).schema["c"]
    return Column(field.name, dtype, declared)


def _unknown(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return isinstance(kind.value_type, pa.BaseExtensionType) or _unknown(kind.value_type)
    return bool(pa.types.is_interval(kind) or pa.types.is_duration(kind) or pa.types.is_nested(kind))


def _decimal(declared: str) -> pl.DataType:
    found = _NUMERIC.fullmatch(declared)
    if found and int(found[1]) <= _MOST_DIGITS and 0 <= int(found[2]) <= int(found[1]):
        return pl.Decimal(int(found[1]), int(found[2]))
    return TEXT


_MICROSECONDS = (-8_334_601_228_800_000_000, 8_210_266_876_799_999_999)
_DAYS = (-96_465_292, 95_026_236)
"""The times that polars can show, some 262,000 years around 1970; what the driver makes of infinity is not
among them.
"""


def frame_of(batch: pa.RecordBatch, columns: Sequence[Column]) -> pl.DataFrame:
    """*batch* in the types of *columns*."""
    arrays = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns]
    frame = pl.DataFrame(pa.table(arrays, names=[column.name for column in columns]))
    decimals = [column for column in columns if isinstance(column.dtype, pl.Decimal)]
    cast = frame.with_columns(pl.col(c.name).cast(c.dtype, strict=False) for c in decimals)
    for column in columns:
        lost = _lost(frame[column.name], cast[column.name])
        if lost.any():
            raise BadValue(column.name, int(lost.arg_max() or 0))
    return cast


def _lost(before: pl.Series, after: pl.Series) -> pl.Series:
    """Which values of a column polars can't hold."""
    if isinstance(before.dtype, (pl.Date, pl.Datetime)):
        return ~before.to_physical().is_between(*(_DAYS if before.dtype == pl.Date else _MICROSECONDS))
    return before.is_not_null() & after.is_null()


class BadValue(Exception):
    """Row *row* of a frame has a value in *column* that polars can't hold: infinity, or not a number."""

    def __init__(self, column: str, row: int) -> None:
        super().__init__(column, row)
        self.column, self.row = column, row
