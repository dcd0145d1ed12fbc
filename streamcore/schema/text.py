"""Columns that arrive as text: read only in the one spelling that needs no question.

JSON has no dates, decimals or bytes, CSV has nothing but text. Each reader accepts a value only when
its spelling is canonical and answers null otherwise; a null where there was a text is in doubt and
goes to pydantic, which knows all other spellings.
"""

from __future__ import annotations

import polars as pl

from streamcore.schema.types import instance_of, int_bounds

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,6})?"
_ZONE = r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
_BASE64 = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
COERCED = r"^(?:[\[{]|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$|true$|false$)"
"""What polars' JSON reader makes of a number, boolean, list or object where a string was asked for."""


def is_text(dtype: pl.DataType) -> bool:
    """True for types that JSON spells as a string but that are no strings."""
    return isinstance(dtype, pl.Datetime | pl.Date | pl.Time | pl.Decimal | pl.Binary)


def from_text(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    """*text* (String) as *dtype* (see :func:`is_text`), null where the spelling is not canonical."""
    if isinstance(dtype, pl.Datetime):
        return _datetimes(text, dtype)
    frame = text.alias("t").to_frame()
    t = pl.col("t")
    if isinstance(dtype, pl.Date):
        parsed = _shaped(t, f"^{_DATE}$").str.to_date("%Y-%m-%d", strict=False)
        parsed = pl.when(parsed.dt.year().is_between(1, 9999)).then(parsed)
    elif isinstance(dtype, pl.Time):
        parsed = _shaped(t, f"^{_CLOCK}$").str.to_time("%H:%M:%S%.f", strict=False)
    elif isinstance(dtype, pl.Binary):
        parsed = _shaped(t, _BASE64).str.decode("base64", strict=False)
    else:
        assert isinstance(dtype, pl.Decimal)
        scale, whole = dtype.scale, (dtype.precision or 38) - dtype.scale
        places = rf"(?:\.[0-9]{{1,{scale}}})?" if scale else ""
        parsed = _shaped(t, rf"^-?[0-9]{{1,{max(whole, 1)}}}{places}$").cast(dtype, strict=False)
    return frame.select(parsed.alias(text.name))[text.name]


def _shaped(text: pl.Expr, shape: str) -> pl.Expr:
    return pl.when(text.str.contains(shape)).then(text)


def _datetimes(text: pl.Series, dtype: pl.Datetime) -> pl.Series:
    """A column in UTC reads a value without an offset as UTC; a column without a zone takes no offset."""
    aware = dtype.time_zone is not None
    t = pl.col("t")
    zone = f"{_ZONE}?" if aware else ""
    frame = text.alias("t").to_frame().select(_shaped(t, rf"^{_DATE}[T ]{_CLOCK}{zone}$").alias("t"))
    frame = frame.with_columns(t.str.replace(" ", "T", literal=True))
    bare = t.str.strip_suffix("Z").str.strip_suffix("+00:00") if aware else t
    parsed = bare.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit=dtype.time_unit)
    frame = frame.with_columns(p=parsed.dt.replace_time_zone("UTC") if aware else parsed)
    p = pl.col("p")
    if aware and frame.select((t.is_not_null() & p.is_null()).any()).item():
        offset = t.str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.f%:z", strict=False, time_unit=dtype.time_unit, time_zone="UTC"
        )
        frame = frame.with_columns(p=pl.coalesce(p, offset))
    if aware and dtype.time_zone != "UTC":
        frame = frame.with_columns(p.dt.convert_time_zone(str(dtype.time_zone)))
    inside = p.dt.convert_time_zone("UTC").dt.year() if aware else p.dt.year()
    return frame.select(pl.when(inside.is_between(1, 9999)).then(p).alias(text.name))[text.name]


def coerced(expr: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """True where a string in *expr* may have been a number, boolean, list or object; None without strings."""
    if isinstance(dtype, pl.String):
        return expr.str.contains(COERCED).fill_null(False)
    if isinstance(dtype, pl.List):
        inner = coerced(pl.element(), instance_of(dtype.inner))
        return None if inner is None else expr.list.eval(inner).list.any().fill_null(False)
    if isinstance(dtype, pl.Struct):
        parts = [coerced(expr.struct.field(f.name), instance_of(f.dtype)) for f in dtype.fields]
        doubts = [p for p in parts if p is not None]
        return pl.any_horizontal(doubts) if doubts else None
    return None


def narrow(dtype: pl.DataType) -> bool:
    """True for numbers that polars' JSON reader knows only in 64 bits."""
    return isinstance(dtype, pl.Float32) or (
        int_bounds(dtype) is not None and not isinstance(dtype, pl.Int64 | pl.UInt64)
    )
