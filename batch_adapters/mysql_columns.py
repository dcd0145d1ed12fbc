"""MySQL's columns as polars columns, made of whole pages of the texts that the server sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from batch_adapters.refused_rows import Refused
from streamcore.systems.mysql import Field, Row, identifier

_UNSIGNED, _ENUM, _SET, _BINARY_CHARSET, _MOST_DIGITS = 32, 256, 2048, 63, 38
_INTEGERS: dict[int, tuple[pl.DataType, pl.DataType]] = {
    1: (pl.Int8(), pl.UInt8()),
    2: (pl.Int16(), pl.UInt16()),
    9: (pl.Int32(), pl.UInt32()),
    3: (pl.Int32(), pl.UInt32()),
    8: (pl.Int64(), pl.UInt64()),
    13: (pl.Int16(), pl.Int16()),
}
_FLOAT, _DOUBLE, _TIMESTAMP, _DATE, _TIME, _DATETIME, _BIT, _JSON = 4, 5, 7, 10, 11, 12, 16, 245
_DECIMALS, _TEXTS = (0, 246), (15, 247, 248, 249, 250, 251, 252, 253, 254)
_FORMATS = {pl.Date: "%Y-%m-%d", pl.Time: "%H:%M:%S%.f", pl.Datetime: "%Y-%m-%d %H:%M:%S%.f"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table or query, and its polars type."""

    name: str
    dtype: pl.DataType
    kind: int
    by_number: bool = False
    """An enum or set: its texts are not in the order of its values."""

    @property
    def sql(self) -> str:
        """What is asked for: of a float all of its digits, of bits their number."""
        name = identifier(self.name)
        changed = {_FLOAT: f"{name} + 0e0", _BIT: f"{name} + 0"}.get(self.kind)
        return f"{changed} as {name}" if changed else name

    @property
    def ordered_sql(self) -> str:
        """What a range of a key is compared by."""
        name = identifier(self.name)
        if self.by_number or self.kind == _BIT:
            return f"({name} + 0)"
        return f"({name} + 0e0)" if self.kind == _FLOAT else name

    @property
    def constant_sql(self) -> str:
        """An expression for a value as a constant of SQL, the same in every mode of the server."""
        value = self.ordered_sql
        if self.dtype.is_numeric() or self.by_number:
            return f"cast({value} as char)"
        if self.dtype == pl.Binary():
            return f"concat('x''', hex({value}), '''')"
        if self.dtype == pl.String():
            return f"concat('_utf8mb4 x''', hex(convert({value} using utf8mb4)), '''')"
        return f"concat('''', {value}, '''')"

    @property
    def is_text(self) -> bool:
        """Whether values that differ may count as the same in a key."""
        return self.dtype == pl.String() and not self.by_number


def column_of(field: Field) -> Column:
    """The column that *field* describes."""
    dtype = _type(field)
    return Column(field.name, dtype, field.kind, bool(field.flags & (_ENUM | _SET)))


def _type(field: Field) -> pl.DataType:
    kind, unsigned = field.kind, bool(field.flags & _UNSIGNED)
    if kind in _INTEGERS:
        return _INTEGERS[kind][unsigned]
    if kind in _DECIMALS:
        digits = field.length - (field.scale > 0) - (not unsigned)
        return pl.Decimal(digits, field.scale) if 0 < digits <= _MOST_DIGITS else pl.String()
    if kind == _TIMESTAMP:
        return pl.Datetime("us", "UTC")
    if kind in _TEXTS:
        return pl.Binary() if field.charset == _BINARY_CHARSET else pl.String()
    known = {
        _FLOAT: pl.Float32(),
        _DOUBLE: pl.Float64(),
        _DATE: pl.Date(),
        _TIME: pl.Time(),
        _DATETIME: pl.Datetime("us"),
        _BIT: pl.UInt64(),
        _JSON: pl.String(),
        6: pl.String(),  # null
    }
    return known.get(kind, pl.Binary())


def frame_of(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[pl.DataFrame, Refused | None]:
    """*rows*, whose first values are those of *columns*, and those with values that these can't hold."""
    raw = pl.DataFrame(
        [
            pl.Series(
                column.name,
                [row[place] for row in rows],
                pl.Binary() if column.dtype == pl.Binary() else pl.String(),
            )
            for place, column in enumerate(columns)
        ]
    )
    frame = raw.select(map(_made, columns))
    lost = {
        name: raw[name].is_not_null() & frame[name].is_null()
        for name in raw.columns
        if raw[name].null_count() != frame[name].null_count()
    }
    if not lost:
        return frame, None
    bad = pl.select(pl.any_horizontal(*lost.values())).to_series()
    message = f"no such day, or not a time of a day: {', '.join(lost)}"
    return frame, Refused(bad.to_numpy(), raw.filter(bad), "range", message)


def _made(column: Column) -> pl.Expr:
    """The column of the type of *column*, of its texts."""
    text, dtype = pl.col(column.name), column.dtype
    if isinstance(dtype, pl.Datetime):
        made = text.str.to_datetime(_FORMATS[pl.Datetime], time_unit="us", strict=False)
        return made.dt.replace_time_zone(dtype.time_zone)
    if isinstance(dtype, pl.Date):
        return text.str.to_date(_FORMATS[pl.Date], strict=False)
    if isinstance(dtype, pl.Time):
        return text.str.to_time(_FORMATS[pl.Time], strict=False)
    return text.cast(dtype, strict=False)
