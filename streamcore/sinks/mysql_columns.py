"""How a column of the stream meets a column of a MySQL table: does it fit, as which constants does it travel.

Rows travel as constants of SQL, made in columns. Only pairs fit whose values stay what they are. What the
server would refuse by value alone, or would change without a word (a fraction of a second that the column
has no place for, blanks behind a text that is too long), is found here, in columns, before it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from streamcore.batch import DELETES
from streamcore.errors import BadConfig
from streamcore.sinks.merging import in_a_float
from streamcore.sinks.nested_json import as_json, json_can_hold

_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_LENGTH_IN_CHARACTERS = ("char", "varchar")
_LONG_TEXTS = ("tinytext", "text", "mediumtext", "longtext")
_OTHER_TEXTS = ("enum", "set", "json", "uuid", "inet4", "inet6")
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_FLOAT_MAX = 3.4028235677973366e38
"""Halfway between the largest float and what would follow it."""
_FORMATS = {pl.Date: "%Y-%m-%d", pl.Time: "%H:%M:%S%.6f", pl.Datetime: "%Y-%m-%d %H:%M:%S%.6f"}
_YEARS = (1, 9999)
_KEY_LENGTH = 255
"""Of a text that is part of a key: an index may have 3,072 bytes, so three of them fit."""
_CREATED = (
    (pl.Int8, "tinyint"), (pl.Int16, "smallint"), (pl.Int32, "int"), (pl.Int64, "bigint"),
    (pl.UInt8, "tinyint unsigned"), (pl.UInt16, "smallint unsigned"), (pl.UInt32, "int unsigned"),
    (pl.UInt64, "bigint unsigned"), (pl.Float32, "float"), (pl.Float64, "double"), (pl.Boolean, "boolean"),
    (pl.Date, "date"), (pl.Time, "time(6)"), (pl.Datetime, "datetime(6)"), (pl.Duration, "bigint"),
)  # fmt: skip


def created_type(name: str, dtype: pl.DataType, in_key: bool = False) -> str:
    """The type of the column that ``create=True`` makes; BadConfig when MySQL has none."""
    if isinstance(dtype, (*_TEXTS, pl.Null)):
        return f"varchar({_KEY_LENGTH}) collate utf8mb4_bin" if in_key else "longtext collate utf8mb4_bin"
    if isinstance(dtype, pl.Binary):
        return f"varbinary({_KEY_LENGTH})" if in_key else "longblob"
    if isinstance(dtype, pl.Decimal) and dtype.scale <= 30:
        return f"decimal({dtype.precision or 38},{dtype.scale})"
    if dtype.is_nested() and json_can_hold(dtype) and not in_key:
        return "json"
    found = next((text for kind, text in _CREATED if isinstance(dtype, kind)), None)
    if found is None:
        raise BadConfig(
            f"MySQL can't hold the column {name!r}{' in a key' if in_key else ''}",
            got=str(dtype),
            fix=f"drop or cast it: .drop({name!r})",
        )
    return found


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of the table. ``type`` is its DATA_TYPE, ``shown`` its COLUMN_TYPE; ``required``: never null.

    ``length`` is in characters of char and varchar, in bytes of other texts and of bytes; ``scale`` is of a
    decimal, and of times how many digits of a second there are.
    """

    name: str
    type: str
    shown: str
    length: int | None = None
    scale: int = 0
    required: bool = False

    @property
    def is_text(self) -> bool:
        return self.type in (*_LENGTH_IN_CHARACTERS, *_LONG_TEXTS, *_OTHER_TEXTS)


