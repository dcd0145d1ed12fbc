"""Casts that prove what they do: a value is cast, or it is marked as unsure, never changed silently."""

from __future__ import annotations

import polars as pl
from polars._typing import PolarsDataType

from streamcore.schema.text import from_text, is_text
from streamcore.schema.types import instance_of, int_bounds


def cast_column(values: pl.Series, dtype: pl.DataType) -> tuple[pl.Series, pl.Series | None]:
    """*values* as *dtype* (null where unsure), and which ones are unsure (None: none).

    Text becomes a number, boolean, time or decimal in its canonical spelling; numbers change their
    width, floats become integers only without a fraction; naive times become UTC times.
    """
    source = values.dtype
    if source == dtype:
        return values, None
    cast = _cast(values, source, dtype)
    unsure = cast.is_null() & values.is_not_null()
    return cast, unsure


def _cast(values: pl.Series, source: pl.DataType, dtype: pl.DataType) -> pl.Series:
    """Null for what can't be cast for certain."""
    if isinstance(source, pl.Null):
        return _to(values, dtype)
    if isinstance(source, pl.Categorical | pl.Enum):
        text = _to(values, pl.String)
        return text if dtype == pl.String else _from_string(text, dtype)
    if isinstance(source, pl.String):
        return _from_string(values, dtype)
    if isinstance(source, pl.Boolean):
        whole = int_bounds(dtype) is not None or dtype.is_float()
        return _to(values, dtype) if whole else _nothing(values, dtype)
    if source.is_numeric():
        return _from_number(values, source, dtype)
    if isinstance(source, pl.Datetime | pl.Date):
        return _from_time(values, source, dtype)
    if widens(source, dtype):
        return _to(values, dtype)
    return _nothing(values, dtype)


def _to(values: pl.Series, dtype: PolarsDataType, *, strict: bool = True) -> pl.Series:
    cast: pl.Series = values.cast(dtype, strict=strict)
    return cast


def _nothing(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(values.name, [], dtype).extend_constant(None, len(values))


def _from_string(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Binary):
        return _to(values, pl.Binary)
    if is_text(dtype):
        return from_text(values, dtype)
    if isinstance(dtype, pl.Boolean):
        lower, v = values.str.to_lowercase().alias("v").to_frame(), pl.col("v")
        return lower.select(pl.when(v.is_in(["true", "false"])).then(v == "true"))["v"]
    if dtype.is_numeric():
        # Only plain digits: the cast would also take "1_000", "nan" or blanks, which others read otherwise.
        shape = r"^-?[0-9]+$" if dtype.is_integer() else r"^-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
        plain = values.alias("v").to_frame()
        shaped = plain.select(pl.when(pl.col("v").str.contains(shape)).then(pl.col("v")))["v"]
        return _to(shaped, dtype, strict=False)
    return _nothing(values, dtype)


def _from_number(values: pl.Series, source: pl.DataType, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Decimal) and not source.is_float():
        return _exact(values, _to(values, dtype, strict=False), source)
    if dtype.is_float():
        return _to(values, dtype)
    if dtype.is_integer():
        cast = _to(values, dtype, strict=False)
        return cast if source.is_integer() else _exact(values, cast, source)
    return _nothing(values, dtype)


def _exact(values: pl.Series, cast: pl.Series, source: pl.DataType) -> pl.Series:
    """*cast* where it still equals *values*."""
    same = (cast.cast(source, strict=False) == values).fill_null(False)
    return cast.to_frame("v").select(pl.when(pl.lit(same)).then(pl.col("v")))["v"]


def _from_time(values: pl.Series, source: pl.DataType, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Date) and isinstance(source, pl.Datetime):
        naive = values.dt.replace_time_zone(None) if source.time_zone else values
        return _exact(naive, naive.cast(pl.Date), pl.Datetime(source.time_unit))
    if not isinstance(dtype, pl.Datetime):
        return _nothing(values, dtype)
    zone = source.time_zone if isinstance(source, pl.Datetime) else None
    if dtype.time_zone is None:
        return _to(values, dtype) if zone is None else _nothing(values, dtype)
    times = _to(values, pl.Datetime(dtype.time_unit, zone))
    return (
        times.dt.convert_time_zone(dtype.time_zone) if zone else times.dt.replace_time_zone(dtype.time_zone)
    )


def widens(source: pl.DataType, dtype: pl.DataType) -> bool:
    """Whether every value of *source* is one of *dtype*, within lists and structs."""
    if source == dtype or isinstance(source, pl.Null):
        return True
    small, large = int_bounds(source), int_bounds(dtype)
    if small and large:
        return large[0] <= small[0] and small[1] <= large[1]
    if isinstance(source, pl.Float32):
        return isinstance(dtype, pl.Float64)
    if isinstance(source, pl.List) and isinstance(dtype, pl.List):
        return widens(instance_of(source.inner), instance_of(dtype.inner))
    if isinstance(source, pl.Struct) and isinstance(dtype, pl.Struct):
        pairs = list(zip(source.fields, dtype.fields, strict=False))
        return len(source.fields) == len(dtype.fields) and all(
            a.name == b.name and widens(instance_of(a.dtype), instance_of(b.dtype)) for a, b in pairs
        )
    return False
