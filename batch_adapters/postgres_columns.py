"""PostgreSQL's columns as polars columns: which are read as they are, and which as PostgreSQL's text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from batch_adapters.refused_rows import Refused
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
    def says_its_text(self) -> bool:
        """Whether Python's text of a value is PostgreSQL's too: of whole numbers and of texts."""
        return self.dtype.is_integer() or (self.dtype == TEXT and not self.declared.startswith("char"))

    @property
    def sql(self) -> str:
        """What is asked for, under another name where it is text: ORDER BY would take that for the column."""
        name = identifier(self.name)
        return f'{name}::text as "text of it"' if self.as_text else name


def columns_of(session: ReadSession, sql: str, declared: Mapping[str, str]) -> list[Column]:
    """The columns of *sql*; *declared* are the types of those that are a table's."""
    return [_column(field, declared.get(field.name, "")) for field in session.schema(sql)]


def _column(field: pa.Field, declared: str) -> Column:
    kind = field.type
    if isinstance(kind, pa.OpaqueType) and kind.type_name == "numeric":
        # The server makes text of it in a fifth of the time that the driver takes.
        return Column(field.name, _decimal(declared), declared, as_text=True)
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


_INFINITE_MICROSECOND, _INFINITE_DAY = -(2**63) + 946_684_800_000_000 - 1, -(2**31) + 10_957 - 1
"""What the driver makes of infinity; what follows it is minus infinity."""


def frame_of(batch: pa.RecordBatch, columns: Sequence[Column]) -> tuple[pl.DataFrame, Refused | None]:
    """*batch* in the types of *columns*, and its rows with values that those can't hold."""
    arrays = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns]
    raw = pl.DataFrame(pa.table(arrays, names=[column.name for column in columns]))
    decimals = [column for column in columns if isinstance(column.dtype, pl.Decimal)]
    frame = raw.with_columns(pl.col(c.name).cast(c.dtype, strict=False) for c in decimals)
    lost = {c.name: _lost(raw[c.name], frame[c.name]) for c in columns}
    named = [name for name, rows in lost.items() if rows.any()]
    if not named:
        return frame, None
    bad = pl.any_horizontal(lost[name].fill_null(False) for name in named)
    rows = pl.select(bad).to_series().to_numpy()
    shown = raw.filter(rows).with_columns(_as_text(raw[name].filter(rows)) for name in named)
    message = f"infinite, or not a number: {', '.join(named)}"
    return frame, Refused(rows, shown, "range", message)


def _lost(before: pl.Series, after: pl.Series) -> pl.Series:
    """Which values of a column polars can't hold."""
    if isinstance(before.dtype, (pl.Date, pl.Datetime)):
        return ~before.to_physical().is_between(*(_DAYS if before.dtype == pl.Date else _MICROSECONDS))
    return before.is_not_null() & after.is_null()


def _as_text(values: pl.Series) -> pl.Series:
    """Refused rows' times; the driver moves both infinities by thirty years, and wraps."""
    if not isinstance(values.dtype, (pl.Date, pl.Datetime)):
        return values
    days = values.dtype == pl.Date
    first = _INFINITE_DAY if days else _INFINITE_MICROSECOND
    numbers = values.to_physical()
    names = {first: "infinity", first + 1: "-infinity"}
    texts: pl.Series = numbers.cast(pl.String)
    shown: pl.Series = texts.replace({str(number): name for number, name in names.items()})
    return shown