@dataclass(frozen=True, slots=True)
class ColumnPair:
    """A column of the stream, of type ``dtype``, on its way into the column ``table``."""

    table: TableColumn
    dtype: pl.DataType

    def __post_init__(self) -> None:
        if not (isinstance(self.dtype, pl.Null) or self._fits):
            raise BadConfig(
                f"the stream's column {self.table.name!r} does not fit the table's {self.table.shown}",
                got=str(self.dtype),
                fix=f".cast_type({self.table.name}=…), or change the table",
            )

    @property
    def _fits(self) -> bool:
        dtype, target = self.dtype, self.table.type
        integer = dtype.is_integer() and not str(dtype).endswith("128")
        if isinstance(dtype, pl.Boolean):
            return target in _BITS or target == "bit"
        if integer:
            return target in (*_BITS, "bit", "year", "float", "double", "decimal")
        if dtype.is_float():
            return target in ("float", "double")
        if isinstance(dtype, pl.Decimal):
            return target == "decimal" and dtype.scale <= self.table.scale
        if isinstance(dtype, pl.Duration):
            return target == "bigint"
        if isinstance(dtype, _TEXTS):
            return self.table.is_text
        if dtype.is_nested():
            return target in ("json", "longtext", "mediumtext", "text") and json_can_hold(dtype)
        times = {
            pl.Binary: _BYTES,
            pl.Date: ("date",),
            pl.Time: ("time",),
            pl.Datetime: ("datetime", "timestamp"),
        }
        return target in times.get(type(dtype), ())

    @property
    def exact(self) -> bool:
        """See :class:`streamcore.sinks.merging.Pair`. Times finer than the column are refused."""
        dtype, target = self.dtype, self.table.type
        if target in ("float", "double"):
            rounded = dtype.is_float() and "(" in self.table.shown
            return in_a_float(dtype, 32 if target == "float" else 64) and not rounded
        if isinstance(dtype, pl.Datetime):
            return dtype.time_unit != "ns"
        return target != "year"  # of two digits it makes four

    # ------------------------------------------------------------ values

    def constant(self) -> pl.Expr:
        """The column as constants of SQL, for sessions with NO_BACKSLASH_ESCAPES."""
        name, dtype = self.table.name, self.dtype
        column = pl.col(name)
        text = self._text(column)
        if isinstance(dtype, pl.Binary):
            text = "x'" + text + "'"
        elif not (dtype.is_numeric() or isinstance(dtype, (pl.Boolean, pl.Duration))):
            text = "'" + text.str.replace_all("'", "''", literal=True) + "'"
        return text.fill_null("null").alias(name)

    def _text(self, column: pl.Expr) -> pl.Expr:
        dtype = self.dtype
        if isinstance(dtype, pl.Boolean):
            return column.cast(pl.Int8).cast(pl.String)
        if dtype.is_float():  # with an exponent it is a double, without one a decimal
            digits = column.cast(pl.Float64).cast(pl.String)
            return pl.when(digits.str.contains("e", literal=True)).then(digits).otherwise(digits + "e0")
        if isinstance(dtype, pl.Duration):
            return column.dt.total_microseconds().cast(pl.String)
        if isinstance(dtype, pl.Datetime):
            return _in_utc(column, dtype).dt.to_string(_FORMATS[pl.Datetime])
        if isinstance(dtype, (pl.Date, pl.Time)):
            return column.dt.to_string(_FORMATS[type(dtype)])
        if isinstance(dtype, pl.Binary):
            return column.bin.encode("hex")
        return as_json(self.table.name, dtype) if dtype.is_nested() else column.cast(pl.String)

    # ------------------------------------------------------------ checks

    def checks(self) -> Iterator[tuple[str, str, pl.Expr]]:
        """Code, message and condition of the rows that the server would refuse, or change without a word."""
        name, shown, column = self.table.name, self.table.shown, pl.col(self.table.name)
        if self.table.required:
            missing = column.is_null() & ~DELETES  # a delete need have only the key
            yield "bad_null_error", f"{name} is null, the table wants a value", missing
        if (long := self._too_long(column)) is not None:
            yield "data_too_long", f"{name} is longer than {shown}", long
        if (outside := self._outside(column)) is not None:
            yield "warn_data_out_of_range", f"{name} is out of the range of {shown}", outside
        if isinstance(self.dtype, (pl.Time, pl.Datetime)) and self.table.scale < 6:
            part = 10 ** (6 - self.table.scale)
            micros = column.dt.cast_time_unit("us") if isinstance(self.dtype, pl.Datetime) else column
            number = (
                micros.to_physical() if isinstance(self.dtype, pl.Datetime) else column.to_physical() // 1_000
            )
            yield "data_truncated", f"{name} has a smaller part of a second than {shown}", number % part != 0

    def _too_long(self, column: pl.Expr) -> pl.Expr | None:
        length, target = self.table.length, self.table.type
        if isinstance(self.dtype, pl.Binary) and length is not None:
            size = column.bin.size()
            return size != length if target == "binary" else size > length
        if not isinstance(self.dtype, _TEXTS) or length is None:
            return None
        text = column.cast(pl.String)
        if target in _LENGTH_IN_CHARACTERS:
            return text.str.len_chars() > length
        return text.str.len_bytes() > length if target in _LONG_TEXTS else None

    def _outside(self, column: pl.Expr) -> pl.Expr | None:
        """Which values the target can't hold; None when it holds all, or the server says it of each."""
        dtype, target = self.dtype, self.table.type
        if dtype.is_float():
            largest = _FLOAT_MAX if target == "float" else float("inf")
            return column.is_nan() | (column.abs() >= largest)
        if isinstance(dtype, (pl.Date, pl.Datetime)):
            return ~column.dt.year().is_between(*_YEARS)
        if target in _BITS and dtype.is_integer():
            unsigned = "unsigned" in self.table.shown
            low, high = (0, 2 ** _BITS[target] - 1) if unsigned else (-(2 ** (_BITS[target] - 1)), 0)
            high = high or 2 ** (_BITS[target] - 1) - 1
            wide = column.cast(pl.Int128)
            return ~wide.is_between(pl.lit(low, pl.Int128), pl.lit(high, pl.Int128))
        return None


def _in_utc(column: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    micros = column.dt.cast_time_unit("us")
    return micros.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else micros
