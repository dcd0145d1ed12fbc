"""How a column of the stream meets a column of an SQLite table: does it fit, as what does it travel.

SQLite lets any value into any column, and changes it by the column's affinity. Here only pairs fit whose
values stay what they are: https://sqlite.org/datatype3.html, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from streamcore.batch import DELETES
from streamcore.errors import BadConfig
from streamcore.sinks.merging import in_a_float
from streamcore.sinks.nested_json import as_json, json_can_hold

_LARGEST = 2**63 - 1
_DIGITS = 15
"""That text keeps which becomes a number."""
_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_TIMES = (pl.Date, pl.Time, pl.Datetime)
_FORMATS = {pl.Date: "%Y-%m-%d", pl.Time: "%H:%M:%S%.6f", pl.Datetime: "%Y-%m-%dT%H:%M:%S%.6f"}


def created_type(name: str, dtype: pl.DataType) -> str:
    """The type of the column that ``create=True`` makes; BadConfig when SQLite has none."""
    if isinstance(dtype, (pl.Boolean, pl.Duration)) or _small_integer(dtype):
        return "integer"
    if dtype.is_float():
        return "real"
    if isinstance(dtype, pl.Binary):
        return "blob"
    if isinstance(dtype, (*_TEXTS, *_TIMES, pl.Decimal, pl.Null)):
        return "text"
    if dtype.is_nested() and json_can_hold(dtype):
        return "text"
    raise BadConfig(
        f"SQLite can't hold the column {name!r}", got=str(dtype), fix=f"drop or cast it: .drop({name!r})"
    )


def _small_integer(dtype: pl.DataType) -> bool:
    return dtype.is_integer() and not str(dtype).endswith("128")


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of the table. ``shown``: as what it was declared; ``required``: it may not be null."""

    name: str
    shown: str
    required: bool = False

    @property
    def affinity(self) -> str:
        """By the rules of section 3.1."""
        name = self.shown.upper()
        if "INT" in name:
            return "integer"
        if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
            return "text"
        if "BLOB" in name or not name or name == "ANY":
            return "blob"
        return "real" if any(part in name for part in ("REAL", "FLOA", "DOUB")) else "numeric"


_FITTING: dict[str, Callable[[pl.DataType], bool]] = {
    "integer": lambda t: _small_integer(t) or isinstance(t, (pl.Boolean, pl.Duration)),
    "real": lambda t: t.is_float() or _small_integer(t),
    "text": lambda t: isinstance(t, (*_TEXTS, *_TIMES, pl.Decimal)) or t.is_nested(),
    "numeric": lambda t: (
        _small_integer(t) or t.is_float() or isinstance(t, (pl.Boolean, pl.Decimal, *_TIMES))
    ),
    "blob": lambda t: True,
}


@dataclass(frozen=True, slots=True)
class ColumnPair:
    """A column of the stream, of type ``dtype``, on its way into the column ``table``."""

    table: TableColumn
    dtype: pl.DataType

    def __post_init__(self) -> None:
        if not (isinstance(self.dtype, pl.Null) or _FITTING[self.table.affinity](self.dtype)):
            raise BadConfig(
                f"the stream's column {self.table.name!r} does not fit the table's {self.table.shown}",
                got=str(self.dtype),
                fix=f".cast_type({self.table.name}=…), or change the table",
            )

    @property
    def exact(self) -> bool:
        """See :class:`streamcore.sinks.merging.Pair`."""
        if isinstance(self.dtype, pl.Datetime):
            return self.dtype.time_unit != "ns"
        return self.table.affinity != "real" or in_a_float(self.dtype, 64)

    def checks(self) -> Iterator[tuple[str, str, pl.Expr]]:
        """Code, message and condition of the rows that SQLite would refuse, or change without a word."""
        name, column = self.table.name, pl.col(self.table.name)
        if self.table.required:
            missing = column.is_null() & ~DELETES  # a delete need have only the key
            yield "not_null_violation", f"{name} is null, the table wants a value", missing
        if self.dtype.is_float():
            yield "not_a_number", f"{name} is NaN, of which SQLite makes a null", column.is_nan()
        if isinstance(self.dtype, pl.UInt64):
            yield "numeric_value_out_of_range", f"{name} is above 2^63 - 1", column > _LARGEST
        dtype, number = self.dtype, self.table.affinity == "numeric"
        if isinstance(dtype, pl.Decimal) and number and (dtype.precision or _DIGITS + 1) > _DIGITS:
            most = pl.lit(Decimal(10) ** (_DIGITS - dtype.scale), dtype)
            long = f"{name} has more than the {_DIGITS} digits that {self.table.shown} keeps"
            yield "numeric_value_out_of_range", long, column.abs() >= most

    def value(self) -> pl.Expr:
        """The column as SQLite's module takes it."""
        name, dtype = self.table.name, self.dtype
        column = pl.col(name)
        if isinstance(dtype, pl.Duration):
            return column.dt.total_microseconds()
        if isinstance(dtype, pl.Datetime):
            zone = "+00:00" if dtype.time_zone else ""
            utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else column
            return utc.dt.to_string(_FORMATS[pl.Datetime] + zone)
        if isinstance(dtype, (pl.Date, pl.Time)):
            return column.dt.to_string(_FORMATS[type(dtype)])
        if isinstance(dtype, (pl.Decimal, pl.Categorical, pl.Enum)):
            return column.cast(pl.String)
        return as_json(name, dtype) if dtype.is_nested() else column
