"""From the values of a pydantic instance to the values of columns."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

import polars as pl
from pydantic import BaseModel

from streamcore.schema.types import instance_of, int_bounds

ColumnValue: TypeAlias = Callable[[Any], Any]


def column_value(dtype: pl.DataType) -> ColumnValue:
    """The conversion to *dtype*; it raises OverflowError or ValueError for what has no place there."""
    return _nulls_pass(_conversion(dtype))


def _nulls_pass(convert: ColumnValue) -> ColumnValue:
    return lambda value: None if value is None else convert(value)


def _conversion(dtype: pl.DataType) -> ColumnValue:
    bounds = int_bounds(dtype)
    if bounds is not None:
        return lambda value: _fit_int(_plain(value), *bounds)
    if isinstance(dtype, pl.Datetime):
        return _in_utc if dtype.time_zone is not None else _plain
    if isinstance(dtype, pl.Decimal):
        return lambda value: _fit_decimal(value, dtype.precision or 38, dtype.scale)
    if isinstance(dtype, pl.List):
        inner = column_value(instance_of(dtype.inner))
        return lambda value: [inner(item) for item in value]
    if isinstance(dtype, pl.Struct):
        inners = [(f.name, column_value(instance_of(f.dtype))) for f in dtype.fields]
        return lambda value: _fields(value, inners)
    return _plain


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _fields(value: BaseModel, inners: list[tuple[str, ColumnValue]]) -> dict[str, Any]:
    # In the model's order: the model of a struct without an event has attributes c0, c1, ...
    attributes = type(value).model_fields
    return {name: inner(getattr(value, at)) for (name, inner), at in zip(inners, attributes, strict=True)}


def _fit_int(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise OverflowError
    return value


def _in_utc(value: dt.datetime) -> dt.datetime:
    return (
        value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value.astimezone(dt.timezone.utc)
    )


def _fit_decimal(value: Decimal, precision: int, scale: int) -> Decimal:
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise OverflowError  # not a number, or infinite
    while exponent < -scale and digits and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    if digits and (exponent < -scale or len(digits) + exponent > precision - scale):
        raise OverflowError
    return value
