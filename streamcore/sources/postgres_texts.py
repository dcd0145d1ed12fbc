"""PostgreSQL's texts of values as polars columns, by the types that ``batch_adapters.postgres_columns``
gives.

Arrays stay PostgreSQL's own text here, as all types that Arrow has not.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from batch_adapters.refused_rows import Refused
from streamcore.sources.pgoutput import PgColumn

_BOOL, _BYTEA, _DATE, _TIME, _TIMESTAMP, _TIMESTAMPTZ, _NUMERIC = 16, 17, 1082, 1083, 1114, 1184, 1700
_PLAIN: dict[int, pl.DataType] = {
    21: pl.Int16(),
    23: pl.Int32(),
    20: pl.Int64(),
    700: pl.Float32(),
    701: pl.Float64(),
}
_MOST_DIGITS = 38
_HEAD = 4
"""Of a type's modifier."""


def dtype_of(column: PgColumn) -> pl.DataType:
    """The polars type of *column*; text where there is none that holds all its values."""
    others = {
        _BOOL: pl.Boolean(),
        _BYTEA: pl.Binary(),
        _DATE: pl.Date(),
        _TIME: pl.Time(),
        _TIMESTAMP: pl.Datetime("us"),
        _TIMESTAMPTZ: pl.Datetime("us", "UTC"),
    }
    if column.type == _NUMERIC and column.modifier >= _HEAD:
        digits, scale = (column.modifier - _HEAD) >> 16, (column.modifier - _HEAD) & 0xFFFF
        if digits <= _MOST_DIGITS and scale <= digits:
            return pl.Decimal(digits, scale)
    return _PLAIN.get(column.type) or others.get(column.type) or pl.String()


def frame_of(texts: pl.DataFrame, columns: Sequence[PgColumn]) -> tuple[pl.DataFrame, Refused | None]:
    """*texts* (in the columns' names and order) in their types, and the rows with what those can't hold."""
    frame = texts.select(_value(pl.col(column.name), column).alias(column.name) for column in columns)
    lost = [c.name for c in columns if texts[c.name].null_count() != frame[c.name].null_count()]
    if not lost:
        return frame, None
    bad = pl.any_horizontal(texts[name].is_not_null() & frame[name].is_null() for name in lost)
    rows = pl.select(bad).to_series()
    message = f"infinite, or beyond the type: {', '.join(lost)}"
    return frame, Refused(rows.to_numpy(), texts.filter(rows), "range", message)


def _value(text: pl.Expr, column: PgColumn) -> pl.Expr:
    dtype = dtype_of(column)
    if column.type == _BOOL:
        return text == "t"
    if column.type == _BYTEA:
        return text.str.slice(2).str.decode("hex", strict=False)
    if column.type == _DATE:
        return text.str.to_date("%Y-%m-%d", strict=False)
    if column.type == _TIME:
        return text.str.to_time("%H:%M:%S%.f", strict=False)
    if column.type == _TIMESTAMP:
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    if column.type == _TIMESTAMPTZ:
        local = text.str.strip_suffix("+00").str.to_datetime(
            "%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False
        )
        return local.dt.replace_time_zone("UTC")
    return text if dtype == pl.String else text.cast(dtype, strict=False)
