"""PostgreSQL's columns as polars columns: which are read as they are, and which as PostgreSQL's text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from batch_adapters.refused_rows import Refused
from streamcore.systems.postgres import identifier
from streamcore.systems.postgres_reading import ReadSession

TEXT = pl.String()
Mask: TypeAlias = "npt.NDArray[np.bool_]"
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

    @property
    def deep_sql(self) -> str | None:
        """The text of an array of several dimensions, of which the driver makes one; None of other types."""
        name = identifier(self.name)
        return f"case when array_ndims({name}) > 1 then {name}::text end" if self.dtype == pl.List else None


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


_DAYS = (-96_465_292, 95_026_236)
_MICROSECONDS = (-8_334_601_228_800_000_000, 8_210_266_876_799_999_999)
"""The times that polars can show, some 262,000 years around 1970; what the driver makes of infinity is not
among them.
"""
_OF_A_DAY = (0, 86_399_999_999)
"""PostgreSQL's ``24:00:00`` is none, of which polars makes a null."""


_INFINITE_MICROSECOND, _INFINITE_DAY = -(2**63) + 946_684_800_000_000 - 1, -(2**31) + 10_957 - 1
"""What the driver makes of infinity; what follows it is minus infinity."""


def frame_of(
    batch: pa.RecordBatch, columns: Sequence[Column], deep: Mapping[str, pa.Array]
) -> tuple[pl.DataFrame, Refused | None]:
    """*batch* in the types of *columns*, and its rows with values that those can't hold.

    *deep*: of lists the text of those of several dimensions, of which the driver makes one.
    """
    arrays = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns]
    raw = pl.DataFrame(pa.table(arrays, names=[column.name for column in columns]))
    decimals = [column for column in columns if isinstance(column.dtype, pl.Decimal)]
    frame = raw.with_columns(pl.col(c.name).cast(c.dtype, strict=False) for c in decimals)
    nothing = pa.nulls(batch.num_rows, pa.string())
    lost: dict[str, Mask] = {}
    for column, array in zip(columns, arrays, strict=True):
        rows = _beyond(array)
        if column.name in deep:
            rows |= deep[column.name].is_valid().to_numpy(zero_copy_only=False)
        elif isinstance(column.dtype, pl.Decimal):
            rows = (raw[column.name].is_not_null() & frame[column.name].is_null()).to_numpy()
        if rows.any():
            lost[column.name] = rows
    if not lost:
        return frame, None
    bad = np.logical_or.reduce([*lost.values()])
    shown = raw.filter(bad).with_columns(
        _shown(array.filter(bad), deep.get(column.name, nothing).filter(bad)).alias(column.name)
        for column, array in zip(columns, arrays, strict=True)
        if column.name in lost
    )
    message = f"infinite, not a number, not a time of a day or of several dimensions: {', '.join(lost)}"
    return frame, Refused(bad, shown, "range", message)


def _beyond(array: pa.Array) -> Mask:
    """Which values polars can't show, or lists with such a value."""
    kind = array.type
    if pa.types.is_list(kind):
        rows = np.zeros(len(array), np.bool_)
        rows[pc.list_parent_indices(array).to_numpy()[_beyond(array.flatten())]] = True
        return rows
    if (limits := _limits(kind)) is None:
        return np.zeros(len(array), np.bool_)
    numbers = array.view(pa.int32() if pa.types.is_date32(kind) else pa.int64())
    outside = pc.or_(pc.less(numbers, limits[0]), pc.greater(numbers, limits[1]))
    return np.asarray(outside.fill_null(False), np.bool_)


def _limits(kind: pa.DataType) -> tuple[int, int] | None:
    if pa.types.is_date32(kind):
        return _DAYS
    if pa.types.is_timestamp(kind):
        return _MICROSECONDS
    return _OF_A_DAY if pa.types.is_time64(kind) else None


def _shown(array: pa.Array, deep: pa.Array) -> pl.Series:
    """Values of refused rows as texts; *deep* has those of several dimensions."""
    if not pa.types.is_list(array.type):
        return pl.Series(_texts(array))
    inside = pa.ListArray.from_arrays(
        array.offsets, _texts(array.values).fill_null("NULL"), mask=array.is_null()
    )
    both = pl.DataFrame({"flat": pl.Series(inside, dtype=pl.List(TEXT)), "deep": pl.Series(deep, dtype=TEXT)})
    return both.select(pl.coalesce("deep", "{" + pl.col("flat").list.join(",") + "}")).to_series()


def _texts(array: pa.Array) -> pa.Array:
    """Of times their numbers: the driver moves both infinities by thirty years, and wraps."""
    if pa.types.is_binary(array.type):
        return ("\\x" + pl.Series(array, dtype=pl.Binary()).bin.encode("hex")).to_arrow()
    if _limits(array.type) is None:
        return pc.cast(array, pa.string())
    days = pa.types.is_date32(array.type)
    first = _INFINITE_DAY if days else _INFINITE_MICROSECOND
    names = {str(first): "infinity", str(first + 1): "-infinity", str(_OF_A_DAY[1] + 1): "24:00:00"}
    numbers = array.view(pa.int32() if days else pa.int64()).cast(pa.string())
    return pl.Series(numbers, dtype=TEXT).replace(names).to_arrow()
