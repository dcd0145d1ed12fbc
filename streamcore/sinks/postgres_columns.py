"""How a column of the stream meets a column of a PostgreSQL table: does it fit, in which form does it travel.

A pair travels in **binary** where both sides have a fixed binary form, otherwise as **text** that
the server parses (numeric, uuid, arrays, and texts into anything). Other pairs do not fit. What the
server would refuse by value alone is found here, in columns, before it is sent: a null where none
may be, a number or time out of range, a NUL in a text, a text too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from streamcore.batch import DELETES
from streamcore.errors import BadConfig
from streamcore.sinks.merging import in_a_float
from streamcore.sinks.nested_json import json_can_hold

TEXTS = ("text", "varchar", "bpchar", "json", "jsonb", "citext", "xml", "name")
_INTS = {"int2": 16, "int4": 32, "int8": 64}
_SAME = {"bool": pl.Boolean, "date": pl.Date, "timestamp": pl.Datetime, "timestamptz": pl.Datetime,
         "time": pl.Time, "bytea": pl.Binary, "interval": pl.Duration}  # fmt: skip
_FLOAT4_MAX = 3.4028235677973366e38  # halfway between the largest float4 and what would follow it
_DATES = (-2_440_588, 2_145_042_905)  # days since 1970: 4714-11-24 BC to 5874897-12-31
_TIMES = (-210_866_803_200_000_000, 9_223_371_331_199_999_999)  # microseconds since 1970: from 4714 BC on
_UNITS = {"ms": 1_000, "us": 1, "ns": 1 / 1_000}
_CREATED = (
    (pl.Int8, "smallint"), (pl.Int16, "smallint"), (pl.Int32, "integer"), (pl.Int64, "bigint"),
    (pl.UInt8, "smallint"), (pl.UInt16, "integer"), (pl.UInt32, "bigint"), (pl.UInt64, "numeric(20)"),
    (pl.Float32, "real"), (pl.Float64, "double precision"), (pl.Boolean, "boolean"), (pl.String, "text"),
    (pl.Categorical, "text"), (pl.Enum, "text"), (pl.Null, "text"), (pl.Binary, "bytea"), (pl.Date, "date"),
    (pl.Time, "time"), (pl.Duration, "interval"), (pl.List, "jsonb"), (pl.Array, "jsonb"),
    (pl.Struct, "jsonb"),
)  # fmt: skip


def created_type(name: str, dtype: pl.DataType) -> str:
    """The type of the column that ``create=True`` makes; BadConfig when PostgreSQL has none."""
    if isinstance(dtype, pl.Datetime):
        return "timestamptz" if dtype.time_zone else "timestamp"
    if isinstance(dtype, pl.Decimal):
        return f"numeric({dtype.precision or 38},{dtype.scale})"
    found = next((text for kind, text in _CREATED if isinstance(dtype, kind)), None)
    if found is None or (found == "jsonb" and not json_can_hold(dtype)):
        raise BadConfig(
            f"PostgreSQL can't hold the column {name!r}",
            got=str(dtype),
            fix=f"drop or cast it: .drop({name!r})",
        )
    return found


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of the table. ``type`` is pg_type's name (of a domain, its base's); ``shown`` is SQL's text.

    ``length`` is varchar's n; ``required`` means that it may not be null; ``base`` is as ``shown``, of a
    domain what it is made of.
    """

    name: str
    type: str
    shown: str
    is_enum: bool = False
    length: int | None = None
    required: bool = False
    base: str = ""


@dataclass(frozen=True, slots=True)
class ColumnPair:
    """A column of the stream, of type ``dtype``, on its way into the column ``table``."""

    table: TableColumn
    dtype: pl.DataType

    def __post_init__(self) -> None:
        if not (self.binary or self._parsed_by_server):
            raise BadConfig(
                f"the stream's column {self.table.name!r} does not fit the table's {self.table.shown}",
                got=str(self.dtype),
                fix=f".cast_type({self.table.name}=…), or change the table",
            )

    @property
    def is_text(self) -> bool:
        return isinstance(self.dtype, (pl.String, pl.Categorical, pl.Enum))

    @property
    def binary(self) -> bool:
        """Have both sides a binary form?"""
        dtype, target = self.dtype, self.table.type
        if isinstance(dtype, pl.Null):
            return True
        if target in _INTS:
            return dtype.is_integer() and not str(dtype).endswith("128")
        if target in ("float4", "float8"):
            return dtype.is_float() or (dtype.is_integer() and not str(dtype).endswith("128"))
        if target in TEXTS or self.table.is_enum:
            return self.is_text or (dtype.is_nested() and target in ("json", "jsonb"))
        return target in _SAME and isinstance(dtype, _SAME[target])

    @property
    def exact(self) -> bool:
        """See :class:`streamcore.sinks.merging.Pair`."""
        dtype, target = self.dtype, self.table.type
        digits = re.search(r"\((\d+)", self.table.base)
        if target in ("float4", "float8"):
            return in_a_float(dtype, 32 if target == "float4" else 64)
        if isinstance(dtype, pl.Datetime):
            wanted = {"ms": 3, "us": 6, "ns": 9}[dtype.time_unit]
            return wanted <= (6 if digits is None else int(digits[1]))
        return not (target == "numeric" and dtype.is_float() and digits)

    @property
    def _parsed_by_server(self) -> bool:
        return self.is_text or (self.table.type == "numeric" and self.dtype.is_numeric())

    def checks(self) -> Iterator[tuple[str, str, pl.Expr]]:
        """Code, message and condition of the rows that the server would refuse."""
        name, shown, column = self.table.name, self.table.shown, pl.col(self.table.name)
        if self.table.required:
            missing = column.is_null() & ~DELETES  # a delete need have only the key
            yield "not_null_violation", f"{name} is null, the table wants a value", missing
        if self.is_text:
            text = column.cast(pl.String)
            yield "nul_in_text", f"{name} holds a NUL character", text.str.contains("\0", literal=True)
            if (length := self.table.length) is not None:
                long = text.str.strip_chars_end(" ").str.len_chars() > length
                yield "string_data_right_truncation", f"{name} is longer than {shown}", long
        elif (outside := self._outside(column)) is not None:
            yield "numeric_value_out_of_range", f"{name} is out of the range of {shown}", outside

    def _outside(self, column: pl.Expr) -> pl.Expr | None:
        """Which values the target's type can't hold; None when it holds all of the source's."""
        dtype, target = self.dtype, self.table.type
        if target in _INTS and dtype.is_integer():
            limit, signed = 2 ** (_INTS[target] - 1), str(dtype).startswith("Int")
            if int(str(dtype).strip("UInt")) < _INTS[target] + signed:
                return None
            return ~column.is_between(-limit, limit - 1) if signed else column > limit - 1
        if target == "float4" and isinstance(dtype, pl.Float64):
            return column.is_finite() & (column.abs() >= _FLOAT4_MAX)
        if isinstance(dtype, pl.Date):
            return ~column.to_physical().is_between(*_DATES)
        if isinstance(dtype, pl.Datetime):
            low, high = (limit / _UNITS[dtype.time_unit] for limit in _TIMES)
            if dtype.time_unit == "ns":
                return None
            return ~column.to_physical().is_between(int(low) + 1, int(high))
        return None
